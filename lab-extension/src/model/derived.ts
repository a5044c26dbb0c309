import { Extremes } from "./extremes.js";
import type { Series } from "./series.js";

/** What can be drawn as a line: values with their extremes. */
export interface Values {
  readonly values: Float64Array;
  readonly extremes: Extremes;
}

/** Values that are made of those of series, one for each, and grow with them. */
export abstract class Derived implements Values {
  get values(): Float64Array {
    return this.#values.subarray(0, this.#length);
  }

  get extremes(): Extremes {
    this.#extremes.extend(this.#values, this.#length);
    return this.#extremes;
  }

  /** The value at `index`, asked for once and in order. */
  protected abstract make(index: number): number;
  /** Begins again. */
  protected abstract reset(): void;

  /** Brings the values up to date with the series that they are made of. */
  protected extend(series: Series): this {
    const { length, generation } = series;
    if (generation !== this.#generation || length < this.#length) {
      this.#generation = generation;
      this.#length = 0;
      this.#extremes.truncate(0);
      this.reset();
    }
    if (length > this.#values.length) {
      const values = new Float64Array(Math.max(length, Math.ceil(this.#values.length * 1.25)));
      values.set(this.#values);
      this.#values = values;
    }
    for (let i = this.#length; i < length; i++) {
      this.#values[i] = this.make(i);
    }
    this.#length = length;
    return this;
  }

  #values: Float64Array = new Float64Array();
  #length = 0;
  #generation = 0;
  readonly #extremes = new Extremes();
}

/**
 * Exponential moving average of a series that grows, de-biased (each average is divided by 1 - weight^n, so that the
 * first values are not drawn towards zero). It runs over every value, before any decimation; values that are not
 * finite stay out of the average and leave a gap.
 */
export class MovingAverage extends Derived {
  /** @param weight - of the past, 0 (off) to below 1. */
  constructor(readonly weight: number) {
    super();
  }

  of(series: Series): Values {
    this.#source = series.values;
    return this.extend(series);
  }

  protected override make(index: number): number {
    const value = this.#source[index]!;
    if (!Number.isFinite(value)) {
      return Number.NaN;
    }
    this.#sum = this.weight * this.#sum + (1 - this.weight) * value;
    this.#bias *= this.weight;
    // Bit-exact on a constant series would need rational arithmetic; this is within rounding of it.
    return this.#sum / (1 - this.#bias);
  }

  protected override reset(): void {
    this.#sum = 0;
    this.#bias = 1;
  }

  #source: Float64Array = new Float64Array();
  #sum = 0;
  #bias = 1;
}

/** The values that a logarithmic axis has a place for. */
export class PositiveOnly extends Derived {
  of(series: Series, values: Float64Array): Values {
    this.#source = values;
    return this.extend(series);
  }

  protected override make(index: number): number {
    const value = this.#source[index]!;
    return value > 0 ? value : Number.NaN;
  }

  protected override reset(): void {}

  #source: Float64Array = new Float64Array();
}

/** A part of a stack with all the parts below it: their sum at each row of the stack's first part. */
export class StackLayer extends Derived {
  /** @param base - series whose rows the stack has; @param below - what this part lies on. */
  of(base: Series, below: Values | undefined, part: (row: number, below: number) => number): Values {
    this.#base = base;
    this.#below = below?.values;
    this.#part = part;
    return this.extend(base);
  }

  protected override make(index: number): number {
    const below = this.#below?.[index] ?? 0;
    const value = this.#part(this.#base!.rowOf(index), below);
    return below + (Number.isFinite(value) ? value : 0);
  }

  protected override reset(): void {}

  #base: Series | undefined;
  #below: Float64Array | undefined;
  #part: (row: number, below: number) => number = () => 0;
}
