/** How parameters begin. */
import { full } from "../array/broadcast.js";
import { mul } from "../array/elementwise.js";
import { type Key, normal, uniform } from "../array/random.js";
import type { Tensor } from "../array/tensor.js";
import type { DType } from "../graph/dtype.js";
import type { Shape } from "../graph/node.js";

/** Draws a parameter of a shape and type. */
export type Initializer = (key: Key, shape: Shape, dtype: DType) => Tensor;

/** Normal with mean 0. */
export function normalInit(std: number): Initializer {
  return (key, shape, dtype) => mul(normal(key, shape, { dtype }), std);
}

/** One value everywhere. */
export function constantInit(value: number): Initializer {
  return (_key, shape, dtype) => full(shape, value, { dtype });
}

/** Uniform in ±1/sqrt(fan in), the last axis being the inputs: PyTorch's default for linear layers. */
export function fanInUniform(): Initializer {
  return (key, shape, dtype) => {
    const bound = 1 / Math.sqrt(shape.at(-1) ?? 1);
    return uniform(key, shape, { dtype, low: -bound, high: bound });
  };
}
