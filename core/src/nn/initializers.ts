/** How parameters begin. */
import { full } from "../array/broadcast.js";
import { mul } from "../array/elementwise.js";
import { type Key, normal, uniform } from "../array/random.js";
import type { Tensor } from "../array/tensor.js";
import type { DType } from "../graph/dtype.js";
import type { Shape } from "../graph/node.js";

/** Draws a parameter of a shape and type. */
export type Initializer = (key: Key, shape: Shape, dtype: DType) => Tensor;

/** Equal initializers are one function, so that a program that draws a parameter serves all layers. */
function memoize(make: (value: number) => Initializer): (value: number) => Initializer {
  const known = new Map<number, Initializer>();
  return (value) => {
    const init = known.get(value) ?? make(value);
    known.set(value, init);
    return init;
  };
}

/** Normal with mean 0 and the given standard deviation. */
export const normalInit = memoize((std) => (key, shape, dtype) => mul(normal(key, shape, { dtype }), std));

/** One value everywhere. */
export const constantInit = memoize((value) => (_key, shape, dtype) => full(shape, value, { dtype }));

/** Uniform in ±1/sqrt(fan in), the last axis being the inputs: PyTorch's default for linear layers. */
export const fanInUniform: Initializer = (key, shape, dtype) => {
  const bound = 1 / Math.sqrt(shape.at(-1) ?? 1);
  return uniform(key, shape, { dtype, low: -bound, high: bound });
};
