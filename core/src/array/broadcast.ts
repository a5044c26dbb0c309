/** Broadcasting and summation, which are each other's derivative. */
import { type DType, isDifferentiable } from "../graph/dtype.js";
import { DTypeError, ShapeError } from "../graph/errors.js";
import { functionType, type Lowering } from "../graph/lowering.js";
import type { Aval, Shape } from "../graph/node.js";
import { bind, type Op } from "./bind.js";
import { type CreationOptions, literal, type Scalar, scalar } from "./creation.js";
import { broadcastShapes, checkShape, normalizeAxes, sameShape, sizeOf } from "./shapes.js";
import { reshape, transpose } from "./shaping.js";
import { Tensor } from "./tensor.js";

const broadcastInDimPrimitive: Op<{ shape: Shape; dims: readonly number[] }> = {
  name: "broadcast_in_dim",
  fusion: "element",
  shape([x], { shape, dims }) {
    for (const [i, d] of dims.entries()) {
      if (x!.shape[i] !== 1 && x!.shape[i] !== shape[d]) {
        throw new ShapeError(
          `broadcast of [${x!.shape.join(", ")}] to [${shape.join(", ")}] along [${dims.join(", ")}]`,
        );
      }
    }
    return [{ shape, dtype: x!.dtype }];
  },
  vjp({ inputs: [x], attributes: { shape, dims } }, [g]) {
    if (g === undefined) return [undefined];
    const summed = shape.flatMap((d, axis) => {
      const i = dims.indexOf(axis);
      return i < 0 || (x!.shape[i] === 1 && d !== 1) ? [axis] : [];
    });
    return [reshape(reduceSum(g, summed), x!.shape)];
  },
  batch: ([x], _, { shape, dims }, size) => [
    broadcastInDim(x!, [size, ...shape], [0, ...dims.map((d) => d + 1)]),
  ],
  lower: (lowering, { inputs, outputs, attributes: { dims } }, [x]) =>
    lowering.emit(
      `stablehlo.broadcast_in_dim ${x}, dims = [${dims.join(", ")}] : ${functionType(inputs, outputs)}`,
    ),
};

/** Axis `i` of `x` becomes axis `dims[i]` (increasing) of the result; the others repeat it. */
export function broadcastInDim(x: Tensor, shape: Shape, dims: readonly number[]): Tensor {
  if (sameShape(x.shape, shape)) return x;
  return bind(broadcastInDimPrimitive, [x], { shape: [...shape], dims: [...dims] });
}

/** Repeats `x` to `shape` by NumPy's rules. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  checkShape("broadcastTo", shape);
  if (!sameShape(broadcastShapes("broadcastTo", x.shape, shape), shape)) {
    throw new ShapeError(`broadcastTo: [${x.shape.join(", ")}] does not broadcast to [${shape.join(", ")}]`);
  }
  const offset = shape.length - x.ndim;
  return broadcastInDim(
    x,
    shape,
    x.shape.map((_, i) => i + offset),
  );
}

const reduceSumPrimitive: Op<{ axes: readonly number[] }> = {
  name: "reduce_sum",
  fusion: "reduction",
  flops: ({ inputs: [x] }) => sizeOf(x!.shape),
  shape([x], { axes }) {
    if (x!.dtype === "bool") throw new DTypeError("sum of bool", 'count with .astype("int32") first');
    return [{ shape: x!.shape.filter((_, i) => !axes.includes(i)), dtype: x!.dtype }];
  },
  vjp({ inputs: [x], attributes: { axes } }, [g]) {
    if (g === undefined) return [undefined];
    return [
      broadcastInDim(
        g,
        x!.shape,
        x!.shape.flatMap((_, i) => (axes.includes(i) ? [] : [i])),
      ),
    ];
  },
  batch: ([x], _, { axes }) => [
    reduceSum(
      x!,
      axes.map((a) => a + 1),
    ),
  ],
  lower: (lowering, { inputs: [x], outputs: [y], attributes: { axes } }, [name]) =>
    lowerReduction(lowering, { mlir: "stablehlo.add", initial: 0 }, [name!, x!], y!, axes),
};

/**
 * Writes a reduction. Sums and products of 16-bit floats are computed in float32 and rounded once, as jax.numpy does: 256 ones in bfloat16
 * would else stay 256 whatever is added.
 */
export function lowerReduction(
  lowering: Lowering,
  { mlir, initial }: { mlir: string; initial: Scalar },
  [name, x]: readonly [name: string, aval: Aval],
  y: Aval,
  axes: readonly number[],
): readonly string[] {
  const accumulates = mlir === "stablehlo.add" || mlir === "stablehlo.multiply";
  const widens = accumulates && (x.dtype === "bfloat16" || x.dtype === "float16");
  const wide = ({ shape, dtype }: Aval): Aval => ({ shape, dtype: widens ? "float32" : dtype });
  const convert = (value: string, from: Aval, to: Aval): string =>
    widens ? lowering.emit(`stablehlo.convert ${value} : ${functionType([from], [to])}`)[0]! : value;
  const { dtype } = wide(x);
  const init = lowering.constant(literal(initial, dtype), dtype);
  const operand = convert(name, x, wide(x));
  const [reduced] = lowering.emit(
    `stablehlo.reduce(${operand} init: ${init}) applies ${mlir} across dimensions = [${axes.join(", ")}] : ${functionType([wide(x), { shape: [], dtype }], [wide(y)])}`,
  );
  return [convert(reduced!, wide(y), y)];
}

/** Sum over `axes` (normalized), which go. */
export function reduceSum(x: Tensor, axes: readonly number[]): Tensor {
  return axes.length === 0 ? x : bind(reduceSumPrimitive, [x], { axes: [...axes] });
}

/** Sum over the axes (all by default); with `keepDims` they stay with length 1. */
export function sum(x: Tensor, axes?: number | readonly number[], { keepDims = false } = {}): Tensor {
  const list = normalizeAxes("sum", axes, x.ndim);
  const result = reduceSum(x, list);
  return keepDims ? keep(result, x.shape, list) : result;
}

/** Puts reduced axes back with length 1. */
export function keep(reduced: Tensor, shape: Shape, axes: readonly number[]): Tensor {
  return reshape(
    reduced,
    shape.map((d, i) => (axes.includes(i) ? 1 : d)),
  );
}

/** An array of `shape` filled with `value`: of numbers float32, of booleans bool, of bigints int32, unless told otherwise. */
export function full(shape: Shape, value: Scalar | Tensor, options: CreationOptions = {}): Tensor {
  checkShape("full", shape);
  const x = value instanceof Tensor ? value : scalar(value, options.dtype ?? defaultDType(value));
  if (x.ndim !== 0)
    throw new ShapeError(`full: the value has shape [${x.shape.join(", ")}]`, "give a scalar");
  return broadcastInDim(x, shape, []);
}

/** The dtype that a lone JavaScript scalar takes: it does not depend on the value, for 1.0 is 1 in JavaScript. */
export function defaultDType(value: Scalar): DType {
  if (typeof value === "boolean") return "bool";
  return typeof value === "bigint" ? "int32" : "float32";
}

/** Zeros; float32 unless told otherwise. */
export function zeros(shape: Shape, { dtype = "float32" }: CreationOptions = {}): Tensor {
  return full(shape, dtype === "bool" ? false : 0, { dtype });
}

/** Ones; float32 unless told otherwise. */
export function ones(shape: Shape, { dtype = "float32" }: CreationOptions = {}): Tensor {
  return full(shape, dtype === "bool" ? true : 1, { dtype });
}

export function zerosLike(x: { shape: Shape; dtype: DType }): Tensor {
  return zeros(x.shape, { dtype: x.dtype });
}

export function onesLike(x: { shape: Shape; dtype: DType }): Tensor {
  return ones(x.shape, { dtype: x.dtype });
}

/** Whether gradients can flow through `x`. */
export function differentiable(x: Tensor): boolean {
  return isDifferentiable(x.dtype);
}

/** `x` with an axis of `size` in front, repeated: what an unbatched operand becomes beside batched ones. */
export function addBatchAxis(x: Tensor, size: number): Tensor {
  return broadcastInDim(
    x,
    [size, ...x.shape],
    x.shape.map((_, i) => i + 1),
  );
}

/** Matrix transpose of the last two axes. */
export function matrixTranspose(x: Tensor): Tensor {
  if (x.ndim < 2)
    throw new ShapeError(`matrix transpose of shape [${x.shape.join(", ")}]`, "give at least two dimensions");
  return transpose(x, [...x.shape.keys()].slice(0, -2).concat(x.ndim - 1, x.ndim - 2));
}
