import type { Series } from "./series.js";

/**
 * Exponential moving average of a series that grows, de-biased (each average is divided by 1 - weight^n, so that the
 * first values are not drawn towards zero). It runs over every value, before any decimation; values that are not
 * finite stay out of the average and leave a gap.
 */
export class MovingAverage {
  /** @param weight - of the past, 0 (off) to below 1. */
  constructor(readonly weight: number) {}

  /** The averages beside `series.values`; extended by what came since the last call. */
  of(series: Series): Float64Array {
    const { values, length } = series;
    if (length > this.#averages.length) {
      const grown = new Float64Array(Math.max(length, this.#averages.length * 2));
      grown.set(this.#averages);
      this.#averages = grown;
    }
    for (let i = this.#length; i < length; i++) {
      const value = values[i]!;
      if (!Number.isFinite(value)) {
        this.#averages[i] = Number.NaN;
        continue;
      }
      this.#sum = this.weight * this.#sum + (1 - this.weight) * value;
      this.#bias *= this.weight;
      // Bit-exact on a constant series would need rational arithmetic; this is within rounding of it.
      this.#averages[i] = this.#sum / (1 - this.#bias);
    }
    this.#length = length;
    return this.#averages.subarray(0, length);
  }

  #averages = new Float64Array(64);
  #length = 0;
  #sum = 0;
  #bias = 1;
}
