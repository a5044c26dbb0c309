/**
 * Complex numbers: made of real parts, taken apart, conjugated.
 *
 * Derivatives follow JAX's convention: the cotangent of z = x + iy under a real loss is ∂L/∂x - i ∂L/∂y. A holomorphic function's rule is
 * then its real one, without conjugates; a descent step goes along the conjugate of the gradient.
 */
import { type DType, isComplex } from "../graph/dtype.js";
import { DTypeError } from "../graph/errors.js";
import { functionType, tensorType } from "../graph/lowering.js";
import { bind, type Op } from "./bind.js";
import { zerosLike } from "./broadcast.js";
import {
  atan2,
  cast,
  div,
  equal,
  mul,
  neg,
  promote,
  type TensorLike,
  uniform,
  where,
} from "./elementwise.js";
import { oncePerElement } from "./kinds.js";
import type { Tensor } from "./tensor.js";

type None = Record<string, never>;

/** The complex type with parts of the real type `dtype`. */
function complexType(operation: string, dtype: DType): DType {
  if (dtype === "float32") return "complex64";
  throw new DTypeError(
    `${operation} of ${dtype}`,
    'complex64 is the complex type and its parts are float32: convert with .astype("float32")',
  );
}

const complexPrimitive: Op<None> = {
  name: "complex",
  fusion: "element",
  shape: ([x]) => [{ shape: x!.shape, dtype: complexType("complex", x!.dtype) }],
  vjp: (_, [g]) => (g === undefined ? [undefined, undefined] : [real(g), neg(imag(g))]),
  batch: (inputs, batched, _, size) => [bind(complexPrimitive, uniform(inputs, batched, size), {})],
  lower: (lowering, { outputs: [z] }, [x, y]) =>
    lowering.emit(`stablehlo.complex ${x}, ${y} : ${tensorType(z!)}`),
};

/** `re` + i `im`, complex64; broadcasts. */
export function complex(re: TensorLike, im: TensorLike = 0): Tensor {
  const parts = promote("complex", re, im).map((x) =>
    isComplex(x.dtype) || x.dtype === "float32" ? x : cast(x, "float32"),
  );
  return bind(complexPrimitive, parts, {});
}

function part(name: "real" | "imag", cotangent: (g: Tensor) => Tensor): Op<None> {
  const op: Op<None> = {
    name,
    fusion: "element",
    shape: ([z]) => [{ shape: z!.shape, dtype: "float32" }],
    vjp: (_, [g]) => [g && cotangent(g)],
    batch: ([z]) => [bind(op, [z!], {})],
    lower: (lowering, { inputs, outputs }, [z]) =>
      lowering.emit(`stablehlo.${name} ${z} : ${functionType(inputs, outputs)}`),
  };
  return op;
}

const realPrimitive = part("real", (g) => complex(g, zerosLike(g)));
const imagPrimitive = part("imag", (g) => complex(zerosLike(g), neg(g)));

/** The real part; real tensors are their own. */
export function real(z: Tensor): Tensor {
  return isComplex(z.dtype) ? bind(realPrimitive, [z], {}) : z;
}

/** The imaginary part; zeros for real tensors. */
export function imag(z: Tensor): Tensor {
  return isComplex(z.dtype) ? bind(imagPrimitive, [z], {}) : zerosLike(z);
}

/** The complex conjugate; real tensors are their own. */
export function conj(z: Tensor): Tensor {
  return isComplex(z.dtype) ? complex(real(z), neg(imag(z))) : z;
}

/** The argument in (-π, π]: the angle of z in the complex plane. */
export function angle(z: Tensor): Tensor {
  return atan2(imag(z), real(z));
}

const magnitudePrimitive: Op<None> = {
  name: "complex_abs",
  ...oncePerElement,
  shape: ([z]) => [{ shape: z!.shape, dtype: "float32" }],
  vjp: ({ inputs: [z], outputs: [y] }, [g]) => [
    g && mul(complex(div(g, where(equal(y!, 0), 1, y!))), conj(z!)),
  ],
  batch: ([z]) => [bind(magnitudePrimitive, [z!], {})],
  lower: (lowering, { inputs, outputs }, [z]) =>
    lowering.emit(`stablehlo.abs ${z} : ${functionType(inputs, outputs)}`),
};

/** |z|, a real number; its gradient at 0 is 0. */
export function magnitude(z: Tensor): Tensor {
  return bind(magnitudePrimitive, [z], {});
}
