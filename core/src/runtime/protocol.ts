/** Frames of the runtime protocol; runtime/PROTOCOL.md is the description, runtime/aronnax_runtime/wire.py the other end. */
import { constants } from "node:buffer";
import { Packr, Unpackr } from "msgpackr";
import { InvalidArgument, ProtocolError, type WireError } from "./errors.js";

export const protocolVersion = 1;

/** `ARX1`, little-endian: a frame that does not start with it is no frame of ours. */
const magic = 0x31585241;
/** Bytes before the header: magic (4), header length (4), payload length (8). */
const prefixLength = 16;
const maxHeaderLength = 16 * 1024 * 1024;
/** Of a request: what a longer one holds would keep all clients of the runtime waiting. */
const maxRequestLength = 4 * 1024 * 1024;
/** The largest payload: that of the protocol, or of one buffer of this Node (Node 20: 4 GiB). */
export const maxPayloadLength = Math.min(2 ** 40, constants.MAX_LENGTH);
/** A payload with this much still to come is read where it stays; below, the copy costs less than another system call. */
const directReadAbove = 256 * 1024;

/** The reply to the request with the same `id`, or an event of a subscription. */
export interface ReplyHeader {
  id?: number;
  result?: unknown;
  error?: WireError;
  event?: string;
  subscription?: number;
  data?: unknown;
}

export interface Frame {
  header: ReplyHeader;
  payload: Uint8Array<ArrayBuffer> | undefined;
}

// Plain maps, no msgpackr record extension: the other end reads standard MessagePack.
const packr = new Packr({ useRecords: false, variableMapSize: true, encodeUndefinedAsNil: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: "number" });

/** The bytes of a frame up to its payload. @throws InvalidArgument if it is over a limit of the protocol */
export function encodeFrame(header: object, payloadLength = 0): Buffer {
  const body = packr.pack(header);
  if (body.length > maxRequestLength) {
    throw new InvalidArgument(`a request of ${body.length} bytes is over the limit of ${maxRequestLength}`, {
      fix: "Name fewer buffers at a time.",
    });
  }
  if (payloadLength > maxPayloadLength) {
    throw new InvalidArgument(
      `a payload of ${payloadLength} bytes is over the limit of ${maxPayloadLength}`,
      {
        fix: "Load the array from a file (`loadSafetensors`).",
      },
    );
  }
  const frame = Buffer.allocUnsafe(prefixLength + body.length);
  frame.writeUInt32LE(magic, 0);
  frame.writeUInt32LE(body.length, 4);
  frame.writeUInt32LE(payloadLength % 2 ** 32, 8);
  frame.writeUInt32LE(Math.floor(payloadLength / 2 ** 32), 12);
  body.copy(frame, prefixLength);
  return frame;
}

/**
 * Cuts a byte stream into frames. Payloads are copied once, from the socket's read buffer to where they stay.
 */
export class FrameReader {
  #prefix = Buffer.alloc(prefixLength);
  #prefixFilled = 0;
  #header: Buffer | undefined;
  #headerFilled = 0;
  #payload: Uint8Array<ArrayBuffer> | undefined;
  #payloadFilled = 0;
  #payloadLength = 0;
  readonly #emit: (frame: Frame) => void;

  constructor(emit: (frame: Frame) => void) {
    this.#emit = emit;
  }

  /** Where the rest of a large payload goes, so that the socket may read into it; undefined if the next bytes are others. */
  target(): Uint8Array<ArrayBuffer> | undefined {
    if (this.#payload === undefined || this.#payloadLength - this.#payloadFilled < directReadAbove)
      return undefined;
    return this.#payload.subarray(this.#payloadFilled);
  }

  /** Notes that `count` bytes were read into `target()`. */
  advance(count: number): void {
    this.#payloadFilled += count;
    if (this.#payloadFilled === this.#payloadLength) this.#finish();
  }

  /** Takes the next bytes of the stream; `chunk` may be reused by the caller afterwards. */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#prefixFilled < prefixLength) {
        const n = Math.min(prefixLength - this.#prefixFilled, chunk.length - at);
        chunk.copy(this.#prefix, this.#prefixFilled, at, at + n);
        this.#prefixFilled += n;
        at += n;
        if (this.#prefixFilled === prefixLength) this.#startFrame();
      } else if (this.#header !== undefined && this.#headerFilled < this.#header.length) {
        const n = Math.min(this.#header.length - this.#headerFilled, chunk.length - at);
        chunk.copy(this.#header, this.#headerFilled, at, at + n);
        this.#headerFilled += n;
        at += n;
        if (this.#headerFilled === this.#header.length) this.#startPayload();
      } else if (this.#payload !== undefined) {
        const n = Math.min(this.#payloadLength - this.#payloadFilled, chunk.length - at);
        this.#payload.set(chunk.subarray(at, at + n), this.#payloadFilled);
        at += n;
        this.advance(n);
      }
    }
  }

  #startFrame(): void {
    if (this.#prefix.readUInt32LE(0) !== magic) {
      throw new ProtocolError("the runtime sent bytes that are no frame of the protocol", {
        fix: "Check that no other program listens on the socket; `npx aronnax runtime restart` starts a fresh runtime.",
      });
    }
    const headerLength = this.#prefix.readUInt32LE(4);
    this.#payloadLength = this.#prefix.readUInt32LE(8) + this.#prefix.readUInt32LE(12) * 2 ** 32;
    if (headerLength === 0 || headerLength > maxHeaderLength || this.#payloadLength > maxPayloadLength) {
      throw new ProtocolError(
        `the runtime sent a frame with a header of ${headerLength} and a payload of ${this.#payloadLength} bytes, which is over the limit`,
      );
    }
    this.#header = Buffer.allocUnsafe(headerLength);
    this.#headerFilled = 0;
  }

  #startPayload(): void {
    this.#payloadFilled = 0;
    if (this.#payloadLength === 0) {
      this.#payload = undefined;
      this.#finish();
    } else {
      this.#payload = new Uint8Array(Buffer.allocUnsafeSlow(this.#payloadLength).buffer);
    }
  }

  #finish(): void {
    const header = unpackr.unpack(this.#header!) as ReplyHeader;
    const payload = this.#payload;
    this.#prefixFilled = 0;
    this.#header = undefined;
    this.#payload = undefined;
    this.#emit({ header, payload });
  }
}
