/** AdamW: Adam with decoupled weight decay (Kingma & Ba 2015; Loshchilov & Hutter 2019). */
import { zerosLike } from "../array/broadcast.js";
import { add, cast, div, mul, pow, sqrt, square, sub } from "../array/elementwise.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { flatten, map } from "../transform/tree.js";
import { clipByNorm, globalNorm, type Optimizer } from "./optimizer.js";
import { constant, type Schedule } from "./schedules.js";

export interface AdamWOptions {
  learningRate: number | Schedule;
  /** Decay of the mean of gradients. Default 0.9. */
  beta1?: number;
  /** Decay of the mean of squared gradients. Default 0.95. */
  beta2?: number;
  /** Default 1e-8. */
  epsilon?: number;
  /** Share of a parameter that goes with each update, times the learning rate. Default 0. */
  weightDecay?: number;
  /** Whether a parameter decays. Default those of two or more dimensions: not norms and biases. */
  decays?: (path: string, parameter: Tensor) => boolean;
  /** Limit of the gradients' norm. Default none. */
  clipNorm?: number;
}

/** Means of gradients and of their squares, as trees like the parameters. */
export interface AdamWState<P = unknown> {
  readonly mean: P;
  readonly square: P;
}

export function adamw({
  learningRate,
  beta1 = 0.9,
  beta2 = 0.95,
  epsilon = 1e-8,
  weightDecay = 0,
  decays = (_path, parameter) => parameter.ndim >= 2,
  clipNorm,
}: AdamWOptions): Optimizer<AdamWState> {
  for (const [field, value] of Object.entries({ beta1, beta2 })) {
    if (!(value >= 0 && value < 1))
      throw new ArgumentError(`adamw: ${field} is ${value}`, "give a number in [0, 1)");
  }
  if (!(weightDecay >= 0))
    throw new ArgumentError(`adamw: weightDecay is ${weightDecay}`, "give a number of at least 0");
  if (clipNorm !== undefined && !(clipNorm > 0))
    throw new ArgumentError(`adamw: clipNorm is ${clipNorm}`, "give a positive number");
  const schedule = typeof learningRate === "number" ? constant(learningRate) : learningRate;
  return {
    init: (parameters) => ({ mean: map(zerosLike, parameters), square: map(zerosLike, parameters) }),
    update(gradients, state, parameters, { step, totalSteps }) {
      const gradientNorm = globalNorm(gradients);
      const clipped = clipNorm === undefined ? gradients : clipByNorm(gradients, gradientNorm, clipNorm);
      const rate = schedule(step, totalSteps);
      const count = cast(add(step, 1), "float32");
      const mean = map((g, m) => add(mul(m, beta1), mul(g, 1 - beta1)), clipped, state.mean);
      const squares = map((g, v) => add(mul(v, beta2), mul(square(g), 1 - beta2)), clipped, state.square);
      const meanCorrection = sub(1, pow(beta1, count));
      const squareCorrection = sub(1, pow(beta2, count));
      const flat = flatten(parameters);
      const [m, v] = [flatten(mean).leaves, flatten(squares).leaves];
      const updated = flat.leaves.map((p, i) => {
        const direction = div(div(m[i]!, meanCorrection), add(sqrt(div(v[i]!, squareCorrection)), epsilon));
        const decayed =
          weightDecay > 0 && decays(flat.paths[i]!, p) ? add(direction, mul(p, weightDecay)) : direction;
        return sub(p, cast(mul(decayed, rate), p.dtype));
      });
      return [
        flat.rebuild(updated) as typeof parameters,
        { mean, square: squares },
        { learningRate: rate, gradientNorm },
      ];
    },
  };
}
