/** The socket to the runtime: frames out in order, coalesced per tick; replies matched to requests; events to subscribers. */
import net from "node:net";
import { errorFromWire, RuntimeError, RuntimeLost } from "./errors.js";
import { encodeFrame, type Frame, FrameReader } from "./protocol.js";

export interface Reply {
  result: unknown;
  payload: Uint8Array<ArrayBuffer> | undefined;
}

/** Where a process listens. */
export type Address = { path: string } | { host: string; port: number };

/** One process, or several that take every frame together. */
export interface Link {
  readonly lost: RuntimeLost | undefined;
  /** By handle of a buffer, the run (the handle of its first output) that was to take it by donation and did not, as it failed. */
  readonly kept: Map<number, number>;
  send(header: object, payload?: Uint8Array): void;
  /** The reply of the first process, once all have replied. */
  request(header: object, payload?: Uint8Array): Promise<Reply>;
  /** The replies of all, in the order of their ranks. */
  requestAll(header: object, payload?: Uint8Array): Promise<Reply[]>;
  listen(subscription: number, listener: (data: unknown) => void): () => void;
  /** Resolves when at most so many bytes of what was queued are still to be written. */
  drain(bytes: number): Promise<void>;
  /** When the request that waits longest was made, by `performance.now()`; undefined where none waits. */
  waitingSince(): number | undefined;
  fail(error: RuntimeLost): void;
  close(): void;
}

interface Pending {
  readonly since: number;
  resolve: (reply: Reply) => void;
  reject: (error: Error) => void;
}

/** Chunks up to this size are joined before they are written: one system call for many small frames. */
const joinBelow = 16 * 1024;
/** Queued small frames of this many bytes are written at once, without waiting for the end of the tick. */
const flushAbove = 64 * 1024;
const readBufferLength = 1024 * 1024;

/** Nobody listens, or (EAGAIN) so many wait to be let in that there is no room for another. */
const notNow = new Set(["ENOENT", "ECONNREFUSED", "EAGAIN"]);

/** The socket is that of a process which is gone, or going. */
export class NobodyThere extends Error {
  override readonly name = "NobodyThere";
}

/**
 * One client's end of the wire. Frames may be queued before the socket is there; they are sent once `open` has said hello.
 * The socket keeps a Node process alive only while a reply or an event is awaited.
 */
export class Connection implements Link {
  #socket: net.Socket | undefined;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #flushScheduled = false;
  /** Called when the socket next has taken what a flush gave it. */
  #draining: (() => void)[] = [];
  #open = false;
  #nextRequest = 1;
  readonly kept = new Map<number, number>();
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Map<number, (data: unknown) => void>();
  readonly #diagnose: () => Promise<RuntimeLost>;
  readonly #ended: (error: RuntimeLost) => void;
  /** Told that the runtime is short of memory. */
  readonly #reclaim: () => void;
  #lost: RuntimeLost | undefined;
  #closing = false;
  #failure: Error | undefined;

  /**
   * @param diagnose - finds out why the process at the other end is gone
   * @param told - `ended` before what waits fails, `reclaim` where the runtime asks for buffers that are not needed
   */
  constructor(
    diagnose: () => Promise<RuntimeLost>,
    told: { ended?: (error: RuntimeLost) => void; reclaim?: () => void } = {},
  ) {
    this.#diagnose = diagnose;
    this.#ended = told.ended ?? (() => {});
    this.#reclaim = told.reclaim ?? (() => {});
  }

  /** Set once the connection has ended. */
  get lost(): RuntimeLost | undefined {
    return this.#lost;
  }

  /**
   * Connects, says hello, then sends what was queued. Resolves to the answer to the hello.
   * @throws NobodyThere if no process listens: the call may be repeated; RuntimeError if one listens and does not answer in time.
   */
  async open(address: Address, hello: object, seconds: number): Promise<unknown> {
    const socket = await connectSocket(
      address,
      () => this.#reader.target() ?? this.#readBuffer,
      (count, into) => this.#read(count, into),
    );
    this.#socket = socket;
    socket.on("error", (error) => {
      this.#failure ??= error;
    });
    socket.on("close", () => this.#closed());
    const answered = new Promise<Reply>((resolve, reject) =>
      this.#pending.set(0, { since: performance.now(), resolve, reject }),
    );
    socket.write(encodeFrame({ op: "hello", id: 0, ...hello }));
    const late = setTimeout(() => {
      this.#failure ??= new RuntimeError(`the runtime does not answer, though it listens, for ${seconds} s`, {
        fix: "It is stopped or hangs: `npx aronnax runtime logs`, then `npx aronnax runtime restart`.",
      });
      socket.destroy();
    }, seconds * 1000);
    const { result } = await answered.finally(() => clearTimeout(late));
    this.#open = true;
    this.#flush();
    this.#idle();
    if (this.#closing) socket.end();
    return result;
  }

  /** Queues a frame that has no reply. */
  send(header: object, payload?: Uint8Array): void {
    if (this.#lost !== undefined) return;
    this.#enqueue(encodeFrame(header, payload?.byteLength ?? 0), payload);
  }

  /** Queues a request; the promise rejects with the runtime's error, or RuntimeLost. */
  request(header: object, payload?: Uint8Array): Promise<Reply> {
    if (this.#lost !== undefined) return Promise.reject(this.#lost);
    const id = this.#nextRequest++;
    return new Promise<Reply>((resolve, reject) => {
      const frame = encodeFrame({ ...header, id }, payload?.byteLength ?? 0);
      if (this.#pending.size === 0) this.#socket?.ref();
      this.#pending.set(id, { since: performance.now(), resolve, reject });
      this.#enqueue(frame, payload);
    });
  }

  async requestAll(header: object, payload?: Uint8Array): Promise<Reply[]> {
    return [await this.request(header, payload)];
  }

  /** Calls `listener` with each event of the subscription until the result is called. */
  listen(subscription: number, listener: (data: unknown) => void): () => void {
    this.#listeners.set(subscription, listener);
    this.#socket?.ref();
    return () => {
      this.#listeners.delete(subscription);
      this.#idle();
    };
  }

  async drain(bytes: number): Promise<void> {
    while (this.#lost === undefined && this.#queuedBytes + (this.#socket?.writableLength ?? 0) > bytes) {
      this.#flush();
      await new Promise<void>((resolve) => this.#draining.push(resolve));
    }
    if (this.#lost !== undefined) throw this.#lost;
  }

  waitingSince(): number | undefined {
    // The first that came is the first in the map.
    for (const { since } of this.#pending.values()) return since;
    return undefined;
  }

  /** Fails everything that waits. */
  fail(error: RuntimeLost): void {
    if (this.#lost !== undefined) return;
    this.#lost = error;
    this.#ended(error);
    this.#written();
    this.#queue = [];
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    this.#listeners.clear();
    this.#socket?.destroy();
    for (const { reject } of waiting) reject(error);
  }

  /** Ends the connection from this side once everything queued is written. */
  close(): void {
    this.#closing = true;
    this.#flush();
    this.#socket?.end();
  }

  #written(): void {
    for (const resolve of this.#draining.splice(0)) resolve();
  }

  #enqueue(frame: Buffer, payload: Uint8Array | undefined): void {
    this.#queue.push(frame);
    this.#queuedBytes += frame.length;
    if (payload !== undefined && payload.byteLength > 0) {
      this.#queue.push(payload);
      this.#queuedBytes += payload.byteLength;
    }
    if (!this.#open) return;
    if (this.#queuedBytes > flushAbove) this.#flush();
    else if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      queueMicrotask(() => this.#flush());
    }
  }

  #flush(): void {
    this.#flushScheduled = false;
    const socket = this.#socket;
    if (!this.#open || socket === undefined || this.#queue.length === 0) return;
    const chunks = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    const joined: Uint8Array[] = [];
    let small: Uint8Array[] = [];
    for (const chunk of chunks) {
      if (chunk.byteLength <= joinBelow) {
        small.push(chunk);
        continue;
      }
      if (small.length > 0) joined.push(join(small));
      small = [];
      joined.push(chunk);
    }
    if (small.length > 0) joined.push(join(small));
    socket.cork();
    for (const [i, chunk] of joined.entries()) {
      if (i < joined.length - 1) socket.write(chunk);
      else socket.write(chunk, () => this.#written());
    }
    socket.uncork();
  }

  readonly #readBuffer = Buffer.allocUnsafeSlow(readBufferLength);
  #reader = new FrameReader((frame) => this.#receive(frame));

  #read(count: number, into: Uint8Array<ArrayBufferLike>): boolean {
    try {
      if (into.buffer === this.#readBuffer.buffer) this.#reader.push(this.#readBuffer.subarray(0, count));
      else this.#reader.advance(count);
      return true;
    } catch (error) {
      this.#failure = error instanceof Error ? error : new Error(String(error));
      this.#socket?.destroy();
      return false;
    }
  }

  #receive({ header, payload }: Frame): void {
    if (header.id === undefined) {
      if (header.error !== undefined) this.#failure = errorFromWire(header.error);
      if (header.event === "reclaim") this.#reclaim();
      if (header.subscription !== undefined) this.#listeners.get(header.subscription)?.(header.data);
      return;
    }
    const pending = this.#pending.get(header.id);
    if (pending === undefined) return;
    this.#pending.delete(header.id);
    this.#idle();
    for (const [run, input] of header.error?.kept ?? []) this.kept.set(input, run);
    if (header.error !== undefined) pending.reject(errorFromWire(header.error));
    else pending.resolve({ result: header.result, payload });
  }

  #idle(): void {
    if (this.#pending.size === 0 && this.#listeners.size === 0 && this.#open) this.#socket?.unref();
  }

  #closed(): void {
    if (this.#lost !== undefined) return;
    if (!this.#open) {
      // Nothing was sent yet: a process on its way out, or one that refused us.
      const hello = this.#pending.get(0);
      this.#pending.delete(0);
      this.#reader = new FrameReader((frame) => this.#receive(frame));
      hello?.reject(this.#failure instanceof RuntimeError ? this.#failure : new NobodyThere());
      this.#failure = undefined;
      return;
    }
    if (this.#closing) {
      this.fail(new RuntimeLost("this client closed its connection to the runtime", { exit: "closed" }));
      return;
    }
    if (this.#failure instanceof RuntimeError) {
      this.fail(new RuntimeLost(this.#failure.message, { exit: "protocol error", cause: this.#failure }));
      return;
    }
    this.#diagnose().then(
      (error) => this.fail(error),
      (cause: unknown) => this.fail(new RuntimeLost("the runtime process is gone", { cause })),
    );
  }
}

function join(chunks: Uint8Array[]): Uint8Array {
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}

/** Connects to a socket that reads into whatever `target` gives for each read, calls `read`, and pauses if that gives false. */
function connectSocket(
  address: Address,
  target: () => Uint8Array,
  read: (count: number, into: Uint8Array) => boolean,
): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({
      ...address,
      noDelay: true,
      onread: {
        buffer: target,
        callback: read,
      },
    });
    const refused = (error: NodeJS.ErrnoException) =>
      reject(notNow.has(error.code ?? "") ? new NobodyThere() : error);
    socket.once("error", refused);
    socket.once("connect", () => {
      socket.off("error", refused);
      resolve(socket);
    });
  });
}
