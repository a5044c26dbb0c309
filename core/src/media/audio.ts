import { sum } from "../array/broadcast.js";
import { abs, cast, clip, div, greater, isnan, mul, round, where } from "../array/elementwise.js";
import { max } from "../array/reductions.js";
import { ArgumentError } from "../graph/errors.js";
import { asNumbers, fetchAll, type MediaValue } from "./values.js";

export interface AudioOptions {
  /** Samples a second. */
  sampleRate: number;
  /** Make the loudest sample full scale; default no. */
  normalize?: boolean;
  caption?: string;
}

export interface Sound {
  /** A WAV file: 16-bit PCM. */
  wav: Uint8Array;
  samples: number;
  channels: number;
  sampleRate: number;
  nan: number;
  clipped: number;
}

const maxSamples = 1 << 26;
const maxChannels = 8;

/**
 * Sound as a WAV file of 16 bits a sample, made so on the device.
 *
 * @param value - [samples] or [samples, channels], up to 8 channels; floats from -1 to 1 (beyond they are cut, NaN is
 * silence, and how many there were is said), or int16
 */
export function readAudio(
  value: MediaValue,
  { sampleRate, normalize = false }: AudioOptions,
): Promise<Sound> {
  if (!(Number.isInteger(sampleRate) && sampleRate > 0 && sampleRate < 2 ** 31)) {
    throw new ArgumentError(`audio: sampleRate is ${sampleRate}`, "give the samples a second, e.g. 16000");
  }
  let x = asNumbers("audio", value);
  const [samples = 0, channels = 1] = x.shape;
  if (x.ndim < 1 || x.ndim > 2 || channels < 1 || channels > maxChannels) {
    throw new ArgumentError(
      `audio of shape [${x.shape.join(", ")}]`,
      "give [samples] or [samples, channels] with up to 8 channels; transpose where the channels come first",
    );
  }
  if (x.size > maxSamples) {
    throw new ArgumentError(`audio of ${x.size} samples`, `give up to ${maxSamples}: cut it, or resample it`);
  }
  const shape = { samples, channels, sampleRate };
  if (x.size === 0)
    return Promise.resolve({ ...shape, wav: wavFile(new Int16Array(), shape), nan: 0, clipped: 0 });
  if (x.dtype === "int16" && !normalize) {
    return fetchAll(x).then(([data]) => ({
      ...shape,
      wav: wavFile(data as Int16Array, shape),
      nan: 0,
      clipped: 0,
    }));
  }
  x = x.dtype === "int16" ? div(cast(x, "float32"), 32767) : cast(x, "float32");
  const none = isnan(x);
  let whole = where(none, 0, x);
  if (normalize) {
    const peak = max(abs(whole));
    whole = div(whole, where(greater(peak, 0), peak, 1));
  }
  const beyond = greater(abs(whole), 1);
  const pcm = cast(round(mul(clip(whole, -1, 1), 32767)), "int16");
  return fetchAll(pcm, sum(cast(none, "int32")), sum(cast(beyond, "int32"))).then(([data, nan, clipped]) => ({
    ...shape,
    wav: wavFile(data as Int16Array, shape),
    nan: Number(nan[0]),
    clipped: Number(clipped[0]),
  }));
}

/** A RIFF WAVE file: a head of 44 bytes, and the samples (Microsoft, Multimedia Programming Interface 1.0, 1991). */
function wavFile(
  pcm: Int16Array,
  { channels, sampleRate }: { channels: number; sampleRate: number },
): Uint8Array {
  const file = Buffer.alloc(44 + pcm.byteLength);
  const frame = 2 * channels;
  file.write("RIFF", 0, "latin1");
  file.writeUInt32LE(file.length - 8, 4);
  file.write("WAVEfmt ", 8, "latin1");
  file.writeUInt32LE(16, 16);
  // 1: PCM.
  file.writeUInt16LE(1, 20);
  file.writeUInt16LE(channels, 22);
  file.writeUInt32LE(sampleRate, 24);
  file.writeUInt32LE(sampleRate * frame, 28);
  file.writeUInt16LE(frame, 32);
  file.writeUInt16LE(16, 34);
  file.write("data", 36, "latin1");
  file.writeUInt32LE(pcm.byteLength, 40);
  file.set(new Uint8Array(pcm.buffer, pcm.byteOffset, pcm.byteLength), 44);
  return new Uint8Array(file.buffer, file.byteOffset, file.length);
}
