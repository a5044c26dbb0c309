/**
 * Augmentation on the device, inside a compiled step: pictures [batch, height, width, 3] in, float32 of values from 0 to 1 out. What is drawn
 * follows from each picture's seed alone. Formulas are torchvision's for float pictures (`transforms.v2.functional`).
 */

import { broadcastTo, sum } from "../array/broadcast.js";
import { constantArray, iota } from "../array/creation.js";
import { einsum } from "../array/einsum.js";
import {
  abs,
  add,
  and,
  cast,
  clip,
  cos,
  div,
  equal,
  exp,
  floor,
  greaterEqual,
  less,
  lessEqual,
  log,
  maximum,
  minimum,
  mod,
  mul,
  not,
  or,
  relu,
  round,
  sin,
  sqrt,
  sub,
  where,
} from "../array/elementwise.js";
import { slice, take, takeAlongAxis } from "../array/indexing.js";
import { stack } from "../array/joining.js";
import { foldIn, type Key, key, uniform } from "../array/random.js";
import { argmax, max, mean, min, oneHot } from "../array/reductions.js";
import { expandDims, flip, reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { isFloat } from "../graph/dtype.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { refuseUnknown } from "../graph/spelling.js";
import { vmap } from "../transform/vmap.js";

export interface AugmentOptions {
  /** A part of random area and shape, resized to `size` (Szegedy et al. 2015): shares of the area, default 0.08 to 1, sides' ratio 3/4 to 4/3. */
  crop?: { size: number; scale?: readonly [number, number]; ratio?: readonly [number, number] };
  /** Probability of mirrored columns. */
  flip?: number;
  /** Largest changes, as torchvision's ColorJitter, in this order. */
  jitter?: { brightness?: number; contrast?: number; saturation?: number; hue?: number };
  /**
   * Operations of random kinds at one strength from 0 to 30 (Cubuk et al. 2020): torchvision's, without equalization. Each picture draws its own.
   */
  randAugment?: { operations?: number; magnitude?: number };
  /** Probability that a rectangle is erased to 0 (Zhong et al. 2020), of 2% to 33% of the area. */
  erase?: number;
}

const draws = 64;

/**
 * Random changes of pictures.
 *
 * @param pixels - [batch, height, width, 3]: uint8, or floats from 0 to 1
 * @param seeds - integer [batch]: the field `seed` of `image.batches`
 * @returns float32 [batch, size, size, 3], or of the pictures' own sides without `crop`
 */
export function augment(pixels: Tensor, seeds: Tensor, options: AugmentOptions): Tensor {
  refuseUnknown("image.augment: there is no option", Object.keys(options), [
    "crop",
    "flip",
    "jitter",
    "randAugment",
    "erase",
  ]);
  let x = floats("augment", pixels);
  if (seeds.ndim !== 1 || seeds.shape[0] !== x.shape[0])
    throw new ShapeError(
      `augment: seeds [${seeds.shape.join(", ")}] for pictures [${x.shape.join(", ")}]`,
      "give one for each picture",
    );
  const base = key(0xa096);
  const u = vmap((seed: Tensor) => uniform(foldIn(base, seed), [draws]))(cast(seeds, "uint32"));
  let used = 0;
  /** [batch] of the next number that each picture draws. */
  const next = (): Tensor => slice(u, null, used++);
  const { crop, flip: mirrored, jitter, randAugment, erase } = options;
  if (crop !== undefined) {
    const [, height, width] = x.shape as [number, number, number];
    const tries = slice(u, null, [used, used + 20]);
    used += 20;
    const box = cropBoxes(tries, [next(), next()], height, width, crop);
    x = resizedCrop(x, box, crop.size, crop.size);
  }
  if (mirrored !== undefined) x = where(perPicture(less(next(), mirrored)), flip(x, 2), x);
  if (jitter !== undefined) {
    const { brightness = 0, contrast = 0, saturation = 0, hue = 0 } = jitter;
    const around = (amount: number): Tensor => add(mul(next(), 2 * amount), Math.max(0, 1 - amount));
    if (brightness > 0) x = adjustBrightness(x, around(brightness));
    if (contrast > 0) x = adjustContrast(x, around(contrast));
    if (saturation > 0) x = adjustSaturation(x, around(saturation));
    if (hue > 0) x = adjustHue(x, mul(sub(mul(next(), 2), 1), hue));
  }
  if (randAugment !== undefined) {
    const { operations = 2, magnitude = 9 } = randAugment;
    if (!(magnitude >= 0 && magnitude <= 30) || !(operations >= 1 && operations <= 8))
      throw new ArgumentError(
        `augment: randAugment of ${operations} operations at ${magnitude}`,
        "give 1 to 8 operations, at a strength from 0 to 30",
      );
    for (let i = 0; i < operations; i++) x = randomOperation(x, next(), less(next(), 0.5), magnitude / 30);
  }
  if (erase !== undefined) x = erased(x, [next(), next(), next(), next(), next()], erase);
  return x;
}

/** uint8 [batch, height, width, 3] as floats from 0 to 1; floats as they are. */
function floats(name: string, pixels: Tensor): Tensor {
  if (pixels.ndim !== 4 || pixels.shape[3] !== 3)
    throw new ShapeError(
      `${name}: the pictures have shape [${pixels.shape.join(", ")}]`,
      "give [batch, height, width, 3], channels last",
    );
  return isFloat(pixels.dtype) ? cast(pixels, "float32") : div(cast(pixels, "float32"), 255);
}

/** [batch] beside [batch, height, width, channels]. */
function perPicture(x: Tensor): Tensor {
  return expandDims(x, [1, 2, 3]);
}

/** Parts of pictures, in whole pixels, each [batch]. */
export interface Boxes {
  readonly top: Tensor;
  readonly left: Tensor;
  readonly height: Tensor;
  readonly width: Tensor;
}

function cropBoxes(
  tries: Tensor,
  [y, x]: [Tensor, Tensor],
  rows: number,
  columns: number,
  { scale = [0.08, 1], ratio = [3 / 4, 4 / 3] }: NonNullable<AugmentOptions["crop"]>,
): Boxes {
  const batch = tries.shape[0]!;
  const u = reshape(tries, [batch, 10, 2]);
  const area = mul(add(mul(slice(u, null, null, 0), scale[1] - scale[0]), scale[0]), rows * columns);
  const [low, high] = [Math.log(ratio[0]), Math.log(ratio[1])];
  const shape = exp(add(mul(slice(u, null, null, 1), high - low), low));
  const [w, h] = [round(sqrt(mul(area, shape))), round(sqrt(div(area, shape)))];
  const fits = and(
    and(lessEqual(w, columns), lessEqual(h, rows)),
    and(greaterEqual(w, 1), greaterEqual(h, 1)),
  );
  // The first that fits; without one the largest middle of a ratio that is allowed.
  const first = expandDims(argmax(cast(fits, "int32"), 1), 1);
  const any = greaterEqual(max(cast(fits, "int32"), 1), 1);
  const own = columns / rows;
  const [wide, tall] =
    own < ratio[0]
      ? [columns, Math.round(columns / ratio[0])]
      : own > ratio[1]
        ? [Math.round(rows * ratio[1]), rows]
        : [columns, rows];
  const chosen = (of: Tensor, otherwise: number): Tensor =>
    where(any, reshape(takeAlongAxis(of, first, 1), [batch]), otherwise);
  const [width, height] = [chosen(w, wide), chosen(h, tall)];
  const place = (at: Tensor, side: number, length: Tensor): Tensor =>
    where(any, floor(mul(at, add(sub(side, length), 1))), floor(div(sub(side, length), 2)));
  return { width, height, top: place(y, rows, height), left: place(x, columns, width) };
}

/** [batch, out, size]: bilinear weights with antialias of the pixels from `start`, `length` of them. */
function cropWeights(start: Tensor, length: Tensor, size: number, out: number): Tensor {
  const scale = expandDims(div(length, out), [1, 2]);
  const middle = mul(add(reshape(iota([out], 0, { dtype: "float32" }), [1, out, 1]), 0.5), scale);
  const place = sub(iota([1, 1, size], 2, { dtype: "float32" }), expandDims(start, [1, 2]));
  const inside = and(greaterEqual(place, 0), less(place, expandDims(length, [1, 2])));
  const raw = where(inside, relu(sub(1, div(abs(sub(add(place, 0.5), middle)), maximum(scale, 1)))), 0);
  return div(raw, sum(raw, -1, { keepDims: true }));
}

/** Parts of pictures at one size, bilinear with antialias: torchvision's `resized_crop`. */
export function resizedCrop(
  x: Tensor,
  { top, left, height, width }: Boxes,
  rows: number,
  columns: number,
): Tensor {
  const [, h, w] = x.shape as [number, number, number, number];
  const [down, across] = [cropWeights(top, height, h, rows), cropWeights(left, width, w, columns)];
  return einsum("byh,bxw,bhwc->byxc", down, across, x);
}

function gray(x: Tensor): Tensor {
  const weights = constantArray([0.2989, 0.587, 0.114]);
  return sum(mul(x, weights), -1, { keepDims: true });
}

/** f · x + (1 - f) · other, from 0 to 1. */
function blend(x: Tensor, other: Tensor | number, factor: Tensor): Tensor {
  const f = perPicture(factor);
  return clip(add(mul(x, f), mul(other, sub(1, f))), 0, 1);
}

/** `factor` [batch]; 1 changes nothing. */
export function adjustBrightness(x: Tensor, factor: Tensor): Tensor {
  return blend(x, 0, factor);
}

/** Away from the mean of the gray picture. */
export function adjustContrast(x: Tensor, factor: Tensor): Tensor {
  return blend(x, mean(gray(x), [1, 2, 3], { keepDims: true }), factor);
}

/** Away from the gray picture. */
export function adjustSaturation(x: Tensor, factor: Tensor): Tensor {
  return blend(x, gray(x), factor);
}

/** Turns the colour circle by `turn` [batch], a share of it from -0.5 to 0.5. */
export function adjustHue(x: Tensor, turn: Tensor): Tensor {
  const [r, g, b] = [0, 1, 2].map((c) => slice(x, null, null, null, c)) as [Tensor, Tensor, Tensor];
  const [high, low] = [max(x, -1), min(x, -1)];
  const spread = sub(high, low);
  const flat = equal(spread, 0);
  const saturation = div(spread, where(flat, 1, high));
  const divisor = where(flat, 1, spread);
  const [rc, gc, bc] = [r, g, b].map((c) => div(sub(high, c), divisor)) as [Tensor, Tensor, Tensor];
  const hr = where(equal(high, r), sub(bc, gc), 0);
  const isRed = equal(high, r);
  const isGreen = and(equal(high, g), not(isRed));
  const hg = where(isGreen, add(2, sub(rc, bc)), 0);
  const hb = where(and(not(isRed), not(equal(high, g))), add(4, sub(gc, rc)), 0);
  const hue = mod(add(div(add(add(hr, hg), hb), 6), 1), 1);
  const turned = mod(add(hue, expandDims(turn, [1, 2])), 1);
  const sixth = mul(turned, 6);
  const sector = floor(sixth);
  const f = sub(sixth, sector);
  const p = clip(mul(high, sub(1, saturation)), 0, 1);
  const q = clip(mul(high, sub(1, mul(saturation, f))), 0, 1);
  const t = clip(mul(high, sub(1, mul(saturation, sub(1, f)))), 0, 1);
  const at = mod(sector, 6);
  const choose = (of: readonly Tensor[]): Tensor =>
    of.reduce((chosen, value, i) => (i === 0 ? value : where(equal(at, i), value, chosen)));
  return stack(
    [choose([high, q, p, p, t, high]), choose([t, high, high, q, p, p]), choose([p, p, t, high, high, q])],
    -1,
  );
}

/** Keeps 2^bits levels, `bits` [batch]. */
export function posterize(x: Tensor, bits: Tensor): Tensor {
  const levels = perPicture(exp(mul(bits, Math.LN2)));
  return div(clip(floor(mul(x, levels)), 0, sub(levels, 1)), levels);
}

/** Inverts values of at least `threshold` [batch]. */
export function solarize(x: Tensor, threshold: Tensor): Tensor {
  return where(greaterEqual(x, perPicture(threshold)), sub(1, x), x);
}

/** Stretches each channel to all values; a channel of one value stays. */
export function autoContrast(x: Tensor): Tensor {
  const [low, high] = [min(x, [1, 2], { keepDims: true }), max(x, [1, 2], { keepDims: true })];
  const flat = equal(low, high);
  return clip(div(sub(x, where(flat, 0, low)), where(flat, 1, sub(high, low))), 0, 1);
}

/** Away from a blurred picture, whose edges stay. */
export function adjustSharpness(x: Tensor, factor: Tensor): Tensor {
  const [, h, w] = x.shape as [number, number, number, number];
  if (h <= 2 || w <= 2) return x;
  const part = (dy: number, dx: number): Tensor => slice(x, null, [dy, h - 2 + dy], [dx, w - 2 + dx]);
  const around = [0, 1, 2].flatMap((dy) => [0, 1, 2].map((dx) => part(dy, dx)));
  const inner = div(add(around.reduce(add), mul(part(1, 1), 4)), 13);
  const f = perPicture(factor);
  const changed = clip(add(mul(part(1, 1), f), mul(inner, sub(1, f))), 0, 1);
  const [row, column] = [iota([h, 1], 0), iota([1, w], 1)];
  const edge = or(or(equal(row, 0), equal(row, h - 1)), or(equal(column, 0), equal(column, w - 1)));
  const padded = takePadded(changed, h, w);
  return where(reshape(edge, [1, h, w, 1]), x, padded);
}

/** [batch, h - 2, w - 2, c] in a frame of one pixel. */
function takePadded(x: Tensor, h: number, w: number): Tensor {
  const clamped = (n: number): Tensor =>
    constantArray(
      Array.from({ length: n }, (_, i) => Math.min(n - 3, Math.max(0, i - 1))),
      { dtype: "int32" },
    );
  return take(take(x, clamped(h), 1), clamped(w), 2);
}

/**
 * Pictures through a map of places, nearest, what comes from outside 0: pixel (x, y) from the middle comes from (a x + b y + c, d x + e y + f).
 *
 * @param matrix - [batch, 6]: a to f
 */
export function affine(x: Tensor, matrix: Tensor): Tensor {
  const [batch, h, w, channels] = x.shape as [number, number, number, number];
  const px = reshape(sub(iota([w], 0, { dtype: "float32" }), (w - 1) / 2), [1, 1, w]);
  const py = reshape(sub(iota([h], 0, { dtype: "float32" }), (h - 1) / 2), [1, h, 1]);
  const m = (i: number): Tensor => expandDims(slice(matrix, null, i), [1, 2]);
  const line = (i: number): Tensor => add(add(mul(m(i), px), mul(m(i + 1), py)), m(i + 2));
  const column = round(add(line(0), (w - 1) / 2));
  const row = round(add(line(3), (h - 1) / 2));
  const within = (v: Tensor, n: number): Tensor => and(greaterEqual(v, 0), less(v, n));
  const inside = and(within(column, w), within(row, h));
  const place = where(inside, cast(add(mul(row, w), column), "int32"), 0);
  const flat = reshape(x, [batch, h * w, channels]);
  const index = broadcastTo(reshape(place, [batch, h * w, 1]), [batch, h * w, channels]);
  return where(expandDims(inside, -1), reshape(takeAlongAxis(flat, index, 1), x.shape), 0);
}

/** One of torchvision's operations, at strength `m` from 0 to 1, for each picture its own. */
function randomOperation(x: Tensor, kind: Tensor, negative: Tensor, m: number): Tensor {
  const [, h, w] = x.shape as [number, number, number, number];
  const chosen = floor(mul(kind, 13));
  const is = (i: number): Tensor => equal(chosen, i);
  const sign = where(negative, -1, 1);
  const signed = (amount: number): Tensor => mul(sign, amount);
  const angle = signed((30 * m * Math.PI) / 180);
  const shear = signed(0.3 * m);
  const [zero, one] = [mul(kind, 0), add(mul(kind, 0), 1)];
  const turned = is(5);
  const matrix = stack(
    [
      where(turned, cos(angle), one),
      where(is(1), shear, where(turned, sin(angle), zero)),
      where(is(3), signed((150 / 331) * w * m), zero),
      where(is(2), shear, where(turned, mul(sin(angle), -1), zero)),
      where(turned, cos(angle), one),
      where(is(4), signed((150 / 331) * h * m), zero),
    ],
    1,
  );
  const factor = add(1, signed(0.9 * m));
  const all: readonly (readonly [number, Tensor])[] = [
    [6, adjustBrightness(x, factor)],
    [7, adjustSaturation(x, factor)],
    [8, adjustContrast(x, factor)],
    [9, adjustSharpness(x, factor)],
    [10, posterize(x, mul(one, 8 - Math.round(4 * m)))],
    [11, solarize(x, mul(one, 1 - m))],
    [12, autoContrast(x)],
  ];
  const moved = where(perPicture(and(greaterEqual(chosen, 1), lessEqual(chosen, 5))), affine(x, matrix), x);
  return all.reduce((y, [i, changed]) => where(perPicture(is(i)), changed, y), moved);
}

function erased(x: Tensor, [p, a, r, y, z]: [Tensor, Tensor, Tensor, Tensor, Tensor], rate: number): Tensor {
  const [, h, w] = x.shape as [number, number, number, number];
  const area = mul(add(mul(a, 0.31), 0.02), h * w);
  const ratio = exp(add(mul(r, Math.log(3.3 / 0.3)), Math.log(0.3)));
  const [tall, wide] = [
    minimum(round(sqrt(mul(area, ratio))), h - 1),
    minimum(round(sqrt(div(area, ratio))), w - 1),
  ];
  const [top, left] = [floor(mul(y, add(sub(h, tall), 1))), floor(mul(z, add(sub(w, wide), 1)))];
  const between = (axis: number, from: Tensor, length: Tensor): Tensor => {
    const at = iota([1, h, w], axis, { dtype: "float32" });
    const start = expandDims(from, [1, 2]);
    return and(greaterEqual(at, start), less(at, add(start, expandDims(length, [1, 2]))));
  };
  const box = and(between(1, top, tall), between(2, left, wide));
  return where(expandDims(and(box, expandDims(less(p, rate), [1, 2])), -1), 0, x);
}

export interface MixOptions {
  /** Of the beta distribution that shares are drawn from; equal parameters of 1 are uniform. Default 0.2. */
  alpha?: number;
  /** "mixup": weighted sums (Zhang et al. 2018); "cutmix": a rectangle of the other picture (Yun et al. 2019). */
  kind: "mixup" | "cutmix";
}

/**
 * Each picture of a batch with the one before it, by one share for all.
 *
 * @param pixels - float32 [batch, height, width, 3]
 * @param labels - integer [batch]
 * @param share - of the picture itself, a scalar from 0 to 1: of a beta distribution
 * @param place - for cutmix: where the rectangle's middle lies, [2] from 0 to 1
 * @returns pictures, and targets [batch, classes] that sum to 1
 */
export function mix(
  pixels: Tensor,
  labels: Tensor,
  {
    classes,
    kind,
    share,
    place,
  }: { classes: number; kind: MixOptions["kind"]; share: Tensor; place?: Tensor },
): { pixels: Tensor; targets: Tensor } {
  const [, h, w] = pixels.shape as [number, number, number, number];
  const order = (x: Tensor): Tensor => {
    const n = x.shape[0]!;
    return take(
      x,
      constantArray(
        Array.from({ length: n }, (_, i) => (i + n - 1) % n),
        { dtype: "int32" },
      ),
      0,
    );
  };
  const own = oneHot(labels, classes);
  const weigh = (a: Tensor, b: Tensor, s: Tensor): Tensor => add(mul(a, s), mul(b, sub(1, s)));
  if (kind === "mixup")
    return { pixels: weigh(pixels, order(pixels), share), targets: weigh(own, order(own), share) };
  if (place === undefined)
    throw new ArgumentError("mix: cutmix without a place", "give place: uniform(key, [2])");
  const half = mul(sqrt(sub(1, share)), 0.5);
  const bounds = (side: number, at: Tensor): [Tensor, Tensor] => {
    const middle = floor(mul(at, side));
    const reach = floor(mul(half, side));
    return [clip(sub(middle, reach), 0, side), clip(add(middle, reach), 0, side)];
  };
  const [left, right] = bounds(w, slice(place, 0));
  const [top, bottom] = bounds(h, slice(place, 1));
  const [row, column] = [
    iota([1, h, w, 1], 1, { dtype: "float32" }),
    iota([1, h, w, 1], 2, { dtype: "float32" }),
  ];
  const inside = and(
    and(greaterEqual(row, top), less(row, bottom)),
    and(greaterEqual(column, left), less(column, right)),
  );
  const kept = sub(1, div(mul(sub(right, left), sub(bottom, top)), h * w));
  return { pixels: where(inside, order(pixels), pixels), targets: weigh(own, order(own), kept) };
}

/** A scalar of the beta distribution of two equal parameters, for `mix`, by Jöhnk's method; of few tries the last stands. */
export function mixingShare(k: Key | number, alpha = 0.2): Tensor {
  const u = uniform(k, [16, 2]);
  const [x, y] = [exp(div(log(slice(u, null, 0)), alpha)), exp(div(log(slice(u, null, 1)), alpha))];
  const total = add(x, y);
  const good = and(lessEqual(total, 1), greaterEqual(total, 1e-30));
  const first = argmax(cast(good, "int32"), 0);
  return take(div(x, maximum(total, 1e-30)), first, 0);
}
