/** Learning-rate schedules: functions of the step, computed on the device. */

import { full } from "../array/broadcast.js";
import { iota } from "../array/creation.js";
import { add, cast, cos, div, less, maximum, minimum, mul, rsqrt, sub, where } from "../array/elementwise.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import { vmap } from "../transform/vmap.js";
import { withOptions } from "./optimizer.js";

/** The learning rate of a step (int32 scalar, the first is 0), a float32 scalar. */
export interface Schedule {
  (step: Tensor, totalSteps: number): Tensor;
  /** The same schedule with some options changed, where it has options. */
  with?(changes: Readonly<Record<string, unknown>>): Schedule;
  /** What it was made with, and by which function. */
  readonly options?: object;
  readonly kind?: string;
}

/** The learning rate of every step of a training, float32 [steps]: to be drawn before it begins. */
export async function previewSchedule(schedule: Schedule, steps: number): Promise<Float32Array> {
  if (!Number.isInteger(steps) || steps < 1)
    throw new ArgumentError(`previewSchedule: steps is ${steps}`, "give a positive integer");
  // An own float32 scalar for each step, also where a schedule does not look at it.
  const rates = vmap((step: Tensor) => add(schedule(step, steps), mul(cast(step, "float32"), 0)));
  return (await rates(iota([steps], 0)).data()) as Float32Array;
}

/** The same rate for every step, after a linear warm-up if one is asked for. */
export function constant(learningRate: number, options: { warmup?: number } = {}): Schedule {
  refuseUnknownOptions("constant", options, ["warmup"]);
  const { warmup = 0 } = options;
  check("constant", { learningRate });
  checkSteps("constant", { warmup });
  return (step) => {
    const rate = full([], learningRate, { dtype: "float32" });
    const t = cast(step, "float32");
    return warmup === 0 ? rate : where(less(t, warmup), rising(t, warmup, learningRate), rate);
  };
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
export function cosine(options: CosineOptions): Schedule {
  refuseUnknownOptions("cosine", options, ["peak", "warmup", "final", "steps"]);
  const { peak, warmup = 0, final = peak / 10, steps } = options;
  check("cosine", { peak, final });
  checkSteps("cosine", { warmup, steps });
  const schedule = (step: Tensor, totalSteps: number): Tensor => {
    const t = cast(step, "float32");
    const progress = share(t, warmup, steps ?? totalSteps);
    const falling = add(mul(add(cos(mul(progress, Math.PI)), 1), (peak - final) / 2), final);
    return where(less(t, warmup), rising(t, warmup, peak), falling);
  };
  return withOptions<Schedule, CosineOptions>(schedule, cosine, options);
}

/** Linear warm-up, then a straight line down to `final` (default 0). */
export function linear(options: CosineOptions): Schedule {
  refuseUnknownOptions("linear", options, ["peak", "warmup", "final", "steps"]);
  const { peak, warmup = 0, final = 0, steps } = options;
  check("linear", { peak, final });
  checkSteps("linear", { warmup, steps });
  const schedule = (step: Tensor, totalSteps: number): Tensor => {
    const t = cast(step, "float32");
    const falling = add(mul(share(t, warmup, steps ?? totalSteps), final - peak), peak);
    return where(less(t, warmup), rising(t, warmup, peak), falling);
  };
  return withOptions<Schedule, CosineOptions>(schedule, linear, options);
}

export interface WarmupStableDecayOptions {
  peak: number;
  warmup?: number;
  /** Steps of the decay at the end. Default a tenth of all. */
  decay?: number;
  /** Lowest learning rate, at the end. Default 0. */
  final?: number;
  /** Default the length of the training. */
  steps?: number;
}

/** Warm-up, a long plateau, and a short straight decay (Hu et al. 2024, MiniCPM). */
export function warmupStableDecay(options: WarmupStableDecayOptions): Schedule {
  refuseUnknownOptions("warmupStableDecay", options, ["peak", "warmup", "decay", "final", "steps"]);
  const { peak, warmup = 0, final = 0 } = options;
  check("warmupStableDecay", { peak, final });
  checkSteps("warmupStableDecay", { warmup, decay: options.decay, steps: options.steps });
  const schedule = (step: Tensor, totalSteps: number): Tensor => {
    const end = options.steps ?? totalSteps;
    const decay = options.decay ?? Math.max(1, Math.round(end / 10));
    const t = cast(step, "float32");
    const falling = add(mul(share(t, end - decay, end), final - peak), peak);
    return where(less(t, warmup), rising(t, warmup, peak), falling);
  };
  return withOptions<Schedule, WarmupStableDecayOptions>(schedule, warmupStableDecay, options);
}

/** Warm-up, then the peak times sqrt(warmup / step) (Vaswani et al. 2017). */
export function inverseSquareRoot(options: { peak: number; warmup: number }): Schedule {
  refuseUnknownOptions("inverseSquareRoot", options, ["peak", "warmup"]);
  const { peak, warmup } = options;
  check("inverseSquareRoot", { peak });
  if (!(Number.isInteger(warmup) && warmup >= 1))
    throw new ArgumentError(`inverseSquareRoot: warmup is ${warmup}`, "give a positive number of steps");
  const schedule = (step: Tensor): Tensor => {
    const t = cast(step, "float32");
    return where(less(t, warmup), rising(t, warmup, peak), mul(rsqrt(div(add(t, 1), warmup)), peak));
  };
  return withOptions<Schedule, typeof options>(schedule, inverseSquareRoot, options);
}

/** The part of a warm-up: linear, and `peak` at its last step. */
function rising(t: Tensor, warmup: number, peak: number): Tensor {
  return mul(div(add(t, 1), Math.max(warmup, 1)), peak);
}

/** How much of the way from step `from` to step `to` is done, 0 to 1. */
function share(t: Tensor, from: number, to: number): Tensor {
  return minimum(maximum(div(sub(t, from), Math.max(to - from, 1)), 0), 1);
}

/** A share of the training, as other libraries take it, would be next to no step. */
function checkSteps(name: string, values: Readonly<Record<string, number | undefined>>): void {
  for (const [field, value] of Object.entries(values)) {
    if (value !== undefined && !(Number.isInteger(value) && value >= 0))
      throw new ArgumentError(`${name}: ${field} is ${value}`, "give a whole number of steps");
  }
}

function check(name: string, values: Record<string, number>): void {
  for (const [field, value] of Object.entries(values)) {
    if (!(value >= 0) || !Number.isFinite(value)) {
      throw new ArgumentError(`${name}: ${field} is ${value}`, "give a finite number of at least 0");
    }
  }
}
