/** What the Trainer asks of an optimizer. */
import { reduceSum } from "../array/broadcast.js";
import { add, cast, clip, minimum, mul, sqrt, square } from "../array/elementwise.js";
import type { Tensor } from "../array/tensor.js";
import { leaves, map } from "../transform/tree.js";

/** What an update did, as float32 scalars. */
export interface UpdateReport {
  readonly learningRate: Tensor;
  /** Euclidean norm of all gradients of trained parameters, before clipping. */
  readonly gradientNorm: Tensor;
}

export interface UpdateContext {
  /** Updates done before this one, int32 scalar. */
  readonly step: Tensor;
  readonly totalSteps: number;
  /** Norm of the gradients of all parameters, for an optimizer that is given a part of them; default that of those given. */
  readonly gradientNorm?: Tensor;
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
  /** Whether the parameter at a path is trained; without this all are. The gradient of one that is not is never computed. */
  trains?(path: string, parameter: Tensor): boolean;
  /** Looks whether its options fit all parameters of a model, frozen ones too. Throws ArgumentError where they do not. */
  check?(parameters: unknown): void;
  /** The same optimizer with some options changed, where it has options. */
  with?(changes: Readonly<Record<string, unknown>>): Optimizer<S>;
  /** What it was made with, and by which function. */
  readonly options?: object;
  readonly kind?: string;
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

/** Limits each element of the gradients to [-`limit`, `limit`]. */
export function clipByValue<P>(gradients: P, limit: number): P {
  return map((g) => clip(g, -limit, limit), gradients);
}

/** Gives `value` the options that it was made with by `make`, and `with(changes)`, which makes another. */
export function withOptions<T extends object, O extends object>(
  value: T,
  make: (options: O) => T,
  options: O,
): T {
  return Object.assign(value, {
    options,
    kind: make.name,
    with: (changes: Partial<O>) => make({ ...options, ...changes }),
  });
}
