/** What gradient methods share: the schedule, clipping, decoupled weight decay, and the step itself. */
import { add, cast, mul, sub } from "../array/elementwise.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { flatten } from "../transform/tree.js";
import { clipByNorm, globalNorm, type Optimizer } from "./optimizer.js";
import { constant, type Schedule } from "./schedules.js";

export interface DescentOptions {
  learningRate: number | Schedule;
  /** Share of a parameter that goes with each update, times the learning rate (Loshchilov & Hutter 2019). Default 0. */
  weightDecay?: number;
  /** Whether a parameter decays. Default those of two or more dimensions: not norms and biases. */
  decays?: (path: string, parameter: Tensor) => boolean;
  /** Limit of the gradients' norm. Default none. */
  clipNorm?: number;
}

/** A method: from gradients to directions, which are subtracted times the learning rate. Directions and states are trees. */
export interface Method<S> {
  readonly name: string;
  init<P>(parameters: P): S;
  /** @param count - this update's number, from 1, float32 scalar */
  direction<P>(gradients: P, state: S, count: Tensor): [directions: P, state: S];
}

export function descent<S>(options: DescentOptions, method: Method<S>): Optimizer<S> {
  const {
    learningRate,
    weightDecay = 0,
    clipNorm,
    decays = (_path, parameter) => parameter.ndim >= 2,
  } = options;
  if (!(weightDecay >= 0)) {
    throw new ArgumentError(`${method.name}: weightDecay is ${weightDecay}`, "give a number of at least 0");
  }
  if (clipNorm !== undefined && !(clipNorm > 0)) {
    throw new ArgumentError(`${method.name}: clipNorm is ${clipNorm}`, "give a positive number");
  }
  const schedule = typeof learningRate === "number" ? constant(learningRate) : learningRate;
  return {
    init: (parameters) => method.init(parameters),
    update(gradients, state, parameters, { step, totalSteps }) {
      const gradientNorm = globalNorm(gradients);
      const clipped = clipNorm === undefined ? gradients : clipByNorm(gradients, gradientNorm, clipNorm);
      const rate = schedule(step, totalSteps);
      const [directions, next] = method.direction(clipped, state, cast(add(step, 1), "float32"));
      const flat = flatten(parameters);
      const steps = flatten(directions).leaves;
      const updated = flat.leaves.map((p, i) => {
        const decayed = weightDecay > 0 && decays(flat.paths[i]!, p);
        const step = decayed ? add(steps[i]!, mul(p, weightDecay)) : steps[i]!;
        return sub(p, cast(mul(step, rate), p.dtype));
      });
      return [flat.rebuild(updated) as typeof parameters, next, { learningRate: rate, gradientNorm }];
    },
  };
}

/** Checks that decay factors lie in [0, 1). */
export function checkDecays(name: string, factors: Readonly<Record<string, number>>): void {
  for (const [field, value] of Object.entries(factors)) {
    if (!(value >= 0 && value < 1))
      throw new ArgumentError(`${name}: ${field} is ${value}`, "give a number in [0, 1)");
  }
}
