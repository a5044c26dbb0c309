/** How parameters begin; the names and numbers of `torch.nn.init`. */
import { full } from "../array/broadcast.js";
import { mul, sign } from "../array/elementwise.js";
import { qr } from "../array/linalg.js";
import { diagonal } from "../array/numpy.js";
import { type Key, normal, truncatedNormal, uniform } from "../array/random.js";
import { reshape, transpose } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import type { DType } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
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

/** Uniform in ±bound. */
export const uniformInit = memoize(
  (bound) => (key, shape, dtype) => uniform(key, shape, { dtype, low: -bound, high: bound }),
);

/** Normal, cut at two standard deviations. */
export const truncatedNormalInit = memoize(
  (std) => (key, shape, dtype) => mul(truncatedNormal(key, shape, { dtype }), std),
);

/** One value everywhere. */
export const constantInit = memoize((value) => (_key, shape, dtype) => full(shape, value, { dtype }));

/** Uniform in ±1/sqrt(fan in): PyTorch's default for linear layers and convolutions. */
export const fanInUniform: Initializer = (key, shape, dtype) => {
  const bound = 1 / Math.sqrt(fans(shape).inputs);
  return uniform(key, shape, { dtype, low: -bound, high: bound });
};

/** Uniform with variance 2 gain² / (fan in + fan out) (Glorot & Bengio 2010). `gain` as of the nonlinearity after it: 1, sqrt(2) for ReLU. */
export const xavierUniform = memoize((gain) => (key, shape, dtype) => {
  const { inputs, outputs } = fans(shape);
  const bound = gain * Math.sqrt(6 / (inputs + outputs));
  return uniform(key, shape, { dtype, low: -bound, high: bound });
});

/** Normal with the variance of `xavierUniform`. */
export const xavierNormal = memoize((gain) => (key, shape, dtype) => {
  const { inputs, outputs } = fans(shape);
  return mul(normal(key, shape, { dtype }), gain * Math.sqrt(2 / (inputs + outputs)));
});

/** Uniform with variance gain² / fan in (He et al. 2015): sqrt(2) for ReLU. */
export const kaimingUniform = memoize((gain) => (key, shape, dtype) => {
  const bound = gain * Math.sqrt(3 / fans(shape).inputs);
  return uniform(key, shape, { dtype, low: -bound, high: bound });
});

/** Normal with the variance of `kaimingUniform`. */
export const kaimingNormal = memoize(
  (gain) => (key, shape, dtype) => mul(normal(key, shape, { dtype }), gain / Math.sqrt(fans(shape).inputs)),
);

/** Orthonormal rows or columns, whichever are fewer, of the matrix [outputs, the rest] (Saxe et al. 2013), times `gain`. */
export const orthogonal = memoize((gain) => (key, shape, dtype) => {
  const { rows, columns } = matrixOf(shape);
  const [tall, narrow] = [Math.max(rows, columns), Math.min(rows, columns)];
  const [q, r] = qr(normal(key, [tall, narrow]));
  // The signs of R's diagonal make the distribution uniform (Mezzadri 2006).
  const signed = mul(q, sign(diagonal(r)));
  return mul(reshape(rows < columns ? transpose(signed) : signed, shape), gain).astype(dtype);
});

function matrixOf(shape: Shape): { rows: number; columns: number } {
  if (shape.length < 2)
    throw new ArgumentError(
      `an initializer with fans, of shape [${shape.join(", ")}]`,
      "use it for weights of two or more axes",
    );
  return { rows: shape[0]!, columns: shape.slice(1).reduce((a, b) => a * b, 1) };
}

/** Numbers of inputs and outputs of one output and input of a weight [outputs, inputs, ...kernel]. */
function fans(shape: Shape): { inputs: number; outputs: number } {
  const { rows, columns } = matrixOf(shape);
  return { inputs: columns, outputs: (rows * columns) / shape[1]! };
}
