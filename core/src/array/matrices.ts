/** Helpers of the linear algebra: checks, products in full precision, parts of matrices. */
import { DTypeError, ShapeError } from "../graph/errors.js";
import type { Aval } from "../graph/node.js";
import { broadcastTo, matrixTranspose, reduceSum, zerosLike } from "./broadcast.js";
import { matmul } from "./contraction.js";
import { iota } from "./creation.js";
import { equal, where } from "./elementwise.js";
import { eye } from "./ranges.js";
import { expandDims } from "./shaping.js";
import type { Tensor } from "./tensor.js";

/** The last two dimensions of a tensor that linear algebra takes: at least two, float32 or float64. */
export function dimensions(operation: string, x: Aval): [rows: number, columns: number] {
  if (x.shape.length < 2) {
    throw new ShapeError(
      `${operation} of shape [${x.shape.join(", ")}]`,
      "it takes matrices: give at least two dimensions",
    );
  }
  if (x.dtype !== "float32" && x.dtype !== "float64") {
    throw new DTypeError(
      `${operation} of ${x.dtype}`,
      'it takes float32 and float64: convert with .astype("float32")',
    );
  }
  return [x.shape.at(-2)!, x.shape.at(-1)!];
}

/** The side of a square matrix. */
export function squareSide(operation: string, x: Aval): number {
  const [rows, columns] = dimensions(operation, x);
  if (rows !== columns) {
    throw new ShapeError(
      `${operation} of [${x.shape.join(", ")}]`,
      "it takes square matrices: the last two dimensions must be equal",
    );
  }
  return rows;
}

/** Matrix product without the shortcuts of fast units. */
export function product(x: Tensor, y: Tensor): Tensor {
  return matmul(x, y, { precision: "highest" });
}

/** (x + xᵀ) / 2. */
export function symmetrized(x: Tensor): Tensor {
  return x.add(matrixTranspose(x)).mul(0.5);
}

/** Whether an element of the last two axes of `x` lies on the diagonal. */
export function onDiagonal(x: Aval): Tensor {
  const rank = x.shape.length;
  return equal(iota(x.shape, rank - 2), iota(x.shape, rank - 1));
}

/** The diagonals of square matrices. */
export function diagonals(x: Tensor): Tensor {
  return reduceSum(where(onDiagonal(x), x, zerosLike(x)), [x.ndim - 1]);
}

/** Square matrices with the last axis of `x` on the diagonal, zeros elsewhere. */
export function diagonalMatrices(x: Tensor): Tensor {
  const n = x.shape.at(-1)!;
  const spread = broadcastTo(expandDims(x, -1), [...x.shape, n]);
  return where(onDiagonal(spread), spread, zerosLike(spread));
}

/** Identity matrices of the shape and type of `x`. */
export function identities(x: Aval): Tensor {
  const n = x.shape.at(-1)!;
  return broadcastTo(eye(n, n, { dtype: x.dtype }), x.shape);
}
