/** Learning-rate schedules: functions of the step, computed on the device. */

import { full } from "../array/broadcast.js";
import { add, cast, cos, div, less, maximum, minimum, mul, sub, where } from "../array/elementwise.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";

/** The learning rate of a step (int32 scalar, the first is 0), a float32 scalar. */
export type Schedule = (step: Tensor, totalSteps: number) => Tensor;

export function constant(learningRate: number): Schedule {
  check("constant", { learningRate });
  return () => full([], learningRate, { dtype: "float32" });
}

export interface CosineOptions {
  /** Highest learning rate, reached after the warm-up. */
  peak: number;
  /** Steps of linear warm-up. Default 0. */
  warmup?: number;
  /** Lowest learning rate, at the end. Default a tenth of the peak. */
  final?: number;
  /** Step at which `final` is reached. Default the length of the training. */
  steps?: number;
}

/** Linear warm-up, then half a cosine down (Loshchilov & Hutter 2017). */
export function cosine({ peak, warmup = 0, final = peak / 10, steps }: CosineOptions): Schedule {
  check("cosine", { peak, warmup, final });
  return (step, totalSteps) => {
    const end = steps ?? totalSteps;
    const t = cast(step, "float32");
    const rising = mul(div(add(t, 1), Math.max(warmup, 1)), peak);
    const progress = minimum(maximum(div(sub(t, warmup), Math.max(end - warmup, 1)), 0), 1);
    const falling = add(mul(add(cos(mul(progress, Math.PI)), 1), (peak - final) / 2), final);
    return where(less(t, warmup), rising, falling);
  };
}

function check(name: string, values: Record<string, number>): void {
  for (const [field, value] of Object.entries(values)) {
    if (!(value >= 0) || !Number.isFinite(value)) {
      throw new ArgumentError(`${name}: ${field} is ${value}`, "give a finite number of at least 0");
    }
  }
}
