/** The chaining form of the operations: `x.matmul(w).add(b).gelu()`. */
import type { DType } from "../graph/dtype.js";
import type { Shape } from "../graph/node.js";
import { broadcastTo, matrixTranspose, sum } from "./broadcast.js";
import { type DotOptions, matmul } from "./contraction.js";
import * as e from "./elementwise.js";
import { type SliceSpec, slice, take } from "./indexing.js";
import * as r from "./reductions.js";
import * as s from "./shaping.js";
import { Tensor } from "./tensor.js";

type TensorLike = e.TensorLike;
type Axes = number | readonly number[];

declare module "./tensor.js" {
  interface Tensor {
    add(other: TensorLike): Tensor;
    sub(other: TensorLike): Tensor;
    mul(other: TensorLike): Tensor;
    /** Quotient in floating point. */
    div(other: TensorLike): Tensor;
    floorDiv(other: TensorLike): Tensor;
    /** Remainder with the divisor's sign, as in Python. */
    mod(other: TensorLike): Tensor;
    pow(exponent: TensorLike): Tensor;
    maximum(other: TensorLike): Tensor;
    minimum(other: TensorLike): Tensor;
    equal(other: TensorLike): Tensor;
    notEqual(other: TensorLike): Tensor;
    less(other: TensorLike): Tensor;
    lessEqual(other: TensorLike): Tensor;
    greater(other: TensorLike): Tensor;
    greaterEqual(other: TensorLike): Tensor;
    and(other: TensorLike): Tensor;
    or(other: TensorLike): Tensor;
    xor(other: TensorLike): Tensor;
    not(): Tensor;
    neg(): Tensor;
    abs(): Tensor;
    sign(): Tensor;
    square(): Tensor;
    exp(): Tensor;
    expm1(): Tensor;
    log(): Tensor;
    log1p(): Tensor;
    sqrt(): Tensor;
    rsqrt(): Tensor;
    sin(): Tensor;
    cos(): Tensor;
    tanh(): Tensor;
    sigmoid(): Tensor;
    erf(): Tensor;
    floor(): Tensor;
    ceil(): Tensor;
    round(): Tensor;
    relu(): Tensor;
    silu(): Tensor;
    gelu(options?: { approximate?: boolean }): Tensor;
    clip(low?: TensorLike, high?: TensorLike): Tensor;
    astype(dtype: DType, options?: e.CastOptions): Tensor;
    stopGradient(): Tensor;

    sum(axes?: Axes, options?: r.ReductionOptions): Tensor;
    mean(axes?: Axes, options?: r.ReductionOptions): Tensor;
    max(axes?: Axes, options?: r.ReductionOptions): Tensor;
    min(axes?: Axes, options?: r.ReductionOptions): Tensor;
    prod(axes?: Axes, options?: r.ReductionOptions): Tensor;
    all(axes?: Axes, options?: r.ReductionOptions): Tensor;
    any(axes?: Axes, options?: r.ReductionOptions): Tensor;
    variance(axes?: Axes, options?: r.ReductionOptions & { correction?: number }): Tensor;
    std(axes?: Axes, options?: r.ReductionOptions & { correction?: number }): Tensor;
    argmax(axis?: number): Tensor;
    argmin(axis?: number): Tensor;
    softmax(axis?: Axes): Tensor;
    logSoftmax(axis?: Axes): Tensor;
    logsumexp(axes?: Axes, options?: r.ReductionOptions): Tensor;

    /** The same elements in another shape; one dimension may be -1. */
    reshape(shape: Shape): Tensor;
    flatten(start?: number, end?: number): Tensor;
    transpose(permutation?: readonly number[]): Tensor;
    swapAxes(a: number, b: number): Tensor;
    moveAxis(from: number, to: number): Tensor;
    expandDims(axes: Axes): Tensor;
    squeeze(axes?: Axes): Tensor;
    broadcastTo(shape: Shape): Tensor;
    /** The transpose of the last two axes. */
    readonly mT: Tensor;

    /** NumPy's basic indexing: an index, [start, stop, step], or null for each axis. */
    slice(...specs: readonly SliceSpec[]): Tensor;
    /** Rows along `axis` at integer `indices`. */
    take(indices: TensorLike, axis?: number): Tensor;
    /** Matrix product. */
    matmul(other: Tensor, options?: DotOptions): Tensor;
  }
}

type Free = (x: Tensor, ...rest: never[]) => Tensor;

const functions: Record<string, Free> = {
  add: e.add,
  sub: e.sub,
  mul: e.mul,
  div: e.div,
  floorDiv: e.floorDiv,
  mod: e.mod,
  pow: e.pow,
  maximum: e.maximum,
  minimum: e.minimum,
  equal: e.equal,
  notEqual: e.notEqual,
  less: e.less,
  lessEqual: e.lessEqual,
  greater: e.greater,
  greaterEqual: e.greaterEqual,
  and: e.and,
  or: e.or,
  xor: e.xor,
  not: e.not,
  neg: e.neg,
  abs: e.abs,
  sign: e.sign,
  square: e.square,
  exp: e.exp,
  expm1: e.expm1,
  log: e.log,
  log1p: e.log1p,
  sqrt: e.sqrt,
  rsqrt: e.rsqrt,
  sin: e.sin,
  cos: e.cos,
  tanh: e.tanh,
  sigmoid: e.sigmoid,
  erf: e.erf,
  floor: e.floor,
  ceil: e.ceil,
  round: e.round,
  relu: e.relu,
  silu: e.silu,
  gelu: e.gelu,
  clip: e.clip,
  astype: e.cast,
  stopGradient: e.stopGradient,
  sum,
  mean: r.mean,
  max: r.max,
  min: r.min,
  prod: r.prod,
  all: r.all,
  any: r.any,
  variance: r.variance,
  std: r.std,
  argmax: r.argmax,
  argmin: r.argmin,
  softmax: r.softmax,
  logSoftmax: r.logSoftmax,
  logsumexp: r.logsumexp,
  reshape: s.reshape,
  flatten: s.flatten,
  transpose: s.transpose,
  swapAxes: s.swapAxes,
  moveAxis: s.moveAxis,
  expandDims: s.expandDims,
  squeeze: s.squeeze,
  broadcastTo,
  slice,
  take,
  matmul,
};

for (const [name, f] of Object.entries(functions)) {
  Object.defineProperty(Tensor.prototype, name, {
    configurable: true,
    writable: true,
    value(this: Tensor, ...rest: never[]): Tensor {
      return f(this, ...rest);
    },
  });
}

Object.defineProperty(Tensor.prototype, "mT", {
  configurable: true,
  get(this: Tensor): Tensor {
    return matrixTranspose(this);
  },
});
