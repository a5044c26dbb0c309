import { sum } from "../array/broadcast.js";
import {
  cast,
  clip,
  div,
  floor,
  greater,
  isfinite,
  isnan,
  mul,
  square,
  sub,
  where,
} from "../array/elementwise.js";
import { stack } from "../array/joining.js";
import { max, min } from "../array/reductions.js";
import { flatten } from "../array/shaping.js";
import { bincount } from "../array/sorting.js";
import { ArgumentError } from "../graph/errors.js";
import { asNumbers, fetchAll, type MediaValue } from "./values.js";

export interface HistogramOptions {
  /** Bins of one width from the least to the greatest finite number; default 64, at most 4096. */
  bins?: number;
  caption?: string;
}

export interface Histogram {
  /** Where the bins begin, and where the last one ends: one more than `counts`. */
  edges: number[];
  counts: number[];
  /** Of the finite numbers. */
  count: number;
  sum: number;
  sumOfSquares: number;
  nan: number;
  /** Numbers that were infinite. */
  infinite: number;
}

/** How often numbers lie in each of some bins. They are counted on the device. */
export function readHistogram(value: MediaValue, { bins = 64 }: HistogramOptions = {}): Promise<Histogram> {
  if (!(Number.isInteger(bins) && bins >= 1 && bins <= 4096)) {
    throw new ArgumentError(`histogram: bins is ${bins}`, "give a whole number from 1 to 4096");
  }
  const given = asNumbers("histogram", value);
  if (given.size === 0) {
    throw new ArgumentError(`histogram of shape [${given.shape.join(", ")}]: it is empty`, "give numbers");
  }
  const x = cast(flatten(given), "float32");
  const known = isfinite(x);
  const low = min(where(known, x, Number.POSITIVE_INFINITY));
  const high = max(where(known, x, Number.NEGATIVE_INFINITY));
  const span = where(greater(high, low), sub(high, low), 1);
  const finite = where(known, x, low);
  const bin = clip(floor(mul(div(sub(finite, low), span), bins)), 0, bins - 1);
  // What is not finite goes into a bin of its own, which no one sees.
  const counted = bincount(cast(where(known, bin, bins), "int32"), bins);
  const zeroed = where(known, x, 0);
  const figures = stack([low, high, sum(zeroed), sum(square(zeroed))]);
  const nan = sum(cast(isnan(x), "int32"));
  return fetchAll(counted, figures, nan).then(([counts, [first, last, total, squares], [none]]) => {
    const count = (counts as Int32Array).reduce((a, b) => a + b, 0);
    const [from, to] = count === 0 ? [0, 1] : [Number(first), Number(last)];
    const width = (to > from ? to - from : 1) / bins;
    return {
      edges: Array.from({ length: bins + 1 }, (_, i) => (i === bins && to > from ? to : from + i * width)),
      counts: Array.from(counts as Int32Array),
      count,
      sum: Number(total),
      sumOfSquares: Number(squares),
      nan: Number(none),
      infinite: x.size - count - Number(none),
    };
  });
}
