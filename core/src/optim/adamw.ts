/** Adam (Kingma & Ba 2015), and AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019). */
import { zerosLike } from "../array/broadcast.js";
import { add, div, mul, pow, sqrt, square, sub } from "../array/elementwise.js";
import { map } from "../transform/tree.js";
import {
  checkDecays,
  checkNames,
  checkPositive,
  type DescentOptions,
  descent,
  type Method,
} from "./descent.js";
import type { Leaves } from "./groups.js";
import { type Optimizer, withOptions } from "./optimizer.js";

export interface AdamWOptions extends DescentOptions {
  /** Decay of the mean of gradients. Default 0.9. */
  beta1?: number;
  /** Decay of the mean of squared gradients. Default 0.95. */
  beta2?: number;
  /** Default 1e-8. */
  epsilon?: number;
}

export interface AdamOptions extends Omit<DescentOptions, "weightDecay" | "decays"> {
  /** Default 0.9. */
  beta1?: number;
  /** Default 0.999. */
  beta2?: number;
  /** Default 1e-8. */
  epsilon?: number;
  /** Weight of half the parameters' squared norm in the loss; unlike AdamW's decay it goes through the means. Default 0. */
  l2?: number;
}

/** Means of gradients and of their squares, by path. */
export interface AdamWState {
  readonly mean: Leaves;
  readonly square: Leaves;
}

const fields = ["beta1", "beta2", "epsilon"];

export function adamw(options: AdamWOptions): Optimizer {
  checkNames("adamw", options, fields);
  const { beta1, beta2, epsilon, ...rest } = options;
  return withOptions(
    descent(rest, adaptive("adamw", { beta1, beta2: beta2 ?? 0.95, epsilon })),
    adamw,
    options,
  );
}

/** Adam as first published: no decay, or one that is part of the loss. */
export function adam(options: AdamOptions): Optimizer {
  checkNames("adam", options, [...fields, "l2"]);
  const { beta1, beta2, epsilon, l2, ...rest } = options;
  return withOptions(
    descent(rest, adaptive("adam", { beta1, beta2: beta2 ?? 0.999, epsilon, l2 })),
    adam,
    options,
  );
}

/** The method of both. */
export function adaptive(
  name: string,
  {
    beta1 = 0.9,
    beta2,
    epsilon = 1e-8,
    l2 = 0,
  }: { beta1?: number; beta2: number; epsilon?: number; l2?: number },
): Method<AdamWState> {
  checkDecays(name, { beta1, beta2 });
  checkPositive(name, { epsilon, ...(l2 !== 0 && { l2 }) });
  return {
    name,
    init: (parameters) => ({ mean: map(zerosLike, parameters), square: map(zerosLike, parameters) }),
    direction(given, state, { count, parameters }) {
      const gradients = l2 === 0 ? given : map((g, p) => add(g, mul(p, l2)), given, parameters);
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
  };
}
