/** Figures of a batch that are put together over the parts of a batch, devices, and the batches of a validation, each by its own rule. */
import { broadcastTo, sum as sumOf } from "../array/broadcast.js";
import { scalar } from "../array/creation.js";
import { cast, div, equal, mul, stopGradient, where } from "../array/elementwise.js";
import { max as maxOf } from "../array/reductions.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";

/** A mean: its numerator and the weight that it stands for, float32 scalars. */
export interface Mean {
  readonly measure: "mean";
  readonly total: Tensor;
  readonly weight: Tensor;
}

/** A sum or a largest value, a float32 scalar. */
export interface Extent {
  readonly measure: "sum" | "max";
  readonly value: Tensor;
}

/** What a loss function reports of a batch: `metrics.mean`, `ratio`, `sum` or `max`. A tree. */
export type Measure = Mean | Extent;

/**
 * The mean of values by their weights: Σ w·v / Σ w over everything that is put together. Also the form of a loss whose rows or tokens do not
 * weigh the same: gradients are those of the numerator, divided once by the whole update's weight.
 *
 * @param values - any shape
 * @param weights - of the values' shape, or one that broadcasts to it; default 1 each
 */
export function mean(values: Tensor, weights?: Tensor): Mean {
  const wide = cast(values, "float32");
  if (weights === undefined) return meanOf(sumOf(wide), scalar(values.size, "float32"));
  const shares = broadcastTo(cast(weights, "float32"), values.shape);
  // What does not count may be anything, infinite too.
  return meanOf(sumOf(where(equal(shares, 0), 0, mul(wide, shares))), sumOf(shares));
}

/** Σ numerators / Σ denominators, of scalars or of the sums of arrays. No gradient goes through the denominator. */
export function ratio(numerator: Tensor, denominator: Tensor): Mean {
  return meanOf(sumOf(cast(numerator, "float32")), sumOf(cast(denominator, "float32")));
}

function meanOf(total: Tensor, weight: Tensor): Mean {
  return { measure: "mean", total, weight: stopGradient(weight) };
}

/** The value of a mean; `empty` where it weighs nothing. */
export function quotient({ total, weight }: Mean, empty = Number.NaN): Tensor {
  const nothing = equal(weight, 0);
  return where(nothing, empty, div(total, where(nothing, 1, weight)));
}

/** The sum of all values. */
export function sum(values: Tensor): Extent {
  return { measure: "sum", value: sumOf(cast(values, "float32")) };
}

/** The largest of all values. */
export function max(values: Tensor): Extent {
  return { measure: "max", value: maxOf(cast(values, "float32")) };
}

export function isMeasure(x: unknown): x is Measure {
  return typeof x === "object" && x !== null && "measure" in x && ("value" in x || "total" in x);
}

/** Measures of parts, stacked along axis 0, as those of the whole. */
export function combined(stacked: Readonly<Record<string, Measure>>): Record<string, Measure> {
  return Object.fromEntries(
    Object.entries(stacked).map(([name, m]): [string, Measure] => {
      if (m.measure === "mean") return [name, meanOf(sumOf(m.total, 0), sumOf(m.weight, 0))];
      return [
        name,
        { measure: m.measure, value: m.measure === "max" ? maxOf(m.value, 0) : sumOf(m.value, 0) },
      ];
    }),
  );
}

/** What is known of measures on the host, batch after batch, in double precision. */
export class MeasureTotals {
  readonly #known = new Map<string, { measure: Measure["measure"]; value: number; weight: number }>();

  /** Adds a batch's figures: of a mean its numerator and weight. */
  add(name: string, measure: Measure["measure"], value: number, weight = 1): void {
    const start = measure === "max" ? Number.NEGATIVE_INFINITY : 0;
    const known = this.#known.get(name) ?? { measure, value: start, weight: 0 };
    this.#known.set(name, known);
    if (known.measure !== measure) {
      throw new ArgumentError(
        `the metric "${name}" is a ${known.measure} in one batch and a ${measure} in another`,
        "give it one rule",
      );
    }
    known.value = measure === "max" ? Math.max(known.value, value) : known.value + value;
    known.weight += weight;
  }

  /** The figures of all that was added, by name; a mean of nothing is left out. */
  get values(): Record<string, number> {
    const values: Record<string, number> = {};
    for (const [name, { measure, value, weight }] of this.#known) {
      if (measure !== "mean") values[name] = value;
      else if (weight !== 0) values[name] = value / weight;
    }
    return values;
  }
}
