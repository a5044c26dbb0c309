/** Reductions along axes other than sums (broadcast.ts), and what is built from them. */
import { type DType, isComplex, isFloat, isInteger, itemSize } from "../graph/dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../graph/errors.js";
import { functionType, scalarType, tensorType } from "../graph/lowering.js";
import { bind, type Op } from "./bind.js";
import { broadcastInDim, keep, lowerReduction, reduceSum, sum } from "./broadcast.js";
import { imag, real } from "./complex.js";
import { iota, literal, type Scalar } from "./creation.js";
import {
  add,
  cast,
  div,
  equal,
  exp,
  log,
  mul,
  notEqual,
  sqrt,
  stopGradient,
  sub,
  where,
} from "./elementwise.js";
import { INTEGERS } from "./given.js";
import { limits } from "./hostdata.js";
import { checkShape, normalizeAxes, normalizeAxis, sizeOf } from "./shapes.js";
import { inverse, reshape, squeeze, transpose } from "./shaping.js";
import { floating } from "./smooth.js";
import type { Tensor } from "./tensor.js";
import { productsBefore } from "./windows.js";

interface Reduction {
  readonly mlir: string;
  readonly initial: (dtype: DType) => Scalar;
}

const infinity = (dtype: DType, sign: 1 | -1): Scalar =>
  isFloat(dtype) && dtype !== "float8_e4m3fn"
    ? sign * Number.POSITIVE_INFINITY
    : dtype === "bool"
      ? sign > 0
      : limits(dtype)[sign > 0 ? "max" : "min"];

const table = {
  reduce_max: { mlir: "stablehlo.maximum", initial: (dtype) => infinity(dtype, -1) },
  reduce_min: { mlir: "stablehlo.minimum", initial: (dtype) => infinity(dtype, 1) },
  reduce_prod: { mlir: "stablehlo.multiply", initial: () => 1 },
  reduce_and: { mlir: "stablehlo.and", initial: () => true },
  reduce_or: { mlir: "stablehlo.or", initial: () => false },
} as const satisfies Record<string, Reduction>;

type Name = keyof typeof table;
interface Axes {
  readonly [name: string]: unknown;
  readonly axes: readonly number[];
}

/** Puts a reduced value back along its axes. */
function spread(reduced: Tensor, like: Tensor, axes: readonly number[]): Tensor {
  return broadcastInDim(
    reduced,
    like.shape,
    like.shape.flatMap((_, i) => (axes.includes(i) ? [] : [i])),
  );
}

function reduction(name: Name): Op<Axes> {
  const { mlir, initial }: Reduction = table[name];
  const logical = name === "reduce_and" || name === "reduce_or";
  return {
    name,
    zeroDerivative: logical,
    fusion: "reduction",
    flops: ({ inputs: [x] }) => sizeOf(x!.shape),
    shape([x], { axes }) {
      if (logical && x!.dtype !== "bool")
        throw new DTypeError(`${name} of ${x!.dtype}`, "compare first: it takes bool");
      return [{ shape: x!.shape.filter((_, i) => !axes.includes(i)), dtype: x!.dtype }];
    },
    ...(!logical && {
      vjp({ inputs: [x], outputs: [y], attributes: { axes } }, [g]) {
        if (g === undefined) return [undefined];
        if (name === "reduce_prod") return [productCotangent(g, x!, axes)];
        // Equal extrema share the cotangent.
        const at = cast(equal(x!, spread(y!, x!, axes)), x!.dtype);
        return [mul(at, spread(div(g, reduceSum(at, axes)), x!, axes))];
      },
    }),
    batch: ([x], _, { axes }) => [bind(ops[name], [x!], { axes: axes.map((a) => a + 1) })],
    lower: (lowering, { inputs: [x], outputs: [y], attributes: { axes } }, [operand]) =>
      lowerReduction(lowering, { mlir, initial: initial(x!.dtype) }, [operand!, x!], y!, axes),
  };
}

const ops: Record<Name, Op<Axes>> = {
  reduce_max: reduction("reduce_max"),
  reduce_min: reduction("reduce_min"),
  reduce_prod: reduction("reduce_prod"),
  reduce_and: reduction("reduce_and"),
  reduce_or: reduction("reduce_or"),
};

/** The cotangent of a product: the products of all other elements, from those before each and after it. Right where there are zeros, to any order. */
function productCotangent(g: Tensor, x: Tensor, axes: readonly number[]): Tensor {
  const order = [...x.shape.keys()].filter((a) => !axes.includes(a)).concat(axes);
  const apart = transpose(x, order);
  const rows = reshape(apart, [...apart.shape.slice(0, -axes.length), -1]);
  const others = mul(productsBefore(rows), productsBefore(rows, { reverse: true }));
  return mul(spread(g, x, axes), transpose(reshape(others, apart.shape), inverse(order)));
}

export interface ReductionOptions {
  /** Reduced axes stay with length 1. */
  keepDims?: boolean;
}

type AxesArgument = number | readonly number[] | undefined;

function reduce(
  name: Name,
  label: string,
  x: Tensor,
  axes: AxesArgument,
  { keepDims = false }: ReductionOptions,
): Tensor {
  const list = normalizeAxes(label, axes, x.ndim);
  if ((name === "reduce_max" || name === "reduce_min") && list.some((a) => x.shape[a] === 0)) {
    throw new ShapeError(
      `${label} over an axis of length 0 of [${x.shape.join(", ")}]`,
      "an extremum needs an element",
    );
  }
  const reduced = list.length === 0 ? x : bind(ops[name], [x], { axes: list });
  return keepDims ? keep(reduced, x.shape, list) : reduced;
}

/** Largest element along the axes (all by default). */
export function max(x: Tensor, axes?: AxesArgument, options: ReductionOptions = {}): Tensor {
  return reduce("reduce_max", "max", x, axes, options);
}

/** Smallest element along the axes (all by default). */
export function min(x: Tensor, axes?: AxesArgument, options: ReductionOptions = {}): Tensor {
  return reduce("reduce_min", "min", x, axes, options);
}

/** Product along the axes (all by default). */
export function prod(x: Tensor, axes?: AxesArgument, options: ReductionOptions = {}): Tensor {
  return reduce("reduce_prod", "prod", x, axes, options);
}

/** Whether all elements are true (not zero). */
export function all(x: Tensor, axes?: AxesArgument, options: ReductionOptions = {}): Tensor {
  return reduce("reduce_and", "all", cast(x, "bool"), axes, options);
}

/** Whether any element is true (not zero). */
export function any(x: Tensor, axes?: AxesArgument, options: ReductionOptions = {}): Tensor {
  return reduce("reduce_or", "any", cast(x, "bool"), axes, options);
}

/** In float32 if the type is narrower: what is rounded once, at the end. */
function widened(x: Tensor): Tensor {
  return x.dtype === "bfloat16" || x.dtype === "float16" ? cast(x, "float32") : floating(x);
}

/** Arithmetic mean; integers are averaged in float32, and 16-bit floats too before the result is rounded. */
export function mean(x: Tensor, axes?: AxesArgument, { keepDims = false }: ReductionOptions = {}): Tensor {
  const list = normalizeAxes("mean", axes, x.ndim);
  const count = list.reduce((n, a) => n * x.shape[a]!, 1);
  const average = cast(div(reduceSum(widened(x), list), count), floating(x).dtype);
  return keepDims ? keep(average, x.shape, list) : average;
}

/** Variance; `correction` is subtracted from the count (1 for the unbiased estimate). */
export function variance(
  x: Tensor,
  axes?: AxesArgument,
  { keepDims = false, correction = 0 }: ReductionOptions & { correction?: number } = {},
): Tensor {
  // The mean square of the distance from the mean, which of complex numbers is the sum of the parts' variances.
  if (isComplex(x.dtype)) {
    const of = (part: Tensor): Tensor => variance(part, axes, { keepDims, correction });
    return add(of(real(x)), of(imag(x)));
  }
  const list = normalizeAxes("variance", axes, x.ndim);
  const count = list.reduce((n, a) => n * x.shape[a]!, 1);
  const wide = widened(x);
  const centred = sub(wide, mean(wide, list, { keepDims: true }));
  const squares = reduceSum(mul(centred, centred), list);
  const result = cast(div(squares, count - correction), floating(x).dtype);
  return keepDims ? keep(result, x.shape, list) : result;
}

/** Square root of the variance. */
export function std(
  x: Tensor,
  axes?: AxesArgument,
  options: ReductionOptions & { correction?: number } = {},
): Tensor {
  return sqrt(variance(x, axes, options));
}

/** log Σ exp(x), without overflow. */
export function logsumexp(
  x: Tensor,
  axes?: AxesArgument,
  { keepDims = false }: ReductionOptions = {},
): Tensor {
  const list = normalizeAxes("logsumexp", axes, x.ndim);
  const input = floating(x);
  if (list.some((a) => x.shape[a] === 0)) return log(sum(input, list, { keepDims }));
  const top = stopGradient(max(input, list, { keepDims: true }));
  const shift = where(notEqual(sub(top, top), 0), 0, top);
  const result = add(log(reduceSum(exp(sub(input, shift)), list)), squeeze(shift, list));
  return keepDims ? keep(result, x.shape, list) : result;
}

/** exp(x) / Σ exp(x) along an axis (the last by default). */
export function softmax(x: Tensor, axis: number | readonly number[] = -1): Tensor {
  const list = normalizeAxes("softmax", axis, x.ndim);
  const input = floating(x);
  if (x.size === 0) return input;
  const weights = exp(sub(input, stopGradient(max(input, list, { keepDims: true }))));
  return div(weights, keep(reduceSum(weights, list), x.shape, list));
}

/** log softmax(x) along an axis (the last by default). */
export function logSoftmax(x: Tensor, axis: number | readonly number[] = -1): Tensor {
  const list = normalizeAxes("logSoftmax", axis, x.ndim);
  const input = floating(x);
  if (x.size === 0) return input;
  const shifted = sub(input, stopGradient(max(input, list, { keepDims: true })));
  return sub(shifted, log(keep(reduceSum(exp(shifted), list), x.shape, list)));
}

interface ArgAttributes {
  readonly [name: string]: unknown;
  readonly axis: number;
  readonly largest: boolean;
}

/** argmax and argmin: a reduction of (value, index) pairs; the first of equal extrema, and NaN beats all, as in NumPy. */
const argPrimitive: Op<ArgAttributes> = {
  name: "argreduce",
  fusion: "reduction",
  flops: ({ inputs: [x] }) => sizeOf(x!.shape),
  zeroDerivative: true,
  shape: ([x], { axis }) => [{ shape: x!.shape.filter((_, i) => i !== axis), dtype: "int32" }],
  batch: ([x], _, { axis, largest }) => [bind(argPrimitive, [x!], { axis: axis + 1, largest })],
  lower(lowering, { inputs: [x], outputs: [y], attributes: { axis, largest } }, [operand]) {
    const { dtype } = x!;
    const s = scalarType(dtype);
    const init = lowering.constant(literal(infinity(dtype, largest ? -1 : 1), dtype), dtype);
    const zero = lowering.constant("0", "int32");
    const indices = { shape: x!.shape, dtype: "int32" as const };
    const counted = lowering.emit(`stablehlo.iota dim = ${axis} : ${tensorType(indices)}`)[0];
    const kind = isFloat(dtype) ? "FLOAT" : dtype.startsWith("u") || dtype === "bool" ? "UNSIGNED" : "SIGNED";
    const better = largest ? "GT" : "LT";
    const [scalar, place] = [
      { shape: [], dtype },
      { shape: [], dtype: "int32" as const },
    ];
    const write = (): readonly [string[], (typeof scalar | typeof place)[]] => {
      const b = (text: string): string => lowering.emit(text)[0]!;
      const wins = b(`stablehlo.compare ${better}, %av, %bv, ${kind} : (${s}, ${s}) -> tensor<i1>`);
      const nan = b(`stablehlo.compare NE, %av, %av, ${kind} : (${s}, ${s}) -> tensor<i1>`);
      const first = b(`stablehlo.or ${wins}, ${nan} : tensor<i1>`);
      const tie = b(`stablehlo.compare EQ, %av, %bv, ${kind} : (${s}, ${s}) -> tensor<i1>`);
      const nanB = b(`stablehlo.compare NE, %bv, %bv, ${kind} : (${s}, ${s}) -> tensor<i1>`);
      const bothNan = b(`stablehlo.and ${nan}, ${nanB} : tensor<i1>`);
      const same = b(`stablehlo.or ${tie}, ${bothNan} : tensor<i1>`);
      const lower = b("stablehlo.compare LT, %ai, %bi, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>");
      const index = b(`stablehlo.select ${same}, ${lower}, ${first} : tensor<i1>, tensor<i1>`);
      const value = b(`stablehlo.select ${first}, %av, %bv : tensor<i1>, ${s}`);
      const chosen = b(`stablehlo.select ${index}, %ai, %bi : tensor<i1>, tensor<i32>`);
      return [
        [value, chosen],
        [scalar, place],
      ];
    };
    const results = lowering.withRegions(
      `stablehlo.reduce(${operand} init: ${init}), (${counted} init: ${zero}) across dimensions = [${axis}] : ${functionType([x!, indices, scalar, place], [{ shape: y!.shape, dtype }, y!])}`,
      [{ head: ` reducer(%av: ${s}, %bv: ${s}) (%ai: tensor<i32>, %bi: tensor<i32>) {`, write }],
      "",
      2,
    );
    return [results[1]!];
  },
};

function argReduce(label: string, x: Tensor, axis: number, largest: boolean): Tensor {
  const along = normalizeAxis(label, axis, x.ndim);
  if (x.shape[along] === 0)
    throw new ArgumentError(`${label} over an axis of length 0 of [${x.shape.join(", ")}]`);
  return bind(argPrimitive, [x], { axis: along, largest });
}

/** Index (int32) of the largest element along an axis, the first of equal ones. */
export function argmax(x: Tensor, axis = -1): Tensor {
  return argReduce("argmax", x, axis, true);
}

/** Index (int32) of the smallest element along an axis, the first of equal ones. */
export function argmin(x: Tensor, axis = -1): Tensor {
  return argReduce("argmin", x, axis, false);
}

/** Euclidean norm of all elements, or along axes. */
export function norm(x: Tensor, axes?: AxesArgument, { keepDims = false }: ReductionOptions = {}): Tensor {
  const list = normalizeAxes("norm", axes, x.ndim);
  const squares = (t: Tensor): Tensor => reduceSum(mul(t, t), list);
  const result = sqrt(isComplex(x.dtype) ? add(squares(real(x)), squares(imag(x))) : squares(floating(x)));
  return keepDims ? keep(result, x.shape, list) : result;
}

/** One for the index in `indices`, zero elsewhere, along a new last axis of `classes`. */
export function oneHot(indices: Tensor, classes: number, { dtype = "float32" as DType } = {}): Tensor {
  if (!isInteger(indices.dtype))
    throw new DTypeError(`oneHot of ${indices}`, `it takes integers: ${INTEGERS}`);
  checkShape("oneHot", [classes]);
  // Classes may be more than a narrow type can count.
  const at = itemSize(indices.dtype) < 4 ? cast(indices, "int32") : indices;
  const shape = [...at.shape, classes];
  const expanded = broadcastInDim(
    at,
    shape,
    at.shape.map((_, i) => i),
  );
  return cast(equal(iota(shape, at.ndim, { dtype: at.dtype }), expanded), dtype);
}
