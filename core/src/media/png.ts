/**
 * PNG and animated PNG (PNG specification, third edition, 2025: §5 chunks, §9 filters, §11.3.4 animation). The work in it is
 * compression, which Node's zlib does in its threads while the training goes on; what is left here is the container. There
 * is no maintained encoder of animated PNG, and the libraries for still ones compress in JavaScript, on the training's thread.
 */
import { setImmediate as turn } from "node:timers/promises";
import { promisify } from "node:util";
import { crc32, deflate } from "node:zlib";
import type { Frames } from "./frames.js";

const compress = promisify(deflate);
/** About ten milliseconds of work. */
const turnBytes = 1 << 19;
const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
const colourType: Record<number, number> = { 1: 0, 3: 2, 4: 6 };

/** The first frame alone where there is one, else an animation that goes on for ever. */
export async function encodePng(frames: Frames, fps = 1): Promise<Uint8Array> {
  const { count, height, width, channels, pixels } = frames;
  const bytes = height * width * channels;
  const compressed: Promise<Uint8Array<ArrayBuffer>>[] = [];
  for (let i = 0; i < count; i++) {
    const rows = await filtered(pixels.subarray(i * bytes, (i + 1) * bytes), frames);
    compressed.push(compress(rows));
  }
  const data = await Promise.all(compressed);
  const chunks = [
    signature,
    chunk("IHDR", integers([width, height], Uint8Array.of(8, colourType[channels]!, 0, 0, 0))),
  ];
  if (count > 1) chunks.push(chunk("acTL", integers([count, 0])));
  let sequence = 0;
  for (const [i, frame] of data.entries()) {
    if (count > 1) {
      // Where the frame lies, how long it stays, and that it replaces what was there.
      const delay = Uint8Array.of(...delayOf(fps), 0, 0);
      chunks.push(chunk("fcTL", integers([sequence++, width, height, 0, 0], delay)));
    }
    chunks.push(i === 0 ? chunk("IDAT", frame) : chunk("fdAT", integers([sequence++], frame)));
  }
  const file = Buffer.concat([...chunks, chunk("IEND", new Uint8Array())]);
  return new Uint8Array(file.buffer, file.byteOffset, file.length);
}

/** A fraction of a second as two 16-bit integers, of milliseconds. */
function delayOf(fps: number): number[] {
  const milliseconds = Math.min(65535, Math.max(1, Math.round(1000 / fps)));
  return [milliseconds >> 8, milliseconds & 255, 1000 >> 8, 1000 & 255];
}

/** Each row with the filter (none, from the left, from above) whose bytes are the smallest, as the specification advises. */
async function filtered(
  pixels: Uint8Array,
  { height, width, channels }: Pick<Frames, "height" | "width" | "channels">,
): Promise<Uint8Array> {
  const row = width * channels;
  const out = new Uint8Array(height * (row + 1));
  const [left, above] = [new Uint8Array(row), new Uint8Array(row)];
  const rowsInATurn = Math.ceil(turnBytes / row);
  for (let y = 0; y < height; y++) {
    // The training's turns come between.
    if (y > 0 && y % rowsInATurn === 0) await turn();
    const from = y * row;
    let [plainSize, leftSize, aboveSize] = [0, 0, 0];
    for (let x = 0; x < row; x++) {
      const value = pixels[from + x]!;
      left[x] = x < channels ? value : value - pixels[from + x - channels]!;
      above[x] = y === 0 ? value : value - pixels[from + x - row]!;
      plainSize += size(value);
      leftSize += size(left[x]!);
      aboveSize += size(above[x]!);
    }
    const least = Math.min(plainSize, leftSize, aboveSize);
    const filter = least === plainSize ? 0 : least === leftSize ? 1 : 2;
    out[y * (row + 1)] = filter;
    out.set([pixels.subarray(from, from + row), left, above][filter]!, y * (row + 1) + 1);
  }
  return out;
}

/** Of a byte as a signed number. */
function size(byte: number): number {
  return byte < 128 ? byte : 256 - byte;
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  return Buffer.concat([integers([data.length]), body, integers([crc32(body)])]);
}

/** 32-bit integers, the great end first, and what follows them. */
function integers(values: readonly number[], rest = new Uint8Array()): Uint8Array {
  const bytes = new Uint8Array(4 * values.length + rest.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setUint32(4 * i, value >>> 0);
  bytes.set(rest, 4 * values.length);
  return bytes;
}
