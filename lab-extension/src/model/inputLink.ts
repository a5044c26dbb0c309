import { type Kernel, KernelMessage } from "@jupyterlab/services";
import { type JSONObject, type JSONValue, UUID } from "@lumino/coreutils";
import type { IDisposable } from "@lumino/disposable";
import { type ISignal, Signal } from "@lumino/signaling";
import type { KernelHost } from "./kernelFeed.js";

const TARGET = "aronnax.input";

/** The link of one shown input to its kernel: a comm of its own, by plain messages as `KernelFeed` has it. */
export class InputLink implements IDisposable {
  /**
   * @param host - the session of the notebook; null where there is none.
   * @param id - of the input.
   */
  constructor(
    private readonly host: KernelHost | null,
    private readonly id: string,
  ) {
    host?.kernelChanged.connect(this.#restart, this);
    host?.connectionStatusChanged.connect(this.#open, this);
    host?.statusChanged.connect(this.#onStatus, this);
    host?.iopubMessage.connect(this.#onMessage, this);
    this.#open();
  }

  /** Whether the kernel knows the input, and takes values. */
  get isLive(): boolean {
    return this.#isLive;
  }

  get liveChanged(): ISignal<this, boolean> {
    return this.#liveChanged;
  }

  /** The value that the kernel gave the input. */
  get valueChanged(): ISignal<this, JSONValue> {
    return this.#valueChanged;
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  send(data: JSONObject, buffers: ArrayBuffer[] = []): void {
    const comm_id = this.#comm;
    if (comm_id === null) {
      return;
    }
    this.#post((kernel) =>
      KernelMessage.createMessage<KernelMessage.ICommMsgMsg<"shell">>({
        channel: "shell",
        msgType: "comm_msg",
        session: kernel.clientId,
        username: kernel.username,
        content: { comm_id, data },
        buffers,
      }),
    );
  }

  dispose(): void {
    if (this.#isDisposed) {
      return;
    }
    this.#isDisposed = true;
    const comm_id = this.#comm;
    if (comm_id !== null) {
      this.#post((kernel) =>
        KernelMessage.createMessage<KernelMessage.ICommCloseMsg<"shell">>({
          channel: "shell",
          msgType: "comm_close",
          session: kernel.clientId,
          username: kernel.username,
          content: { comm_id, data: {} },
        }),
      );
    }
    Signal.clearData(this);
  }

  #open(): void {
    const kernel = this.#kernel;
    // A kernel that closed the comm knows no such input, and will not learn of it.
    if (kernel?.connectionStatus !== "connected" || this.#comm !== null || this.#isUnknown) {
      return;
    }
    const comm_id = UUID.uuid4();
    this.#comm = comm_id;
    this.#post((connection) =>
      KernelMessage.createMessage<KernelMessage.ICommOpenMsg<"shell">>({
        channel: "shell",
        msgType: "comm_open",
        session: connection.clientId,
        username: connection.username,
        content: { comm_id, target_name: TARGET, data: { version: 1, id: this.id } },
      }),
    );
  }

  #restart(): void {
    this.#comm = null;
    this.#isUnknown = false;
    this.#setLive(false);
    this.#open();
  }

  #onStatus(_: unknown, status: Kernel.Status): void {
    if (status === "restarting" || status === "autorestarting" || status === "dead") {
      this.#comm = null;
      this.#isUnknown = true;
      this.#setLive(false);
    } else {
      this.#open();
    }
  }

  #onMessage(_: unknown, message: KernelMessage.IMessage): void {
    if (KernelMessage.isCommCloseMsg(message) && message.content.comm_id === this.#comm) {
      this.#comm = null;
      this.#isUnknown = true;
      this.#setLive(false);
    } else if (KernelMessage.isCommMsgMsg(message) && message.content.comm_id === this.#comm) {
      const { type, value } = message.content.data as { type?: unknown; value?: JSONValue };
      if (type === "state" && value !== undefined) {
        this.#setLive(true);
        this.#valueChanged.emit(value);
      }
    }
  }

  #setLive(isLive: boolean): void {
    if (isLive !== this.#isLive) {
      this.#isLive = isLive;
      this.#liveChanged.emit(isLive);
    }
  }

  #post(build: (kernel: Kernel.IKernelConnection) => KernelMessage.IShellMessage): void {
    const kernel = this.#kernel;
    if (kernel && !kernel.isDisposed && kernel.status !== "dead") {
      kernel.sendShellMessage(build(kernel));
    }
  }

  get #kernel(): Kernel.IKernelConnection | null {
    return this.host?.session?.kernel ?? null;
  }

  #comm: string | null = null;
  #isUnknown = false;
  #isLive = false;
  #isDisposed = false;
  readonly #liveChanged = new Signal<this, boolean>(this);
  readonly #valueChanged = new Signal<this, JSONValue>(this);
}
