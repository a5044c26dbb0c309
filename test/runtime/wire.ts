/** A client that speaks the wire by hand, for frames that no well-behaved client sends. */
import net from "node:net";
import { Packr, Unpackr } from "msgpackr";

const packr = new Packr({ useRecords: false });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true });

/** A frame as PROTOCOL.md describes it; `lie` overrides what its prefix says. */
export function frame(
  header: unknown,
  payload: Uint8Array = new Uint8Array(0),
  lie: { magic?: number; headerLength?: number; payloadLength?: bigint } = {},
): Buffer {
  const body = header instanceof Uint8Array ? header : packr.pack(header);
  const prefix = Buffer.alloc(16);
  prefix.writeUInt32LE(lie.magic ?? 0x31585241, 0);
  prefix.writeUInt32LE(lie.headerLength ?? body.length, 4);
  prefix.writeBigUInt64LE(lie.payloadLength ?? BigInt(payload.length), 8);
  return Buffer.concat([prefix, body, payload]);
}

export interface WireReply {
  id?: number;
  result?: unknown;
  error?: { kind: string; message: string };
}

export class WireClient {
  readonly replies: WireReply[] = [];
  closed = false;
  readonly #socket: net.Socket;
  #bytes = Buffer.alloc(0);
  #wake: () => void = () => {};

  /** A Unix socket, or a port of this machine. */
  constructor(address: string | number) {
    this.#socket = typeof address === "string" ? net.connect(address) : net.connect(address, "127.0.0.1");
    this.#socket.on("data", (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#cut();
      this.#wake();
    });
    this.#socket.on("error", () => {});
    this.#socket.on("close", () => {
      this.closed = true;
      this.#wake();
    });
  }

  /** Sends bytes; resolves when the socket has taken them, or is closed. */
  send(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      if (this.closed) resolve();
      else this.#socket.write(bytes, () => resolve());
    });
  }

  async hello(): Promise<void> {
    await this.send(frame({ op: "hello", id: 0, protocol: 1 }));
    await this.until(() => this.replies.length > 0);
  }

  /** Waits until the condition holds or the other end has closed. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition() && !this.closed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  reply(id: number): WireReply | undefined {
    return this.replies.find((reply) => reply.id === id);
  }

  /** Half-closes: what was sent is the end. */
  end(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #cut(): void {
    while (this.#bytes.length >= 16) {
      const length = this.#bytes.readUInt32LE(4);
      const total = 16 + length + Number(this.#bytes.readBigUInt64LE(8));
      if (this.#bytes.length < total) return;
      this.replies.push(unpackr.unpack(this.#bytes.subarray(16, 16 + length)) as WireReply);
      this.#bytes = this.#bytes.subarray(total);
    }
  }
}
