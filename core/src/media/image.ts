import { slice } from "../array/indexing.js";
import { ArgumentError } from "../graph/errors.js";
import { type Frames, type Layout, pictures, type RangeOptions, readFrames } from "./frames.js";
import type { MediaValue } from "./values.js";

export interface ImageOptions extends RangeOptions {
  /** Where the channels are; default last. */
  layout?: Layout;
  /** Images of a batch to show, the first ones; default 64. */
  count?: number;
  /** Images beside each other in a batch's grid; default as many as below each other. */
  columns?: number;
  /** A whole factor to enlarge by, for small pictures; default 1. */
  scale?: number;
  /** Words to show with it. */
  caption?: string;
}

/** Of one image, and of a whole grid; larger ones are reduced. */
const maxSide = 2048;
const maxBytes = 64 << 20;
const gap = 2;

/**
 * One picture of an image or a batch's grid.
 *
 * @param value - [h, w], [h, w, c] or [n, h, w, c], c 1 (gray), 3 (RGB) or 4 (RGBA)
 */
export function readImage(value: MediaValue, options: ImageOptions = {}): Promise<Frames> {
  const { layout, count = 64, scale = 1 } = options;
  let { x, shape } = pictures("image", value, layout);
  for (const [name, number] of Object.entries({ count, scale, columns: options.columns ?? 1 })) {
    if (!Number.isInteger(number) || number < 1) {
      throw new ArgumentError(`image: ${name} is ${number}`, `give a whole number from 1`);
    }
  }
  if (shape[0] > count) {
    x = slice(x, [0, count]);
    shape = [count, shape[1], shape[2], shape[3]];
  }
  return readFrames(x, shape, options, { maxSide, maxBytes }).then((frames) =>
    enlarged(frames.count === 1 ? frames : grid(frames, options.columns), scale),
  );
}

function grid(frames: Frames, columns = Math.ceil(Math.sqrt(frames.count))): Frames {
  const across = Math.min(columns, frames.count);
  const down = Math.ceil(frames.count / across);
  const width = across * (frames.width + gap) - gap;
  const height = down * (frames.height + gap) - gap;
  const { channels } = frames;
  const pixels = new Uint8Array(height * width * channels);
  const row = frames.width * channels;
  for (let i = 0; i < frames.count; i++) {
    const left = (i % across) * (frames.width + gap);
    const top = Math.floor(i / across) * (frames.height + gap);
    for (let y = 0; y < frames.height; y++) {
      const from = (i * frames.height + y) * row;
      pixels.set(frames.pixels.subarray(from, from + row), ((top + y) * width + left) * channels);
    }
  }
  return { ...frames, count: 1, height, width, pixels };
}

function enlarged(frames: Frames, asked: number): Frames {
  const scale = Math.min(
    asked,
    Math.max(1, Math.floor((2 * maxSide) / Math.max(frames.width, frames.height))),
  );
  if (scale === 1) return frames;
  const [height, width, { channels }] = [frames.height * scale, frames.width * scale, frames];
  const pixels = new Uint8Array(height * width * channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (Math.floor(y / scale) * frames.width + Math.floor(x / scale)) * channels;
      pixels.set(frames.pixels.subarray(from, from + channels), (y * width + x) * channels);
    }
  }
  return { ...frames, height, width, pixels };
}
