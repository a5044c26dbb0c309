import type { ISessionContext } from "@jupyterlab/apputils";
import { type Kernel, KernelMessage } from "@jupyterlab/services";
import { UUID } from "@lumino/coreutils";
import type { IDisposable } from "@lumino/disposable";
import { type ISignal, Signal } from "@lumino/signaling";
import { decodeRows } from "./decode.js";
import { METRICS, PROTOCOL_VERSION, type RowsChannel } from "./protocol.js";
import type { ColumnBatch } from "./run.js";
import { RunStore } from "./runStore.js";
import type { RunSource, SourceState } from "./source.js";

/** What the feed needs of a session: the kernel of the moment and its signals. */
export type KernelHost = Pick<
  ISessionContext,
  "session" | "kernelChanged" | "statusChanged" | "connectionStatusChanged" | "iopubMessage"
>;

interface Envelope {
  readonly channel: "shell";
  readonly session: string;
  readonly username: string;
}

const FIRST_RETRY_MS = 3_000;
const LAST_RETRY_MS = 30_000;

/**
 * The runs of the kernel of a session, or its hosts, live.
 *
 * The feed opens a comm of its own with plain shell messages and reads what comes back from `iopubMessage`, by comm id.
 * It never registers with the kernel connection: the first connection of a page owns the comms (`handleComms`), and
 * that must stay the notebook's. Nothing is lost for good: whatever breaks (a gap, a connection, a page), the answer is
 * to ask the kernel for a snapshot.
 */
export class KernelFeed implements RunSource, IDisposable {
  constructor(
    host: KernelHost,
    private readonly channel: RowsChannel = METRICS,
  ) {
    this.#host = host;
    host.kernelChanged.connect(this.#onKernelChanged, this);
    host.statusChanged.connect(this.#onStatusChanged, this);
    host.connectionStatusChanged.connect(this.#onConnectionChanged, this);
    host.iopubMessage.connect(this.#onMessage, this);
    this.#connect();
  }

  readonly store = new RunStore();

  get state(): SourceState {
    return this.#state;
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  get stateChanged(): ISignal<RunSource, void> {
    return this.#stateChanged;
  }

  readonly interrupt = async (): Promise<void> => {
    await this.#kernel?.interrupt();
  };

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  dispose(): void {
    if (this.#isDisposed) {
      return;
    }
    this.#isDisposed = true;
    this.close();
    Signal.clearData(this);
  }

  /** Tells the kernel that nobody listens any more. */
  close(): void {
    if (this.#commId) {
      const content = { comm_id: this.#commId, data: {} };
      this.#post((envelope) =>
        KernelMessage.createMessage<KernelMessage.ICommCloseMsg<"shell">>({
          ...envelope,
          msgType: "comm_close",
          content,
        }),
      );
    }
    this.#forget();
  }

  #onKernelChanged(): void {
    this.#forget();
    if (this.#kernel) {
      this.store.clear();
    }
    this.#connect();
  }

  #onStatusChanged(_: unknown, status: Kernel.Status): void {
    if (status === "restarting" || status === "autorestarting") {
      this.#forget();
      this.store.clear();
      this.#setState("connecting");
    } else if (status === "dead" || status === "terminating") {
      this.#forget();
      this.#setState("lost");
    } else if (!this.#commId && this.#state !== "unsupported" && this.#state !== "failed") {
      this.#connect();
    }
  }

  #onConnectionChanged(_: unknown, status: Kernel.ConnectionStatus): void {
    if (status !== "connected") {
      if (this.#state === "live") {
        this.#setState("lost");
      }
    } else if (this.#commId) {
      this.#requestSnapshot();
    } else {
      this.#connect();
    }
  }

  /** Opens the comm as soon as there is a kernel to open it to. */
  #connect(): void {
    const kernel = this.#kernel;
    if (!kernel) {
      this.#setState("idle");
      return;
    }
    if (kernel.status === "dead") {
      this.#setState("lost");
      return;
    }
    this.#setState("connecting");
    if (kernel.connectionStatus !== "connected") {
      return;
    }
    kernel.info.then(
      (info) => {
        const isStill = kernel === this.#kernel && kernel.connectionStatus === "connected";
        if (!isStill || this.#commId || this.#isDisposed) {
          return;
        }
        if (info.language_info.name === "typescript") {
          this.#open();
        } else {
          this.#setState("unsupported");
        }
      },
      () => undefined, // the kernel went away meanwhile, and the session's signals tell
    );
  }

  #open(): void {
    this.close();
    this.#commId = UUID.uuid4();
    const content = {
      comm_id: this.#commId,
      target_name: this.channel.target,
      data: { version: PROTOCOL_VERSION },
    };
    this.#post((envelope) =>
      KernelMessage.createMessage<KernelMessage.ICommOpenMsg<"shell">>({
        ...envelope,
        msgType: "comm_open",
        content,
      }),
    );
    this.#awaitSnapshot();
  }

  #requestSnapshot(): void {
    if (this.#commId) {
      const content = { comm_id: this.#commId, data: { type: "snapshot" } };
      this.#post((envelope) =>
        KernelMessage.createMessage<KernelMessage.ICommMsgMsg<"shell">>({
          ...envelope,
          msgType: "comm_msg",
          content,
        }),
      );
      this.#awaitSnapshot();
    }
  }

  /** No answer may mean that the kernel behind the comm is another one now: then a new comm is opened. */
  #awaitSnapshot(): void {
    this.#lastSeq = null;
    if (this.#state !== "live") {
      this.#setState("connecting");
    }
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#open(), this.#retryDelay);
    this.#retryDelay = Math.min(this.#retryDelay * 2, LAST_RETRY_MS);
  }

  #onMessage(_: unknown, message: KernelMessage.IMessage): void {
    if (
      (KernelMessage.isCommMsgMsg(message) || KernelMessage.isCommCloseMsg(message)) &&
      message.content.comm_id === this.#commId
    ) {
      // Handled in order but later: whoever handles kernel messages must not wait for Arrow to load.
      this.#queue.push(message);
      void this.#drain();
    }
  }

  async #drain(): Promise<void> {
    if (this.#draining) {
      return;
    }
    this.#draining = true;
    try {
      for (let message = this.#queue.shift(); message; message = this.#queue.shift()) {
        await this.#handle(message);
      }
    } catch (error) {
      this.#problem = error instanceof Error ? error.message : String(error);
      this.#forget();
      this.#setState("failed");
    } finally {
      this.#draining = false;
    }
  }

  async #handle(kernelMessage: KernelMessage.ICommMsgMsg | KernelMessage.ICommCloseMsg): Promise<void> {
    if (KernelMessage.isCommCloseMsg(kernelMessage)) {
      this.#forget();
      this.#setState("unsupported");
      return;
    }
    const message = this.channel.parse(kernelMessage.content.data);
    if (message.type === "batch" && !this.#follows(message.seq)) {
      return;
    }
    const batches = new Map<number, ColumnBatch>();
    for (const { buffer } of message.runs) {
      const bytes = buffer === null ? undefined : kernelMessage.buffers?.[buffer];
      if (buffer !== null && bytes) {
        batches.set(buffer, await decodeRows(bytes));
      }
    }
    if (kernelMessage.content.comm_id !== this.#commId) {
      return; // restarted or closed while Arrow was loading
    }
    this.#lastSeq = message.seq;
    if (message.type === "snapshot") {
      clearTimeout(this.#retry);
      this.#retryDelay = FIRST_RETRY_MS;
      this.#setState("live");
    }
    if (!this.store.apply(message, batches)) {
      this.#requestSnapshot();
    }
  }

  /** Whether a batch is the next one. On a gap a snapshot is asked for, until it comes batches are of no use. */
  #follows(seq: number): boolean {
    if (this.#lastSeq === null) {
      return false;
    }
    if (seq === this.#lastSeq + 1) {
      return true;
    }
    if (seq > this.#lastSeq) {
      this.#requestSnapshot();
    }
    return false;
  }

  #post(build: (envelope: Envelope) => KernelMessage.IShellMessage): void {
    const kernel = this.#kernel;
    if (kernel && !kernel.isDisposed && kernel.status !== "dead") {
      kernel.sendShellMessage(
        build({ channel: "shell", session: kernel.clientId, username: kernel.username }),
      );
    }
  }

  #forget(): void {
    this.#commId = null;
    this.#lastSeq = null;
    this.#queue.length = 0;
    clearTimeout(this.#retry);
  }

  #setState(state: SourceState): void {
    if (state !== this.#state) {
      this.#state = state;
      this.#stateChanged.emit();
    }
  }

  get #kernel(): Kernel.IKernelConnection | null {
    return this.#host.session?.kernel ?? null;
  }

  readonly #host: KernelHost;
  readonly #stateChanged = new Signal<RunSource, void>(this);
  readonly #queue: (KernelMessage.ICommMsgMsg | KernelMessage.ICommCloseMsg)[] = [];
  #state: SourceState = "idle";
  #problem: string | undefined;
  #commId: string | null = null;
  #lastSeq: number | null = null;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #retryDelay = FIRST_RETRY_MS;
  #draining = false;
  #isDisposed = false;
}
