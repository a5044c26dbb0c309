import { type Kernel, KernelMessage } from "@jupyterlab/services";
import { type JSONObject, UUID } from "@lumino/coreutils";
import type { IDisposable } from "@lumino/disposable";
import { type ISignal, Signal } from "@lumino/signaling";
import type { KernelHost } from "./kernelFeed.js";

/** What came on a comm. */
export interface CommMessage {
  readonly data: JSONObject;
  readonly buffers: readonly (ArrayBuffer | ArrayBufferView)[];
}

/** How the kernel answers on `aronnax.cells` (docs/contracts.md §4). */
const CELLS_MESSAGE = "aronnax_cells";

const FIRST_RETRY_MS = 3_000;
const LAST_RETRY_MS = 30_000;

/**
 * A comm to the kernel of a session, whichever that is: it is opened again when the kernel is restarted or exchanged and when the connection comes
 * back. The kernel's end is expected to answer the opening at once. As `KernelFeed`, it registers nothing with the kernel connection.
 */
export class KernelComm implements IDisposable {
  constructor(
    private readonly host: KernelHost,
    private readonly target: string,
    private readonly openData: JSONObject,
  ) {
    host.kernelChanged.connect(this.#reopen, this);
    host.statusChanged.connect(this.#onStatus, this);
    host.connectionStatusChanged.connect(this.#onConnection, this);
    host.iopubMessage.connect(this.#onMessage, this);
    this.#open();
  }

  /** What the kernel sends, the answer to the opening first. */
  get received(): ISignal<this, CommMessage> {
    return this.#received;
  }

  /** There is no kernel any more that could answer, or not yet, or another one: what it has said is void. */
  get ended(): ISignal<this, void> {
    return this.#ended;
  }

  /** Whether the kernel has answered, and is the one that is there now. */
  get isOpen(): boolean {
    return this.#isAnswered;
  }

  /** Whether there is a kernel, and it does not know the target. */
  get isRefused(): boolean {
    return this.#isRefused;
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  send(data: JSONObject): void {
    const comm_id = this.#id;
    if (comm_id !== null) {
      this.#post((kernel) =>
        KernelMessage.createMessage<KernelMessage.ICommMsgMsg<"shell">>({
          ...envelope(kernel),
          msgType: "comm_msg",
          content: { comm_id, data },
        }),
      );
    }
  }

  /** Tells the kernel that nobody listens any more; `dispose` does too. */
  close(): void {
    const comm_id = this.#id;
    if (comm_id !== null) {
      this.#post((kernel) =>
        KernelMessage.createMessage<KernelMessage.ICommCloseMsg<"shell">>({
          ...envelope(kernel),
          msgType: "comm_close",
          content: { comm_id, data: {} },
        }),
      );
    }
    this.#forget();
  }

  dispose(): void {
    if (this.#isDisposed) {
      return;
    }
    this.close();
    this.#isDisposed = true;
    this.host.kernelChanged.disconnect(this.#reopen, this);
    this.host.statusChanged.disconnect(this.#onStatus, this);
    this.host.connectionStatusChanged.disconnect(this.#onConnection, this);
    this.host.iopubMessage.disconnect(this.#onMessage, this);
    Signal.clearData(this);
  }

  #open(): void {
    const kernel = this.host.session?.kernel;
    if (!kernel || this.#id !== null || this.#isRefused || kernel.connectionStatus !== "connected") {
      return;
    }
    const id = UUID.uuid4();
    this.#id = id;
    clearTimeout(this.#retry);
    kernel.info.then(
      (info) => {
        if (this.#id !== id || this.host.session?.kernel !== kernel) {
          return;
        }
        if (info.language_info.name !== "typescript") {
          this.#refuse();
          return;
        }
        this.#post((to) =>
          KernelMessage.createMessage<KernelMessage.ICommOpenMsg<"shell">>({
            ...envelope(to),
            msgType: "comm_open",
            content: { comm_id: id, target_name: this.target, data: this.openData },
          }),
        );
        // A kernel that restarts has not heard it.
        this.#retry = setTimeout(() => {
          if (this.#id === id && !this.#isAnswered) {
            this.#id = null;
            this.#delay = Math.min(2 * this.#delay, LAST_RETRY_MS);
            this.#open();
          }
        }, this.#delay);
      },
      () => this.#forget(),
    );
  }

  #reopen(): void {
    this.#isRefused = false;
    this.#forget();
    this.#open();
  }

  #onStatus(_: unknown, status: Kernel.Status): void {
    if (
      status === "restarting" ||
      status === "autorestarting" ||
      status === "dead" ||
      status === "terminating"
    ) {
      this.#isRefused = false;
      this.#forget();
    } else {
      this.#open();
    }
  }

  #onConnection(_: unknown, status: Kernel.ConnectionStatus): void {
    // Messages may have been lost meanwhile: a new comm begins with everything.
    if (status === "connected") {
      this.#reopen();
    } else {
      this.#forget();
    }
  }

  #onMessage(_: unknown, message: KernelMessage.IMessage): void {
    const { msg_type } = message.header as { msg_type: string };
    if (msg_type === CELLS_MESSAGE) {
      const { page, data } = message.content as unknown as { page: string; data: JSONObject };
      if (page === this.#id) {
        this.#receive(data, message.buffers ?? []);
      }
      return;
    }
    if (!KernelMessage.isCommMsgMsg(message) && !KernelMessage.isCommCloseMsg(message)) {
      return;
    }
    if (message.content.comm_id !== this.#id) {
      return;
    }
    if (KernelMessage.isCommCloseMsg(message)) {
      this.#refuse();
      return;
    }
    this.#receive(message.content.data as JSONObject, message.buffers ?? []);
  }

  #receive(data: JSONObject, buffers: CommMessage["buffers"]): void {
    this.#isAnswered = true;
    this.#delay = FIRST_RETRY_MS;
    this.#received.emit({ data, buffers });
  }

  #refuse(): void {
    this.#isRefused = true;
    this.#forget();
  }

  #forget(): void {
    clearTimeout(this.#retry);
    const wasOpen = this.#id !== null;
    this.#id = null;
    this.#isAnswered = false;
    if (wasOpen) {
      this.#ended.emit();
    }
  }

  #post(build: (kernel: Kernel.IKernelConnection) => KernelMessage.IShellMessage): void {
    const kernel = this.host.session?.kernel;
    if (kernel && !kernel.isDisposed && kernel.status !== "dead") {
      kernel.sendShellMessage(build(kernel));
    }
  }

  readonly #received = new Signal<this, CommMessage>(this);
  readonly #ended = new Signal<this, void>(this);
  #id: string | null = null;
  #isAnswered = false;
  #isRefused = false;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #delay = FIRST_RETRY_MS;
  #isDisposed = false;
}

function envelope(kernel: Kernel.IKernelConnection) {
  return { channel: "shell" as const, session: kernel.clientId, username: kernel.username };
}
