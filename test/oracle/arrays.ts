/** Arrays on the host: how test data are made, given to both sides, and compared. */
import fc from "fast-check";
import { fromBytes } from "../../core/src/array/creation.js";
import { decode, encode, limits } from "../../core/src/array/hostdata.js";
import type { Tensor } from "../../core/src/array/tensor.js";
import { type DType, isComplex, isFloat, isUnsigned } from "../../core/src/graph/dtype.js";

/** Dense, row-major, little-endian. */
export interface HostArray {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export function toTensor({ data, shape, dtype }: HostArray): Tensor {
  return fromBytes(new Uint8Array(data), shape, dtype);
}

export function hostArray(
  values: readonly number[],
  dtype: DType,
  shape: readonly number[] = [values.length],
): HostArray {
  return { dtype, shape, data: encode(values, dtype) };
}

/** Which numbers an array is made of. */
export type Palette =
  /** Between -3 and 3; integers between -9 and 9. */
  | "moderate"
  /** Also zeros, ones, infinities, NaN, the extremes and halves. */
  | "special"
  /** Above 0.1, at most 3. */
  | "positive"
  /** In (-0.9, 0.9). */
  | "unit"
  /** In [1.1, 4). */
  | "aboveOne"
  /** Between 0 and 7, whole. */
  | "small"
  /** Away from 0, from whole numbers and from each other: for derivatives of what has kinks. */
  | "rough";

/** A small deterministic generator (mulberry32). */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const specials = [
  0,
  -0,
  1,
  -1,
  0.5,
  -0.5,
  1.5,
  2.5,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.NaN,
  1e-30,
  -1e30,
  3.7,
];

function draw(dtype: DType, palette: Palette, next: () => number): number | bigint {
  if (dtype === "bool") return next() < 0.5 ? 1 : 0;
  const u = next();
  if (isFloat(dtype) || isComplex(dtype)) {
    if (palette === "special" && next() < 0.4) return specials[Math.floor(next() * specials.length)]!;
    switch (palette) {
      case "positive":
        return 0.1 + 2.9 * u;
      case "unit":
        return 1.8 * u - 0.9;
      case "aboveOne":
        return 1.1 + 2.9 * u;
      case "small":
        return Math.floor(8 * u);
      case "rough":
        return (u < 0.5 ? -1 : 1) * (0.1 + 0.8 * next() + Math.floor(3 * next()));
      default:
        return 6 * u - 3;
    }
  }
  const wide = dtype.endsWith("64");
  if (palette === "special" && next() < 0.3) {
    const { min, max } = limits(dtype);
    return next() < 0.5 ? min : max;
  }
  const low = palette === "positive" ? 1 : palette === "small" || isUnsigned(dtype) ? 0 : -9;
  const high = palette === "small" ? 7 : 9;
  const value = low + Math.floor(u * (high - low + 1));
  return wide ? BigInt(value) : value;
}

export function randomArray(
  dtype: DType,
  shape: readonly number[],
  seed: number,
  palette: Palette = "moderate",
): HostArray {
  const next = generator(seed);
  const size = shape.reduce((a, b) => a * b, 1);
  const count = isComplex(dtype) ? 2 * size : size;
  const values = Array.from({ length: count }, () => draw(dtype, palette, next));
  return { dtype, shape, data: encode(values as number[], dtype) };
}

export const shapes = (maxRank = 4, maxLength = 4): fc.Arbitrary<number[]> =>
  fc.array(
    fc.oneof(
      { weight: 1, arbitrary: fc.constant(0) },
      { weight: 12, arbitrary: fc.integer({ min: 1, max: maxLength }) },
    ),
    { maxLength: maxRank },
  );

/** Shapes without empty axes. */
export const filledShapes = (minRank = 0, maxRank = 4, maxLength = 4): fc.Arbitrary<number[]> =>
  fc.array(fc.integer({ min: 1, max: maxLength }), { minLength: minRank, maxLength: maxRank });

/** Two shapes that broadcast: axes of the first dropped or set to 1. */
export const broadcastPairs: fc.Arbitrary<[number[], number[]]> = shapes(3).chain((shape) =>
  fc
    .tuple(
      fc.array(fc.boolean(), { minLength: shape.length, maxLength: shape.length }),
      fc.integer({ min: 0, max: shape.length }),
      fc.boolean(),
    )
    .map(([ones, dropped, swap]) => {
      const other = shape.map((d, i) => (ones[i] ? 1 : d)).slice(dropped);
      return swap ? [other, shape] : [shape, other];
    }),
);

export const seeds = fc.integer({ min: 0, max: 2 ** 31 - 1 });

/** Relative tolerance of a dtype for results of the same algorithm. */
export const tolerances: Partial<Record<DType, number>> = {
  float64: 1e-12,
  float32: 1e-5,
  complex64: 1e-5,
  float16: 2e-3,
  bfloat16: 2e-2,
  float8_e4m3fn: 0.13,
  float8_e5m2: 0.26,
};

/** What differs between two arrays, or undefined. */
export function difference(
  ours: HostArray,
  theirs: HostArray,
  tolerance?: number,
  exact = false,
): string | undefined {
  if (ours.dtype !== theirs.dtype) return `dtype ${ours.dtype}, expected ${theirs.dtype}`;
  if (ours.shape.join() !== theirs.shape.join()) return `shape [${ours.shape}], expected [${theirs.shape}]`;
  if (ours.data.length !== theirs.data.length)
    return `${ours.data.length} bytes, expected ${theirs.data.length}`;
  const [a, b] = [decode(ours.data, ours.dtype), decode(theirs.data, theirs.dtype)];
  const relative = exact ? 0 : (tolerance ?? tolerances[ours.dtype] ?? 0);
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i]!, b[i]!];
    if (x === y) continue;
    const [p, q] = [Number(x), Number(y)];
    if (Number.isNaN(p) && Number.isNaN(q)) continue;
    if (
      typeof x === "number" &&
      Math.abs(p - q) <= relative * Math.max(Math.abs(p), Math.abs(q), relative > 0 ? 0.1 : 0)
    )
      continue;
    return `element ${i} of ${ours.dtype}[${ours.shape}] is ${x}, expected ${y}`;
  }
  return undefined;
}
