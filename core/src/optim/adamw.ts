/** AdamW: Adam with decoupled weight decay (Kingma & Ba 2015; Loshchilov & Hutter 2019). */
import { zerosLike } from "../array/broadcast.js";
import { add, div, mul, pow, sqrt, square, sub } from "../array/elementwise.js";
import { map } from "../transform/tree.js";
import { checkDecays, type DescentOptions, descent } from "./descent.js";
import type { Optimizer } from "./optimizer.js";

export interface AdamWOptions extends DescentOptions {
  /** Decay of the mean of gradients. Default 0.9. */
  beta1?: number;
  /** Decay of the mean of squared gradients. Default 0.95. */
  beta2?: number;
  /** Default 1e-8. */
  epsilon?: number;
}

/** Means of gradients and of their squares, as trees like the parameters. */
export interface AdamWState<P = unknown> {
  readonly mean: P;
  readonly square: P;
}

export function adamw({
  beta1 = 0.9,
  beta2 = 0.95,
  epsilon = 1e-8,
  ...options
}: AdamWOptions): Optimizer<AdamWState> {
  checkDecays("adamw", { beta1, beta2 });
  return descent<AdamWState>(options, {
    name: "adamw",
    init: (parameters) => ({ mean: map(zerosLike, parameters), square: map(zerosLike, parameters) }),
    direction(gradients, state, count) {
      const mean = map((g, m) => add(mul(m, beta1), mul(g, 1 - beta1)), gradients, state.mean);
      const squares = map((g, v) => add(mul(v, beta2), mul(square(g), 1 - beta2)), gradients, state.square);
      const meanCorrection = sub(1, pow(beta1, count));
      const squareCorrection = sub(1, pow(beta2, count));
      const directions = map(
        (m, v) => div(div(m, meanCorrection), add(sqrt(div(v, squareCorrection)), epsilon)),
        mean,
        squares,
      );
      return [directions, { mean, square: squares }];
    },
  });
}
