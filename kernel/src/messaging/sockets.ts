import { Reply, Router, type Socket, XPublisher } from "zeromq";
import { log } from "../log.js";
import { type ConnectionInfo, endpoint } from "../protocol/connection.js";
import { type Header, type Json, type Message, WireError, WireFormat } from "../protocol/wire.js";

export type Channel = "shell" | "control" | "stdin";

interface Sendable extends Socket {
  send(frames: (Uint8Array | string)[]): Promise<void>;
}

/** The five sockets of a kernel. Sending is queued and keeps its order; receiving is one loop a socket. */
export class Sockets {
  readonly wire: WireFormat;
  readonly #shell = new Router({ linger: 500 });
  readonly #control = new Router({ linger: 500 });
  readonly #stdin = new Router({ linger: 500 });
  // No limit on what waits for a slow front end: dropping part of the output would be worse.
  readonly #iopub = new XPublisher({ linger: 500, sendHighWaterMark: 0 });
  readonly #heartbeat: Reply;
  readonly #queues = new Map<Socket, Promise<void>>();
  #closed = false;

  constructor(private readonly info: ConnectionInfo) {
    this.wire = new WireFormat(info.key, info.signature_scheme);
    this.#iopub.verbosity = "allSubs";
    this.#heartbeat = new Reply({ linger: 0 });
  }

  /** Binds and starts to receive; `handle` is called for each message that is well formed and rightly signed. */
  async open(handle: (channel: Channel, message: Message) => void): Promise<void> {
    // All of them, for a socket that is still binding cannot be closed.
    const bound = await Promise.allSettled([
      this.#shell.bind(endpoint(this.info, "shell_port")),
      this.#control.bind(endpoint(this.info, "control_port")),
      this.#stdin.bind(endpoint(this.info, "stdin_port")),
      this.#iopub.bind(endpoint(this.info, "iopub_port")),
      this.#heartbeat.bind(endpoint(this.info, "hb_port")),
    ]);
    for (const result of bound) if (result.status === "rejected") throw result.reason;
    void this.#receive("shell", this.#shell, handle);
    void this.#receive("control", this.#control, handle);
    void this.#receive("stdin", this.#stdin, handle);
    void this.#welcome();
    void this.#beat();
  }

  /** As in the connection file. */
  get ports(): Record<string, number> {
    const { shell_port, control_port, iopub_port, stdin_port, hb_port } = this.info;
    return { shell_port, control_port, iopub_port, stdin_port, hb_port };
  }

  /** Answers on the channel and to the peer that the request came from. */
  reply(channel: Channel, request: Message, type: string, content: Json, metadata: Json = {}): void {
    const socket = { shell: this.#shell, control: this.#control, stdin: this.#stdin }[channel];
    this.#send(socket, request.identities, type, request.header, content, metadata, []);
  }

  publish(
    type: string,
    parent: Partial<Header>,
    content: Json,
    metadata: Json = {},
    buffers: Uint8Array[] = [],
  ): Promise<void> {
    return this.#send(
      this.#iopub,
      [Buffer.from(`kernel.${this.wire.session}.${type}`)],
      type,
      parent,
      content,
      metadata,
      buffers,
    );
  }

  /** Waits for what is queued, then closes. Sockets must be closed before the process exits. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.allSettled(this.#queues.values());
    for (const socket of [this.#shell, this.#control, this.#stdin, this.#iopub, this.#heartbeat])
      socket.close();
  }

  #send(
    socket: Sendable,
    identities: Uint8Array[],
    type: string,
    parent: Partial<Header>,
    content: Json,
    metadata: Json,
    buffers: Uint8Array[],
  ): Promise<void> {
    let frames: (Uint8Array | string)[];
    try {
      const header = this.wire.header(type);
      frames = this.wire.encode({ identities, header, parent, metadata, content, buffers });
    } catch (error) {
      log(`a ${type} was not sent: ${error instanceof Error ? error.message : error}`);
      return Promise.resolve();
    }
    const sent = (this.#queues.get(socket) ?? Promise.resolve())
      .then(() => socket.send(frames))
      .catch(() => {});
    this.#queues.set(socket, sent);
    return sent;
  }

  async #receive(
    channel: Channel,
    socket: Router,
    handle: (channel: Channel, message: Message) => void,
  ): Promise<void> {
    try {
      for await (const frames of socket) {
        try {
          handle(channel, this.wire.decode(frames));
        } catch (error) {
          if (!(error instanceof WireError)) throw error;
          log(`a message on ${channel} was dropped: ${error.message}`);
        }
      }
    } catch (error) {
      if (!this.#closed) throw error;
    }
  }

  /** Greets each new subscriber, who then knows that no output can be lost any more (protocol 5.4). */
  async #welcome(): Promise<void> {
    try {
      for await (const [frame] of this.#iopub) {
        if (frame?.[0] !== 1) continue;
        const subscription = frame.subarray(1);
        void this.#send(
          this.#iopub,
          [subscription],
          "iopub_welcome",
          {},
          { subscription: subscription.toString() },
          {},
          [],
        );
      }
    } catch (error) {
      if (!this.#closed) throw error;
    }
  }

  async #beat(): Promise<void> {
    try {
      for await (const frames of this.#heartbeat) await this.#heartbeat.send(frames);
    } catch (error) {
      if (!this.#closed) throw error;
    }
  }
}
