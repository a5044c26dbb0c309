/**
 * Primitives of the linear algebra, with leading batch axes: calls of LAPACK on CPUs. On GPUs Cholesky factors and triangular systems are
 * StableHLO's own operations, for which XLA calls cuSOLVER and cuBLAS, and the others are calls of cuSOLVER.
 */
import { ShapeError } from "../graph/errors.js";
import { functionType } from "../graph/lowering.js";
import type { Aval } from "../graph/node.js";
import { bind, bindAll, type Op } from "./bind.js";
import { matrixTranspose, zerosLike } from "./broadcast.js";
import { add, div, mul, neg, sub, uniform, where } from "./elementwise.js";
import { diagonalMatrices, dimensions, onDiagonal, product, squareSide } from "./matrices.js";
import { tril, triu } from "./ranges.js";
import { expandDims } from "./shaping.js";
import { callSolver, nanWhereFailed, type Routine, routine } from "./solvers.js";
import type { Tensor } from "./tensor.js";

type None = Record<string, never>;

/** Operations of a decomposition of each matrix, as Golub and Van Loan (Matrix Computations, 1996) count them. */
function count(x: Aval, each: (rows: number, columns: number) => number): number {
  const [m, n] = [x.shape.at(-2)!, x.shape.at(-1)!];
  return Math.round(x.shape.slice(0, -2).reduce((k, d) => k * d, 1) * each(m, n));
}

const letterOf = (name: string): string => `${name.charCodeAt(0)} : ui8`;
/** The lower triangle. */
const potrf = routine("potrf", `uplo = ${letterOf("L")}`);

/** Lower factors; what lies above the diagonal is not specified. */
export const choleskyPrimitive: Op<None> = {
  name: "cholesky",
  flops: ({ inputs: [x] }) => count(x!, (_, n) => n ** 3 / 3),
  shape([x]) {
    squareSide("cholesky", x!);
    return [{ shape: x!.shape, dtype: x!.dtype }];
  },
  // Murray, Differentiation of the Cholesky decomposition (2016), https://arxiv.org/abs/1602.07527.
  vjp({ outputs: [y] }, [g]) {
    if (g === undefined) return [undefined];
    const l = tril(y!);
    const lower = tril(product(matrixTranspose(l), g));
    const halved = where(onDiagonal(lower), mul(lower, 0.5), lower);
    const back = { lower: true, transpose: true, unitDiagonal: false };
    const left = solveTriangular(l, halved, back);
    return [matrixTranspose(solveTriangular(l, matrixTranspose(left), back))];
  },
  batch: ([x]) => [bind(choleskyPrimitive, [x!], {})],
  lower(lowering, { inputs: [x], outputs: [y] }, [operand]) {
    if (lowering.platform !== "cpu")
      return lowering.emit(`stablehlo.cholesky ${operand}, lower = true : ${functionType([x!], [y!])}`);
    const info: Aval = { shape: x!.shape.slice(0, -2), dtype: "int32" };
    const [l, failed] = callSolver(lowering, potrf, [[operand!, x!]], [y!, info]);
    return [nanWhereFailed(lowering, failed!, l!, y!, info.shape)];
  },
};

export interface Triangle {
  readonly [name: string]: unknown;
  readonly lower: boolean;
  /** Solve with the transposed matrix. */
  readonly transpose: boolean;
  readonly unitDiagonal: boolean;
}

/** x of A x = b, for A triangular (the other triangle is not read). */
export const triangularSolvePrimitive: Op<Triangle> = {
  name: "triangular_solve",
  flops: ({ inputs: [a, b] }) => b!.size * a!.shape.at(-1)!,
  shape([a, b]) {
    const n = squareSide("triangularSolve", a!);
    const [rows] = dimensions("triangularSolve", b!);
    if (rows !== n || a!.shape.slice(0, -2).join() !== b!.shape.slice(0, -2).join()) {
      throw new ShapeError(
        `triangularSolve of [${a!.shape.join(", ")}] and [${b!.shape.join(", ")}]`,
        `the right-hand sides have as many rows as the matrix, ${n}, and the same leading axes`,
      );
    }
    return [{ shape: b!.shape, dtype: b!.dtype }];
  },
  // Giles, An extended collection of matrix derivative results (2008), section 2.2.3.
  vjp({ inputs: [a], outputs: [x], attributes }, [g]) {
    if (g === undefined) return [undefined, undefined];
    const { lower, transpose, unitDiagonal } = attributes;
    const toB = solveTriangular(a!, g, { ...attributes, transpose: !transpose });
    const whole = transpose ? product(x!, matrixTranspose(toB)) : product(toB, matrixTranspose(x!));
    const offset = unitDiagonal ? 1 : 0;
    const toA = neg(lower ? tril(whole, -offset) : triu(whole, offset));
    return [toA, toB];
  },
  batch: (inputs, batched, attributes, size) => [
    bind(triangularSolvePrimitive, uniform(inputs, batched, size), attributes),
  ],
  lower(lowering, { inputs, outputs, attributes: { lower, transpose, unitDiagonal } }, [a, b]) {
    if (lowering.platform === "cpu") {
      const letters = [unitDiagonal ? "U" : "N", "L", transpose ? "T" : "N", lower ? "L" : "U"].map(letterOf);
      const config = ["diag", "side", "trans_x", "uplo"].map((key, i) => `${key} = ${letters[i]}`).join(", ");
      const operands = [
        [a!, inputs[0]!],
        [b!, inputs[1]!],
      ] as const;
      return callSolver(lowering, routine("trsm", config), operands, outputs, 1);
    }
    return lowering.emit(
      `"stablehlo.triangular_solve"(${a}, ${b}) <{left_side = true, lower = ${lower}, transpose_a = #stablehlo<transpose ${transpose ? "TRANSPOSE" : "NO_TRANSPOSE"}>, unit_diagonal = ${unitDiagonal}}> : ${functionType(inputs, outputs)}`,
    );
  },
};

export function solveTriangular(a: Tensor, b: Tensor, triangle: Triangle): Tensor {
  return bind(triangularSolvePrimitive, [a, b], triangle);
}

/** Of m × n matrices, m >= n: Q (m × n), R (n × n, with other things below the diagonal) and the scales of the reflections in Q. */
export const householderPrimitive: Op<None> = {
  name: "qr",
  flops: ({ inputs: [x] }) => count(x!, (m, n) => 4 * m * n ** 2 - (4 / 3) * n ** 3),
  shape([x]) {
    const [, n] = dimensions("qr", x!);
    const lead = x!.shape.slice(0, -2);
    const { dtype } = x!;
    return [
      { shape: x!.shape, dtype },
      { shape: [...lead, n, n], dtype },
      { shape: [...lead, n], dtype },
    ];
  },
  // Liao, Liu, Wang and Xiang, Differentiable programming tensor networks (2019), https://arxiv.org/abs/1903.09650, section III.B.
  vjp({ outputs: [q, below] }, [gq, gr]) {
    if (gq === undefined && gr === undefined) return [undefined];
    const r = triu(below!);
    let m = zerosLike(r);
    if (gr !== undefined) m = add(m, product(r, matrixTranspose(gr)));
    if (gq !== undefined) m = sub(m, product(matrixTranspose(gq), q!));
    const symmetric = add(tril(m), matrixTranspose(tril(m, -1)));
    const inside = product(q!, symmetric);
    const b = gq === undefined ? inside : add(gq, inside);
    const upper = { lower: false, transpose: false, unitDiagonal: false };
    return [matrixTranspose(solveTriangular(r, matrixTranspose(b), upper))];
  },
  batch: ([x]) => bindAll(householderPrimitive, [x!], {}),
  lower(lowering, { inputs: [x], outputs: [q, r, scales] }, [operand]) {
    const [packed, taus] = callSolver(lowering, routine("geqrf"), [[operand!, x!]], [x!, scales!]);
    const factored = [
      [packed!, x!],
      [taus!, scales!],
    ] as const;
    const [orthogonal] = callSolver(lowering, routine("orgqr"), factored, [q!]);
    const ranges = r!.shape.map((d) => `0:${d}`).join(", ");
    const [top] = lowering.emit(`stablehlo.slice ${packed} [${ranges}] : ${functionType([x!], [r!])}`);
    return [orthogonal!, top!, taus!];
  },
};

/** 1 / d(x_i, x_j) off the diagonal, 0 on it. */
function reciprocalDifferences(x: Tensor, difference: (row: Tensor, column: Tensor) => Tensor): Tensor {
  const gaps = difference(expandDims(x, -2), expandDims(x, -1));
  const diagonal = onDiagonal(gaps);
  return where(diagonal, 0, div(1, where(diagonal, 1, gaps)));
}

const syevd: Routine = {
  cpu: { name: "syevd", config: `mode = ${letterOf("V")}, uplo = ${letterOf("L")}` },
  cuda: { name: "syevd", config: "algorithm = 0 : ui8, lower = true" },
};

/** Of symmetric matrices, whose lower triangle is read: eigenvectors (columns) and eigenvalues (ascending). */
export const symmetricPrimitive: Op<None> = {
  name: "eigh",
  flops: ({ inputs: [x] }) => count(x!, (_, n) => 9 * n ** 3),
  shape([x]) {
    squareSide("eigh", x!);
    return [
      { shape: x!.shape, dtype: x!.dtype },
      { shape: x!.shape.slice(0, -1), dtype: x!.dtype },
    ];
  },
  // Giles, An extended collection of matrix derivative results (2008), section 3.1.
  vjp({ outputs: [v, w] }, [gv, gw]) {
    if (gv === undefined && gw === undefined) return [undefined];
    let inner = gw === undefined ? zerosLike(v!) : diagonalMatrices(gw);
    if (gv !== undefined) {
      const f = reciprocalDifferences(w!, (row, column) => sub(row, column));
      inner = add(inner, mul(f, product(matrixTranspose(v!), gv)));
    }
    return [product(product(v!, inner), matrixTranspose(v!))];
  },
  batch: ([x]) => bindAll(symmetricPrimitive, [x!], {}),
  lower(lowering, { inputs: [x], outputs: [v, w] }, [operand]) {
    const batch = x!.shape.slice(0, -2);
    const info: Aval = { shape: batch, dtype: "int32" };
    const [vectors, values, failed] = callSolver(lowering, syevd, [[operand!, x!]], [v!, w!, info]);
    return [
      nanWhereFailed(lowering, failed!, vectors!, v!, batch),
      nanWhereFailed(lowering, failed!, values!, w!, batch),
    ];
  },
};

/** LAPACK divides and conquers; its mode "S" is the reduced form. */
const singular: Routine = {
  cpu: { name: "gesdd", config: `mode = ${letterOf("S")}` },
  cuda: { name: "gesvd", config: "compute_uv = true, full_matrices = false, transposed = false" },
};

/** Of m × n matrices, m >= n: U (m × n), the singular values (descending) and Vᵀ (n × n). */
export const singularPrimitive: Op<None> = {
  name: "svd",
  flops: ({ inputs: [x] }) => count(x!, (m, n) => 14 * m * n ** 2 + 8 * n ** 3),
  shape([x]) {
    const [, n] = dimensions("svd", x!);
    const lead = x!.shape.slice(0, -2);
    const { dtype } = x!;
    return [
      { shape: x!.shape, dtype },
      { shape: [...lead, n], dtype },
      { shape: [...lead, n, n], dtype },
    ];
  },
  // Townsend, Differentiating the singular value decomposition (2016), https://j-towns.github.io/papers/svd-derivative.pdf.
  vjp({ outputs: [u, s, vt] }, [gu, gs, gvt]) {
    if (gu === undefined && gs === undefined && gvt === undefined) return [undefined];
    const f = reciprocalDifferences(s!, (row, column) => mul(sub(row, column), add(row, column)));
    const skew = (x: Tensor): Tensor => mul(f, sub(x, matrixTranspose(x)));
    const [asRow, asColumn] = [expandDims(s!, -2), expandDims(s!, -1)];
    let inner = gs === undefined ? zerosLike(vt!) : diagonalMatrices(gs);
    if (gu !== undefined) inner = add(inner, mul(skew(product(matrixTranspose(u!), gu)), asRow));
    if (gvt !== undefined) {
      inner = add(inner, mul(asColumn, skew(product(vt!, matrixTranspose(gvt)))));
    }
    let left = product(u!, inner);
    if (gu !== undefined && u!.shape.at(-2) !== u!.shape.at(-1)) {
      const outside = sub(gu, product(u!, product(matrixTranspose(u!), gu)));
      left = add(left, div(outside, asRow));
    }
    return [product(left, vt!)];
  },
  batch: ([x]) => bindAll(singularPrimitive, [x!], {}),
  lower(lowering, { inputs: [x], outputs: [u, s, vt] }, [operand]) {
    const batch = x!.shape.slice(0, -2);
    const [, values, left, right, failed] = callSolver(
      lowering,
      singular,
      [[operand!, x!]],
      [x!, s!, u!, vt!, { shape: batch, dtype: "int32" }],
    );
    return [
      nanWhereFailed(lowering, failed!, left!, u!, batch),
      nanWhereFailed(lowering, failed!, values!, s!, batch),
      nanWhereFailed(lowering, failed!, right!, vt!, batch),
    ];
  },
};
