/** The chaining form of the operations: `x.matmul(w).add(b).gelu()`. */
import "./operators.js";
import type { DType } from "../graph/dtype.js";
import type { Shape } from "../graph/node.js";
import { broadcastTo, matrixTranspose, sum } from "./broadcast.js";
import { type DotOptions, matmul } from "./contraction.js";
import * as e from "./elementwise.js";
import { type SliceSpec, slice, take, takeAlongAxis } from "./indexing.js";
import { roll, split } from "./joining.js";
import * as n from "./numpy.js";
import { at, type Place, type PlaceSpec } from "./places.js";
import { tril, triu } from "./ranges.js";
import * as r from "./reductions.js";
import * as s from "./shaping.js";
import { logSigmoid, softplus } from "./smooth.js";
import { argsort, median, quantile, type SortOptions, sort, topK } from "./sorting.js";
import { Tensor } from "./tensor.js";
import * as w from "./windows.js";

type TensorLike = e.TensorLike;
type Axes = number | readonly number[];
type Running = { reverse?: boolean };

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
    cbrt(): Tensor;
    reciprocal(): Tensor;
    sin(): Tensor;
    cos(): Tensor;
    tan(): Tensor;
    asin(): Tensor;
    acos(): Tensor;
    atan(): Tensor;
    sinh(): Tensor;
    cosh(): Tensor;
    tanh(): Tensor;
    asinh(): Tensor;
    acosh(): Tensor;
    atanh(): Tensor;
    sigmoid(): Tensor;
    erf(): Tensor;
    erfc(): Tensor;
    erfinv(): Tensor;
    floor(): Tensor;
    ceil(): Tensor;
    round(): Tensor;
    relu(): Tensor;
    silu(): Tensor;
    gelu(options?: { approximate?: boolean }): Tensor;
    leakyRelu(slope?: number): Tensor;
    elu(alpha?: number): Tensor;
    softplus(): Tensor;
    logSigmoid(): Tensor;
    isnan(): Tensor;
    isfinite(): Tensor;
    isinf(): Tensor;
    nanToNum(nan?: number): Tensor;
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
    /** Euclidean norm of all elements, or along axes. */
    norm(axes?: Axes, options?: r.ReductionOptions): Tensor;
    median(axis?: number, options?: r.ReductionOptions): Tensor;
    quantile(q: number, axis?: number, options?: r.ReductionOptions): Tensor;

    /** Sums of the elements up to and with each, along an axis. */
    cumsum(axis?: number, options?: Running): Tensor;
    cumprod(axis?: number, options?: Running): Tensor;
    cummax(axis?: number, options?: Running): Tensor;
    cummin(axis?: number, options?: Running): Tensor;
    logcumsumexp(axis?: number, options?: Running): Tensor;
    /** Differences of neighbours along an axis. */
    diff(axis?: number): Tensor;
    sort(axis?: number, options?: SortOptions): Tensor;
    argsort(axis?: number, options?: SortOptions): Tensor;
    /** The `k` largest along the last axis, largest first, and where they stand. */
    topK(k: number): [values: Tensor, indices: Tensor];

    /** The same elements in another shape; one dimension may be -1. */
    reshape(shape: Shape): Tensor;
    flatten(start?: number, end?: number): Tensor;
    transpose(permutation?: readonly number[]): Tensor;
    swapAxes(a: number, b: number): Tensor;
    moveAxis(from: number, to: number): Tensor;
    expandDims(axes: Axes): Tensor;
    squeeze(axes?: Axes): Tensor;
    broadcastTo(shape: Shape): Tensor;
    /** Adds `widths[i] = [before, after]` elements of `value` around each axis. */
    pad(widths: readonly (readonly [number, number])[], value?: number): Tensor;
    /** Equal pieces of an axis, or pieces of the given sizes. */
    split(parts: number | readonly number[], axis?: number): Tensor[];
    /** The elements in reverse order along the axes (all by default). */
    flip(axes?: Axes): Tensor;
    roll(shift: number, axis?: number): Tensor;
    /** Each element `count` times in a row. */
    repeat(count: number, axis?: number): Tensor;
    /** The whole `counts[i]` times along each axis. */
    tile(counts: readonly number[]): Tensor;
    tril(offset?: number): Tensor;
    triu(offset?: number): Tensor;
    diagonal(options?: { offset?: number; axes?: readonly [number, number] }): Tensor;
    trace(offset?: number): Tensor;
    /** The transpose of the last two axes. */
    readonly mT: Tensor;

    /** NumPy's basic indexing: an index, [start, stop, step], or null for each axis. */
    slice(...specs: readonly SliceSpec[]): Tensor;
    /** Rows along `axis` at integer `indices`. */
    take(indices: TensorLike, axis?: number): Tensor;
    /** Along `axis`, the elements at `indices`, which has the shape of the result. */
    takeAlongAxis(indices: Tensor, axis?: number): Tensor;
    /** A place whose elements are read, or changed in a copy: `x.at(0, ids).add(1)`. */
    at(...specs: readonly PlaceSpec[]): Place;
    /** Matrix product. */
    matmul(other: Tensor, options?: DotOptions): Tensor;
  }
}

type Free = (x: Tensor, ...rest: never[]) => unknown;

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
  cbrt: e.cbrt,
  reciprocal: e.reciprocal,
  sin: e.sin,
  cos: e.cos,
  tan: e.tan,
  asin: e.asin,
  acos: e.acos,
  atan: e.atan,
  sinh: e.sinh,
  cosh: e.cosh,
  tanh: e.tanh,
  asinh: e.asinh,
  acosh: e.acosh,
  atanh: e.atanh,
  sigmoid: e.sigmoid,
  erf: e.erf,
  erfc: e.erfc,
  erfinv: e.erfinv,
  floor: e.floor,
  ceil: e.ceil,
  round: e.round,
  relu: e.relu,
  silu: e.silu,
  gelu: e.gelu,
  leakyRelu: n.leakyRelu,
  elu: n.elu,
  softplus,
  logSigmoid,
  isnan: e.isnan,
  isfinite: e.isfinite,
  isinf: e.isinf,
  nanToNum: n.nanToNum,
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
  norm: r.norm,
  median,
  quantile,
  cumsum: w.cumsum,
  cumprod: w.cumprod,
  cummax: w.cummax,
  cummin: w.cummin,
  logcumsumexp: w.logcumsumexp,
  diff: n.diff,
  sort,
  argsort,
  topK,
  reshape: s.reshape,
  flatten: s.flatten,
  transpose: s.transpose,
  swapAxes: s.swapAxes,
  moveAxis: s.moveAxis,
  expandDims: s.expandDims,
  squeeze: s.squeeze,
  broadcastTo,
  pad: s.pad,
  split,
  flip: s.flip,
  roll,
  repeat: n.repeat,
  tile: n.tile,
  tril,
  triu,
  diagonal: n.diagonal,
  trace: n.trace,
  slice,
  take,
  takeAlongAxis,
  at,
  matmul,
};

for (const [name, f] of Object.entries(functions)) {
  Object.defineProperty(Tensor.prototype, name, {
    configurable: true,
    writable: true,
    value(this: Tensor, ...rest: never[]): unknown {
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
