import type { Json } from "../protocol/wire.js";
import type { CommMessage } from "./comms.js";

/** What a microphone gave. */
export interface Recording {
  /** Mono, from -1 to 1. */
  readonly samples: Float32Array;
  /** Samples a second. */
  readonly sampleRate: number;
  readonly seconds: number;
  /** The same as a WAV file of 16 bits a sample. */
  wav(): Uint8Array;
}

/** Ten minutes at 48,000 samples a second are 110 MiB. */
const MOST_BYTES = 128 << 20;

/** Puts the parts of recordings together: a front end's server limits the size of a message. */
export class Recorder {
  #parts: Uint8Array[] = [];
  #bytes = 0;

  /** The recording whose last part this is, else undefined. */
  take({ data, buffers }: CommMessage): Recording | undefined {
    const { type, index, count, sampleRate } = (data ?? {}) as Json;
    const [bytes] = buffers;
    if (type !== "recording" || !bytes || typeof sampleRate !== "number" || !(sampleRate > 0))
      return undefined;
    if (index === 0) this.#forget();
    if (index !== this.#parts.length || this.#bytes + bytes.length > MOST_BYTES) {
      this.#forget();
      return undefined;
    }
    this.#parts.push(bytes);
    this.#bytes += bytes.length;
    if (this.#parts.length !== count) return undefined;
    const whole = Uint8Array.from(Buffer.concat(this.#parts));
    this.#forget();
    const samples = new Float32Array(whole.buffer, 0, Math.floor(whole.length / 4));
    return {
      samples,
      sampleRate,
      seconds: samples.length / sampleRate,
      wav: () => toWav(samples, sampleRate),
    };
  }

  #forget(): void {
    this.#parts = [];
    this.#bytes = 0;
  }
}

function toWav(samples: Float32Array, sampleRate: number): Uint8Array {
  const file = Buffer.alloc(44 + 2 * samples.length);
  file.write("RIFF", 0, "latin1");
  file.writeUInt32LE(file.length - 8, 4);
  file.write("WAVEfmt ", 8, "latin1");
  file.writeUInt32LE(16, 16);
  // PCM, mono.
  file.writeUInt16LE(1, 20);
  file.writeUInt16LE(1, 22);
  file.writeUInt32LE(sampleRate, 24);
  file.writeUInt32LE(2 * sampleRate, 28);
  file.writeUInt16LE(2, 32);
  file.writeUInt16LE(16, 34);
  file.write("data", 36, "latin1");
  file.writeUInt32LE(2 * samples.length, 40);
  for (const [i, sample] of samples.entries()) {
    file.writeInt16LE(Math.round(32767 * Math.max(-1, Math.min(1, sample || 0))), 44 + 2 * i);
  }
  return new Uint8Array(file.buffer, file.byteOffset, file.length);
}
