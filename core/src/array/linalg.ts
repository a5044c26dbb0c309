/**
 * Linear algebra on the last two axes of float32 and float64 tensors; leading axes are batches.
 *
 * Systems and determinants go through QR: backward stable whatever the matrix, for twice the work of LU. Where a decomposition fails its
 * results are NaN. Derivatives hold where the decompositions are differentiable: full rank, and distinct eigenvalues or singular values
 * for what depends on their vectors.
 */
import { ShapeError } from "../graph/errors.js";
import type { Shape } from "../graph/node.js";
import { bind, bindAll } from "./bind.js";
import { broadcastTo, matrixTranspose, reduceSum, zeros } from "./broadcast.js";
import {
  choleskyPrimitive,
  householderPrimitive,
  singularPrimitive,
  solveTriangular,
  symmetricPrimitive,
} from "./decompositions.js";
import { abs, cast, equal, log, mul, notEqual, rem, sign, where } from "./elementwise.js";
import { concatenate } from "./joining.js";
import { diagonals, dimensions, identities, product, squareSide, symmetrized } from "./matrices.js";
import { tril, triu } from "./ranges.js";
import { prod } from "./reductions.js";
import { broadcastShapes } from "./shapes.js";
import { expandDims, sliceRanges, squeeze } from "./shaping.js";
import type { Tensor } from "./tensor.js";

export interface SymmetricOptions {
  /** Take (x + xᵀ) / 2, so that gradients are symmetric too (default); else only the lower triangle is read. */
  symmetrize?: boolean;
}

/** Lower triangular L with L Lᵀ = x, for x symmetric and positive definite; NaN where it is not. */
export function cholesky(x: Tensor, { symmetrize = true }: SymmetricOptions = {}): Tensor {
  squareSide("cholesky", x);
  if (x.size === 0) return x;
  const l = tril(bind(choleskyPrimitive, [symmetrize ? symmetrized(x) : x], {}));
  // A failure shows from the column on in which it was found; none of the factor is right then.
  const failed = notEqual(reduceSum(mul(l, 0), [x.ndim - 2, x.ndim - 1]), 0);
  return where(expandDims(failed, [-2, -1]), Number.NaN, l);
}

export interface TriangularOptions {
  /** Whether the lower triangle is read (default), or the upper one. */
  lower?: boolean;
  /** Solve aᵀ x = b. Default false. */
  transpose?: boolean;
  /** Solve x a = b. Default false. */
  right?: boolean;
  /** Take the diagonal as ones. Default false. */
  unitDiagonal?: boolean;
}

/** x of a x = b for triangular `a`; `b` is a vector or has right-hand sides as columns; leading axes broadcast. */
export function triangularSolve(
  a: Tensor,
  b: Tensor,
  { lower = true, transpose = false, right = false, unitDiagonal = false }: TriangularOptions = {},
): Tensor {
  squareSide("triangularSolve", a);
  if (right) {
    const flipped = { lower, transpose: !transpose, unitDiagonal };
    if (b.ndim === 1) return triangularSolve(a, b, flipped);
    return matrixTranspose(triangularSolve(a, matrixTranspose(b), flipped));
  }
  return withColumns("triangularSolve", a, b, (matrix, columns) =>
    solveTriangular(matrix, columns, { lower, transpose, unitDiagonal }),
  );
}

/** Solves with `b`'s leading axes broadcast against those of `a`, a vector as one column. */
function withColumns(name: string, a: Tensor, b: Tensor, solver: (a: Tensor, b: Tensor) => Tensor): Tensor {
  const columns = b.ndim === 1 ? expandDims(b, -1) : b;
  const [m, n] = dimensions(name, a);
  const [rows, count] = dimensions(name, columns);
  if (rows !== m || a.dtype !== b.dtype) {
    throw new ShapeError(
      `${name} of ${a} and ${b}`,
      `the right-hand sides have as many rows as the matrix, ${m}, and its dtype`,
    );
  }
  const lead = broadcastShapes(name, a.shape.slice(0, -2), columns.shape.slice(0, -2));
  const shape = [...lead, n, count];
  const x =
    m * n * count === 0 || lead.includes(0)
      ? zeros(shape, { dtype: a.dtype })
      : solver(broadcastTo(a, [...lead, m, n]), broadcastTo(columns, [...lead, m, count]));
  return b.ndim === 1 ? squeeze(x, -1) : x;
}

interface Reflected {
  readonly q: Tensor;
  readonly r: Tensor;
  readonly scales: Tensor;
}

function reflect(x: Tensor): Reflected {
  const [q, r, scales] = bindAll(householderPrimitive, [x], {});
  return { q: q!, r: triu(r!), scales: scales! };
}

/** The first `count` columns, or the others. */
function columnsOf(x: Tensor, from: number, to: number): Tensor {
  const start = x.shape.map(() => 0);
  return sliceRanges(x, start.with(-1, from), x.shape.with(-1, to));
}

/** Q with orthonormal columns and R upper triangular, Q R = x; of m × n they are m × min(m, n) and min(m, n) × n. */
export function qr(x: Tensor): [q: Tensor, r: Tensor] {
  const [m, n] = dimensions("qr", x);
  const lead = x.shape.slice(0, -2);
  const k = Math.min(m, n);
  if (x.size === 0) return [empty(x, [...lead, m, k]), empty(x, [...lead, k, n])];
  if (m >= n) {
    const { q, r } = reflect(x);
    return [q, r];
  }
  // The first m columns decide Q; the others are only seen from it.
  const { q, r } = reflect(columnsOf(x, 0, m));
  return [q, concatenate([r, product(matrixTranspose(q), columnsOf(x, m, n))], -1)];
}

const empty = (like: Tensor, shape: Shape): Tensor => zeros(shape, { dtype: like.dtype });

/** Eigenvalues (ascending) and orthonormal eigenvectors (columns) of symmetric matrices. */
export function eigh(
  x: Tensor,
  { symmetrize = true }: SymmetricOptions = {},
): [eigenvalues: Tensor, eigenvectors: Tensor] {
  squareSide("eigh", x);
  if (x.size === 0) return [empty(x, x.shape.slice(0, -1)), x];
  const [v, w] = bindAll(symmetricPrimitive, [symmetrize ? symmetrized(x) : x], {});
  return [w!, v!];
}

/** Eigenvalues of symmetric matrices, ascending. */
export function eigvalsh(x: Tensor, options: SymmetricOptions = {}): Tensor {
  return eigh(x, options)[0];
}

/** U, the singular values (descending) and Vᵀ with U diag(s) Vᵀ = x; of m × n they are m × k, k and k × n, k = min(m, n). */
export function svd(x: Tensor): [u: Tensor, s: Tensor, vt: Tensor] {
  const [m, n] = dimensions("svd", x);
  const lead = x.shape.slice(0, -2);
  const k = Math.min(m, n);
  if (x.size === 0) return [empty(x, [...lead, m, k]), empty(x, [...lead, k]), empty(x, [...lead, k, n])];
  if (m < n) {
    const [v, s, ut] = svd(matrixTranspose(x));
    return [matrixTranspose(ut), s, matrixTranspose(v)];
  }
  const [u, s, vt] = bindAll(singularPrimitive, [x], {});
  return [u!, s!, vt!];
}

/** Singular values, descending. */
export function svdvals(x: Tensor): Tensor {
  return svd(x)[1];
}

/** x of a x = b for square `a`; `b` is a vector or has right-hand sides as columns; leading axes broadcast. */
export function solve(a: Tensor, b: Tensor): Tensor {
  squareSide("solve", a);
  return throughFactors("solve", a, b);
}

/** x that minimises |a x - b|² for `a` of full column rank, rows >= columns. */
export function leastSquares(a: Tensor, b: Tensor): Tensor {
  const [m, n] = dimensions("leastSquares", a);
  if (m < n) {
    throw new ShapeError(
      `leastSquares of [${a.shape.join(", ")}]`,
      "the matrix needs at least as many rows as columns",
    );
  }
  return throughFactors("leastSquares", a, b);
}

/** R⁻¹ Qᵀ b. */
function throughFactors(name: string, a: Tensor, b: Tensor): Tensor {
  return withColumns(name, a, b, (matrix, columns) => {
    const { q, r } = reflect(matrix);
    const upper = { lower: false, transpose: false, unitDiagonal: false };
    return solveTriangular(r, product(matrixTranspose(q), columns), upper);
  });
}

/** The inverse of square matrices. To apply it, `solve` is cheaper and more accurate. */
export function inv(x: Tensor): Tensor {
  squareSide("inv", x);
  return solve(x, identities(x));
}

/** R's diagonal, and det Q: each reflection in it, and only a scale other than 0 is one, changes the sign. */
function reflections(x: Tensor): { diagonal: Tensor; parity: Tensor } {
  const { r, scales } = reflect(x);
  const count = reduceSum(cast(notEqual(scales, 0), "int32"), [scales.ndim - 1]);
  return { diagonal: diagonals(r), parity: cast(where(equal(rem(count, 2), 0), 1, -1), x.dtype) };
}

/** The determinant. Its gradient needs an invertible matrix. */
export function det(x: Tensor): Tensor {
  squareSide("det", x);
  if (x.size === 0) return zeros(x.shape.slice(0, -2), { dtype: x.dtype }).add(1);
  const { diagonal, parity } = reflections(x);
  return mul(prod(diagonal, -1), parity);
}

/** The sign of the determinant, and the logarithm of its absolute value, which neither overflows nor vanishes. */
export function slogdet(x: Tensor): [sign: Tensor, logAbsoluteDeterminant: Tensor] {
  squareSide("slogdet", x);
  if (x.size === 0) {
    const zero = zeros(x.shape.slice(0, -2), { dtype: x.dtype });
    return [zero.add(1), zero];
  }
  const { diagonal, parity } = reflections(x);
  return [mul(prod(sign(diagonal), -1), parity), reduceSum(log(abs(diagonal)), [diagonal.ndim - 1])];
}
