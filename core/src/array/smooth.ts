/**
 * Smooth functions whose values are computed in pieces, so that nothing overflows. Taken from the pieces their second derivatives would be
 * wrong where the pieces meet: each has its own.
 */
import { isDifferentiable, isFloat } from "../graph/dtype.js";
import type { Aval } from "../graph/node.js";
import { bind, type Op, placeholder } from "./bind.js";
import {
  abs,
  add,
  cast,
  div,
  equal,
  exp,
  isinf,
  log1p,
  maximum,
  minimum,
  mul,
  neg,
  or,
  promote,
  sqrt,
  sub,
  type TensorLike,
  uniform,
  where,
} from "./elementwise.js";
import type { Tensor } from "./tensor.js";

/** A function of two tensors of one type, printed as the operations of `value`. */
function pieces(
  name: string,
  value: (x: Tensor, y: Tensor) => Tensor,
  slopes: (x: Tensor, y: Tensor, z: Tensor) => readonly [Tensor, Tensor],
): Op<Record<string, never>> {
  const op: Op<Record<string, never>> = {
    name,
    fusion: "element",
    shape: ([x]): readonly Aval[] => [{ shape: x!.shape, dtype: x!.dtype }],
    vjp: ({ inputs: [x, y], outputs: [z] }, [g]) =>
      g === undefined ? [undefined, undefined] : slopes(x!, y!, z!).map((slope) => mul(g, slope)),
    batch: (inputs, batched, _, size) => [bind(op, uniform(inputs, batched, size), {})],
    lower(lowering, { inputs }, operands) {
      const [x, y] = inputs.map(placeholder) as [Tensor, Tensor];
      return lowering.inline({ parameters: [x, y], outputs: [value(x, y)] }, operands);
    },
  };
  return op;
}

const logaddexpPrimitive = pieces(
  "logaddexp",
  (x, y) => {
    // Two equal infinities have no difference.
    const apart = where(equal(x, y), 0, neg(abs(sub(x, y))));
    return add(maximum(x, y), log1p(exp(apart)));
  },
  (x, y, z) => {
    // The share of each; both of two positive infinities count whole, as in jax.
    const finite = (t: Tensor): Tensor => where(equal(t, Number.POSITIVE_INFINITY), 0, t);
    return [exp(sub(finite(x), finite(z))), exp(sub(finite(y), finite(z)))];
  },
);

/** log(exp(x) + exp(y)), without overflow. */
export function logaddexp(x: TensorLike, y: TensorLike): Tensor {
  const operands = promote("logaddexp", x, y);
  return bind(logaddexpPrimitive, operands.map(floating), {});
}

/** log(1 + exp(x)), without overflow. */
export function softplus(x: Tensor): Tensor {
  return logaddexp(x, 0);
}

/** log sigmoid(x), without overflow. */
export function logSigmoid(x: Tensor): Tensor {
  return neg(softplus(neg(floating(x))));
}

const hypotPrimitive = pieces(
  "hypot",
  (x, y) => {
    const [a, b] = [abs(x), abs(y)];
    const [large, small] = [maximum(a, b), minimum(a, b)];
    const ratio = div(where(equal(large, 0), 0, small), where(equal(large, 0), 1, large));
    const length = mul(large, sqrt(add(mul(ratio, ratio), 1)));
    return where(or(isinf(a), isinf(b)), Number.POSITIVE_INFINITY, length);
  },
  (x, y, z) => {
    const length = where(equal(z, 0), 1, z);
    return [div(x, length), div(y, length)];
  },
);

/** sqrt(x² + y²), without overflow; its gradient at 0 is 0. */
export function hypot(x: TensorLike, y: TensorLike): Tensor {
  const operands = promote("hypot", x, y);
  return bind(
    hypotPrimitive,
    operands.map((t) => (isFloat(t.dtype) ? t : cast(t, "float32"))),
    {},
  );
}

/** Integers and bools in float32; everything else as it is. */
export function floating(x: Tensor): Tensor {
  return isDifferentiable(x.dtype) ? x : cast(x, "float32");
}
