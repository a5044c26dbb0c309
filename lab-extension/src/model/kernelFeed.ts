import type { ISessionContext } from "@jupyterlab/apputils";
import { type Kernel, KernelMessage } from "@jupyterlab/services";
import { type JSONObject, UUID } from "@lumino/coreutils";
import type { IDisposable } from "@lumino/disposable";
import { type ISignal, Signal } from "@lumino/signaling";
import { decodeRows } from "./decode.js";
import { METRICS, PROTOCOL_VERSION, type RowsChannel } from "./protocol.js";
import type { ColumnBatch, Run } from "./run.js";
import { Unreachable } from "./runFiles/metricsStream.js";
import type { FileRange } from "./runFiles/rangeSource.js";
import { KernelPlace, type RunPlace } from "./runFiles/runPlace.js";
import { type RunState, readRunState } from "./runFiles/runState.js";
import { RunStore } from "./runStore.js";
import type { Remark, RunSource, SourceState } from "./source.js";
import { StoredRun } from "./storedRun.js";

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

/** A request that the kernel was sent. */
interface Pending {
  readonly resolve: (message: KernelMessage.ICommMsgMsg) => void;
  readonly reject: (error: Error) => void;
}

/** A run that a kernel found in a folder, and that folder as it sees it. */
export interface ListedRun {
  readonly state: RunState;
  readonly folder: string;
}

/** The kernel has 64 requests wait at most, of all that this page asks for. */
const MOST_REQUESTS = 4;
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
  /** @param placeOf - where else than from the kernel the files of a run are to be had; null for nowhere. */
  constructor(
    host: KernelHost,
    private readonly channel: RowsChannel = METRICS,
    private readonly placeOf: (run: Run) => Promise<RunPlace | null> = async () => null,
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

  /** The folder of a run that the kernel knows or has listed: the server's where it serves it, else through the kernel. */
  async place(run: Run): Promise<RunPlace> {
    return (await this.placeOf(run)) ?? this.kernelPlace(run.id, run.info.name);
  }

  kernelPlace(id: string, name: string): RunPlace {
    return new KernelPlace(name, (file, offset, length) => this.read(id, file, offset, length));
  }

  /** Bytes of a file in a run's folder, at most 1 MiB of them. */
  async read(run: string, file: string, offset: number, length: number): Promise<FileRange> {
    const { content, buffers } = await this.#ask({ type: "read", run, file, offset, length });
    const { type, size, reason } = content.data as Record<string, unknown>;
    if (type !== "bytes" || typeof size !== "number") {
      throw new Unreachable(`the kernel refuses it: ${String(reason)}`);
    }
    const bytes = buffers?.[0];
    return {
      size,
      bytes:
        bytes === undefined
          ? new Uint8Array()
          : ArrayBuffer.isView(bytes)
            ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength).slice()
            : new Uint8Array(bytes),
    };
  }

  /**
   * The runs in a folder below the kernel's own, whoever wrote them, some hundred at a time.
   *
   * @param from - the `next` of the answer before.
   */
  async list(root: string, from = 0): Promise<{ runs: readonly ListedRun[]; next: number | null }> {
    const { content } = await this.#ask({ type: "runs", root, from });
    const { type, runs, next, reason } = content.data as Record<string, unknown>;
    if (type !== "runs" || !Array.isArray(runs)) {
      throw new Unreachable(`the kernel refuses it: ${String(reason)}`);
    }
    return {
      runs: runs.flatMap((run: unknown) => {
        const state = readRunState(run);
        return state ? [{ state, folder: String((run as { folder?: unknown }).folder ?? "") }] : [];
      }),
      next: typeof next === "number" ? next : null,
    };
  }

  /** Why the rows before the first one of a run are not here. */
  remarkOn(id: string): Remark | undefined {
    return this.#remarks.get(id);
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
      this.store.markStale();
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
    this.#sendRequests();
  }

  #requestSnapshot(): void {
    if (this.#commId) {
      this.#say({ type: "snapshot" });
      this.#awaitSnapshot();
    }
  }

  #say(data: JSONObject): void {
    const content = { comm_id: this.#commId!, data };
    this.#post((envelope) =>
      KernelMessage.createMessage<KernelMessage.ICommMsgMsg<"shell">>({
        ...envelope,
        msgType: "comm_msg",
        content,
      }),
    );
  }

  /** Asks and waits for the answer; what a kernel that went away did not answer is rejected. */
  #ask(data: JSONObject): Promise<KernelMessage.ICommMsgMsg> {
    return new Promise((resolve, reject) => {
      if (this.#isDisposed || !this.#commId) {
        reject(new Unreachable("there is no kernel to ask"));
        return;
      }
      this.#unsent.push({ data: { ...data, request: this.#nextRequest }, resolve, reject });
      this.#nextRequest += 1;
      this.#sendRequests();
    });
  }

  #sendRequests(): void {
    while (this.#commId && this.#pending.size < MOST_REQUESTS && this.#unsent.length > 0) {
      const { data, resolve, reject } = this.#unsent.shift()!;
      this.#pending.set(data.request as number, { resolve, reject });
      this.#say(data);
    }
  }

  /** @returns whether it was the answer to a request. */
  #isAnswer(message: KernelMessage.ICommMsgMsg): boolean {
    const { type, request } = message.content.data as Record<string, unknown>;
    if (type !== "bytes" && type !== "refused" && type !== "runs") {
      return false;
    }
    const pending = this.#pending.get(request as number);
    this.#pending.delete(request as number);
    this.#sendRequests();
    pending?.resolve(message);
    return true;
  }

  /** Reads the rows that a run had before the first one that the kernel still has. */
  async #fillHistory(run: Run): Promise<void> {
    const filled = `${run.id} ${run.firstRow}`;
    if (run.firstRow === 0 || this.#filling.has(filled)) {
      return;
    }
    this.#filling.add(filled);
    const stored = new StoredRun(await this.place(run));
    try {
      stored.changed.connect(() => this.#setProgress(stored.progress));
      await stored.refresh();
      const history = stored.run;
      const isFilled =
        history !== undefined && history.id === run.id && run.fillHistory(history) && run.firstRow === 0;
      this.#remarks.delete(run.id);
      if (!isFilled) {
        const detail = stored.problem ?? stored.damage ?? `${history?.rowCount ?? 0} of ${run.firstRow} rows`;
        this.#remarks.set(run.id, { kind: "incomplete", detail, rows: run.rowCount });
      }
    } finally {
      stored.dispose();
      this.#filling.delete(filled);
      this.#setProgress(undefined);
      if (!this.#isDisposed) {
        this.store.touch();
      }
    }
  }

  /** Of the rows that are read from files, 0 to 1. */
  get progress(): { readonly rows?: number } {
    return this.#progress === undefined ? {} : { rows: this.#progress };
  }

  #setProgress(progress: number | undefined): void {
    if (progress !== this.#progress) {
      this.#progress = progress;
      this.#stateChanged.emit();
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
      if (KernelMessage.isCommMsgMsg(message) && this.#isAnswer(message)) {
        return;
      }
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
    for (const { id } of message.runs) {
      const run = this.store.get(id);
      if (run && run.firstRow > 0 && message.type === "snapshot") {
        void this.#fillHistory(run);
      }
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
    const gone = new Unreachable("the kernel went away");
    for (const { reject } of [...this.#pending.values(), ...this.#unsent]) {
      reject(gone);
    }
    this.#pending.clear();
    this.#unsent.length = 0;
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
  readonly #pending = new Map<number, Pending>();
  readonly #unsent: (Pending & { readonly data: JSONObject })[] = [];
  readonly #filling = new Set<string>();
  readonly #remarks = new Map<string, Remark>();
  #nextRequest = 0;
  #progress: number | undefined;
  #state: SourceState = "idle";
  #problem: string | undefined;
  #commId: string | null = null;
  #lastSeq: number | null = null;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #retryDelay = FIRST_RETRY_MS;
  #draining = false;
  #isDisposed = false;
}
