/** How parameters begin; the names and numbers of `torch.nn.init`. */
import { full } from "../array/broadcast.js";
import { mul, sign } from "../array/elementwise.js";
import { qr } from "../array/linalg.js";
import { diagonal } from "../array/numpy.js";
import { type Key, normal, truncatedNormal, uniform } from "../array/random.js";
import { reshape, transpose } from "../array/shaping.js";
import { Tensor } from "../array/tensor.js";
import type { DType } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import type { Shape } from "../graph/node.js";

/** Draws a parameter of a shape and type. */
export type Initializer = (key: Key, shape: Shape, dtype: DType) => Tensor;

/**
 * Initializers of a kind, by one number: `kaimingUniform(2)` is one, `kaimingUniform()` has the default, and `kaimingUniform` itself may be
 * given where an initializer is asked for.
 */
export interface InitializerFamily extends Initializer {
  (value?: number): Initializer;
}

interface Family {
  readonly name: string;
  /** What the number is, and the one that is taken where none is given. */
  readonly parameter: string;
  readonly standard: number;
  /** Whether any number will do, not only those from 0. */
  readonly signed?: boolean;
}

function family({ name, parameter, standard, signed = false }: Family, make: (value: number) => Initializer) {
  // Equal initializers are one function, so that a program that draws a parameter serves all layers.
  const known = new Map<number, Initializer>();
  const of = (value: unknown): Initializer => {
    if (typeof value !== "number" || Number.isNaN(value) || !(signed || (value >= 0 && value < Infinity))) {
      const plain = typeof value === "number" || value instanceof Tensor;
      throw new ArgumentError(
        `${name}: the ${parameter} is ${plain ? String(value) : JSON.stringify(value)}`,
        `give a number${signed ? "" : " of at least 0"}, or nothing for ${Number(standard.toFixed(4))}`,
      );
    }
    const init = known.get(value) ?? make(value);
    known.set(value, init);
    return init;
  };
  function either(value?: number): Initializer;
  function either(key: Key, shape: Shape, dtype: DType): Tensor;
  function either(first: number | Key = standard, shape?: Shape, dtype: DType = "float32"): unknown {
    return shape === undefined ? of(first) : of(standard)(first as Key, shape, dtype);
  }
  return either as InitializerFamily;
}

/** Normal with mean 0 and the given standard deviation, by default 0.02. */
export const normalInit = family(
  { name: "normalInit", parameter: "standard deviation", standard: 0.02 },
  (std) => (key, shape, dtype) => mul(normal(key, shape, { dtype }), std),
);

/** Uniform in ±bound, by default 0.05. */
export const uniformInit = family(
  { name: "uniformInit", parameter: "bound", standard: 0.05 },
  (bound) => (key, shape, dtype) => uniform(key, shape, { dtype, low: -bound, high: bound }),
);

/** Normal, cut at two standard deviations; the standard deviation before the cut is by default 0.02. */
export const truncatedNormalInit = family(
  { name: "truncatedNormalInit", parameter: "standard deviation", standard: 0.02 },
  (std) => (key, shape, dtype) => mul(truncatedNormal(key, shape, { dtype }), std),
);

/** One value everywhere, by default 0. */
export const constantInit = family(
  { name: "constantInit", parameter: "value", standard: 0, signed: true },
  (value) => (_key, shape, dtype) => full(shape, value, { dtype }),
);

/** Uniform in ±1/sqrt(fan in): PyTorch's default for linear layers and convolutions. */
export const fanInUniform: Initializer = (key, shape, dtype) => {
  const bound = 1 / Math.sqrt(fans("fanInUniform", shape).inputs);
  return uniform(key, shape, { dtype, low: -bound, high: bound });
};

/**
 * Uniform with variance 2 gain² / (fan in + fan out) (Glorot & Bengio 2010). `gain` as of the nonlinearity after it: 1 (the default), sqrt(2)
 * for ReLU.
 */
export const xavierUniform = family(
  { name: "xavierUniform", parameter: "gain", standard: 1 },
  (gain) => (key, shape, dtype) => {
    const { inputs, outputs } = fans("xavierUniform", shape);
    const bound = gain * Math.sqrt(6 / (inputs + outputs));
    return uniform(key, shape, { dtype, low: -bound, high: bound });
  },
);

/** Normal with the variance of `xavierUniform`. */
export const xavierNormal = family(
  { name: "xavierNormal", parameter: "gain", standard: 1 },
  (gain) => (key, shape, dtype) => {
    const { inputs, outputs } = fans("xavierNormal", shape);
    return mul(normal(key, shape, { dtype }), gain * Math.sqrt(2 / (inputs + outputs)));
  },
);

/** Uniform with variance gain² / fan in (He et al. 2015): sqrt(2), the default, for ReLU. */
export const kaimingUniform = family(
  { name: "kaimingUniform", parameter: "gain", standard: Math.SQRT2 },
  (gain) => (key, shape, dtype) => {
    const bound = gain * Math.sqrt(3 / fans("kaimingUniform", shape).inputs);
    return uniform(key, shape, { dtype, low: -bound, high: bound });
  },
);

/** Normal with the variance of `kaimingUniform`. */
export const kaimingNormal = family(
  { name: "kaimingNormal", parameter: "gain", standard: Math.SQRT2 },
  (gain) => (key, shape, dtype) =>
    mul(normal(key, shape, { dtype }), gain / Math.sqrt(fans("kaimingNormal", shape).inputs)),
);

/** Orthonormal rows or columns, whichever are fewer, of the matrix [outputs, the rest] (Saxe et al. 2013), times `gain` (default 1). */
export const orthogonal = family(
  { name: "orthogonal", parameter: "gain", standard: 1 },
  (gain) => (key, shape, dtype) => {
    const { rows, columns } = matrixOf("orthogonal", shape);
    const [tall, narrow] = [Math.max(rows, columns), Math.min(rows, columns)];
    const [q, r] = qr(normal(key, [tall, narrow]));
    // The signs of R's diagonal make the distribution uniform (Mezzadri 2006).
    const signed = mul(q, sign(diagonal(r)));
    return mul(reshape(rows < columns ? transpose(signed) : signed, shape), gain).astype(dtype);
  },
);

function matrixOf(name: string, shape: Shape): { rows: number; columns: number } {
  if (shape.length < 2 || shape.includes(0))
    throw new ArgumentError(
      `${name} of shape [${shape.join(", ")}], which has no number of inputs and outputs`,
      "use it for weights [outputs, inputs, ...kernel], and constantInit, normalInit or uniformInit for the others",
    );
  return { rows: shape[0]!, columns: shape.slice(1).reduce((a, b) => a * b, 1) };
}

/** Numbers of inputs and outputs of one output and input of a weight [outputs, inputs, ...kernel]. */
function fans(name: string, shape: Shape): { inputs: number; outputs: number } {
  const { rows, columns } = matrixOf(name, shape);
  return { inputs: columns, outputs: (rows * columns) / shape[1]! };
}
