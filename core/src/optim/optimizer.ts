/** What the Trainer asks of an optimizer. */
import { reduceSum } from "../array/broadcast.js";
import { add, cast, minimum, mul, sqrt, square } from "../array/elementwise.js";
import type { Tensor } from "../array/tensor.js";
import { leaves, map } from "../transform/tree.js";

/** What an update did, as float32 scalars. */
export interface UpdateReport {
  readonly learningRate: Tensor;
  /** Euclidean norm of all gradients, before clipping. */
  readonly gradientNorm: Tensor;
}

export interface UpdateContext {
  /** Updates done before this one, int32 scalar. */
  readonly step: Tensor;
  readonly totalSteps: number;
}

/** A rule that turns gradients into new parameters. States and parameters are trees; nothing is changed in place. */
export interface Optimizer<S = unknown> {
  /** The state before the first update. */
  init<P>(parameters: P): S;
  update<P>(
    gradients: P,
    state: S,
    parameters: P,
    context: UpdateContext,
  ): [parameters: P, state: S, report: UpdateReport];
}

/** Euclidean norm of all leaves together, in float32. */
export function globalNorm(tree: unknown): Tensor {
  const squares = leaves(tree).map((x) =>
    reduceSum(
      square(cast(x, "float32")),
      x.shape.map((_, i) => i),
    ),
  );
  return sqrt(squares.reduce((a, b) => add(a, b)));
}

/** Scales the gradients down so that their norm is at most `limit`. */
export function clipByNorm<P>(gradients: P, norm: Tensor, limit: number): P {
  const factor = minimum(mul(limit, norm.add(1e-6).pow(-1)), 1);
  return map((g) => mul(g, cast(factor, g.dtype)), gradients);
}
