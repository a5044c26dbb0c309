/** Stages one after the other. */

import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { Module } from "./module.js";

/** A Module whose `forward` takes one value, with options beside it or none, or a function of one value. */
export type Stage<X = Tensor, Y = Tensor> = (Module & { forward(x: X, options?: never): Y }) | ((x: X) => Y);

/**
 * Modules and functions, each given what the one before returned. Its fields are the stages' numbers, so that parameters are named as by
 * PyTorch's Sequential: `0.weight`. A function is part of the structure: one that is made anew each time compiles the program again.
 */
export class Sequential<X = Tensor, Y = Tensor> extends Module {
  readonly [stage: number]: Stage<never, unknown>;

  constructor(stages: readonly Stage<never, unknown>[]) {
    super();
    for (const [i, stage] of stages.entries()) {
      if (typeof stage !== "function" && !(stage instanceof Module && "forward" in stage)) {
        throw new ArgumentError(
          `sequential: stage ${i} is ${stage === null ? "null" : typeof stage}`,
          "give Modules with a forward function, or functions",
        );
      }
    }
    Object.assign(this, stages);
  }

  /** Number of stages. */
  get length(): number {
    return Object.keys(this).length;
  }

  /** @param options - handed to every Module's `forward`, e.g. `{ training: true }`. Functions do not get it */
  forward(x: X, options?: object): Y {
    let y: unknown = x;
    for (let i = 0; i < this.length; i++) {
      const stage = this[i] as unknown as Module & { forward(x: unknown, options?: object): unknown };
      if (typeof stage === "function") y = (stage as (x: unknown) => unknown)(y);
      else y = options === undefined ? stage.forward(y) : stage.forward(y, options);
    }
    return y as Y;
  }
}

/**
 * A Module that runs stages one after the other: `sequential(new Conv2d(3, 16, 3), relu, new GlobalPool(), new Linear(16, 10))`. The types of
 * up to six stages are checked against each other; of more, all take and return Tensors.
 */
export function sequential<A, B>(a: Stage<A, B>): Sequential<A, B>;
export function sequential<A, B, C>(a: Stage<A, B>, b: Stage<B, C>): Sequential<A, C>;
export function sequential<A, B, C, D>(a: Stage<A, B>, b: Stage<B, C>, c: Stage<C, D>): Sequential<A, D>;
export function sequential<A, B, C, D, E>(
  a: Stage<A, B>,
  b: Stage<B, C>,
  c: Stage<C, D>,
  d: Stage<D, E>,
): Sequential<A, E>;
export function sequential<A, B, C, D, E, F>(
  a: Stage<A, B>,
  b: Stage<B, C>,
  c: Stage<C, D>,
  d: Stage<D, E>,
  e: Stage<E, F>,
): Sequential<A, F>;
export function sequential<A, B, C, D, E, F, G>(
  a: Stage<A, B>,
  b: Stage<B, C>,
  c: Stage<C, D>,
  d: Stage<D, E>,
  e: Stage<E, F>,
  f: Stage<F, G>,
): Sequential<A, G>;
export function sequential(...stages: Stage[]): Sequential;
export function sequential(...stages: Stage<never, unknown>[]): Sequential<never, unknown> {
  return new Sequential(stages);
}
