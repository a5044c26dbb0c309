/** Pictures as bytes: numbers are scaled, reduced and made uint8 on the device, so that only bytes come to the host. */
import { full, sum } from "../array/broadcast.js";
import {
  cast,
  clip,
  div,
  greater,
  isfinite,
  isnan,
  less,
  mul,
  or,
  round,
  sub,
  where,
} from "../array/elementwise.js";
import { slice } from "../array/indexing.js";
import { any, max, mean, min } from "../array/reductions.js";
import { reshape, transpose } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { isInteger } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import { asNumbers, fetchAll, type MediaValue } from "./values.js";

/** Which numbers are black and white. */
export interface RangeOptions {
  /**
   * The numbers that become black and white (or none and all of a colour); `"auto"`: the least and the greatest finite one.
   * Default [0, 1] for floats, [0, 255] for integers, false and true for booleans. Numbers beyond are cut to the range,
   * and pixels with a NaN are magenta; how many there were is said.
   */
  range?: readonly [low: number, high: number] | "auto";
}

/** Pictures of one size. */
export interface Frames {
  count: number;
  height: number;
  width: number;
  /** 1 gray, 3 RGB, 4 RGBA. */
  channels: number;
  /** [count, height, width, channels] */
  pixels: Uint8Array;
  /** Pixels that had a NaN, and values that were beyond the range. */
  nan: number;
  clipped: number;
}

const magenta = [255, 0, 255, 255];

/**
 * The pictures [n, h, w, c] of a value. Larger ones than `maxSide`, or all of them together than `maxBytes`, are reduced by a
 * whole factor: each pixel is the mean of a square.
 *
 * @param shape - the value's shape, as [n, h, w, c]
 */
export function readFrames(
  x: Tensor,
  shape: readonly [n: number, h: number, w: number, c: number],
  { range }: RangeOptions,
  limits: { readonly maxSide: number; readonly maxBytes: number },
): Promise<Frames> {
  const [n, h, w, c] = shape;
  const factor = Math.max(
    Math.ceil(Math.max(h, w) / limits.maxSide),
    Math.ceil(Math.sqrt((n * h * w * c) / limits.maxBytes)),
  );
  const [height, width] = [Math.max(1, Math.floor(h / factor)), Math.max(1, Math.floor(w / factor))];
  const size = { count: n, height, width, channels: c };
  let frames = reshape(x, shape);
  if (x.dtype === "uint8" && range === undefined && factor === 1) {
    return fetchAll(frames).then(([pixels]) => ({
      ...size,
      pixels: pixels as Uint8Array,
      nan: 0,
      clipped: 0,
    }));
  }
  const whole = x.dtype === "bool" ? 1 : isInteger(x.dtype) ? 255 : 1;
  frames = cast(frames, "float32");
  if (factor > 1) {
    const [fh, fw] = [Math.min(factor, h), Math.min(factor, w)];
    frames = slice(frames, null, [0, height * fh], [0, width * fw]);
    frames = mean(reshape(frames, [n, height, fh, width, fw, c]), [2, 4]);
  }
  const [low, high] = range === "auto" ? finiteRange(frames) : (range ?? [0, whole]);
  const span = typeof low === "number" ? Number(high) - low : sub(high, low);
  const unit = div(sub(frames, low), typeof span === "number" ? span : where(greater(span, 0), span, 1));
  const isNone = isnan(unit);
  const beyond = or(less(unit, 0), greater(unit, 1));
  const bytes = cast(round(mul(clip(where(isNone, 0, unit), 0, 1), 255)), "uint8");
  const mask = any(isNone, -1);
  return fetchAll(bytes, cast(mask, "uint8"), sum(cast(beyond, "int32"))).then(([pixels, none, clipped]) =>
    marked(
      { ...size, pixels: pixels as Uint8Array, nan: 0, clipped: Number(clipped[0]) },
      none as Uint8Array,
    ),
  );
}

/** Of the finite numbers; [0, 1] where there are none. */
function finiteRange(x: Tensor): [Tensor, Tensor] {
  const known = isfinite(x);
  const low = min(where(known, x, Number.POSITIVE_INFINITY));
  const high = max(where(known, x, Number.NEGATIVE_INFINITY));
  const some = isfinite(low);
  return [where(some, low, full([], 0)), where(some, high, full([], 1))];
}

/** Draws the pixels with a NaN; gray pictures become coloured where there are any. */
function marked(frames: Frames, none: Uint8Array): Frames {
  let nan = 0;
  for (const one of none) nan += one;
  if (nan === 0) return frames;
  const from = frames.channels;
  const channels = from === 1 ? 3 : from;
  const pixels = channels === from ? frames.pixels : new Uint8Array(none.length * channels);
  for (let i = 0; i < none.length; i++) {
    for (let c = 0; c < channels; c++) {
      if (none[i]) pixels[i * channels + c] = magenta[c]!;
      else if (channels !== from) pixels[i * channels + c] = frames.pixels[i]!;
    }
  }
  return { ...frames, channels, pixels, nan };
}

export type Layout = "hwc" | "chw";

/** The value as pictures [n, h, w, c], whatever the layout. @throws ArgumentError for another shape. */
export function pictures(
  what: string,
  value: MediaValue,
  layout: Layout = "hwc",
): { x: Tensor; shape: [number, number, number, number] } {
  let x = asNumbers(what, value);
  const rank = x.ndim;
  if (layout === "chw" && rank >= 3) {
    x = transpose(x, rank === 3 ? [1, 2, 0] : [0, 2, 3, 1]);
  }
  const [h, w, c = 1] = rank === 4 ? x.shape.slice(1) : x.shape;
  if (rank < 2 || rank > 4 || ![1, 3, 4].includes(c)) {
    throw new ArgumentError(
      `${what} of shape [${x.shape.join(", ")}]${layout === "chw" ? " (its channels moved to the end)" : ""}`,
      'give [h, w], [h, w, c] or a batch [n, h, w, c] with 1, 3 or 4 channels; channels that come first need { layout: "chw" }',
    );
  }
  if (x.size === 0)
    throw new ArgumentError(`${what} of shape [${x.shape.join(", ")}]: it is empty`, "give at least a pixel");
  return { x, shape: [rank === 4 ? x.shape[0]! : 1, h!, w!, c] };
}
