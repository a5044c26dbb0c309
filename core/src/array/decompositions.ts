/**
 * Primitives of the linear algebra, with leading batch axes. Cholesky factors and triangular systems are StableHLO's own operations. QR and
 * symmetric eigenvalues are expanded by XLA on CPUs, which needs no LAPACK, and are calls of cuSOLVER on GPUs.
 */
import { ShapeError } from "../graph/errors.js";
import { functionType, type Lowering, tensorType } from "../graph/lowering.js";
import type { Aval, Shape } from "../graph/node.js";
import { bind, bindAll, type Op, placeholder } from "./bind.js";
import { matrixTranspose, onesLike, zerosLike } from "./broadcast.js";
import { literal } from "./creation.js";
import { abs, add, div, less, mul, neg, sub, uniform, where } from "./elementwise.js";
import { concatenate } from "./joining.js";
import { diagonalMatrices, diagonals, dimensions, onDiagonal, product, squareSide } from "./matrices.js";
import { tril, triu } from "./ranges.js";
import { expandDims, flip, sliceRanges } from "./shaping.js";
import type { Tensor } from "./tensor.js";

type None = Record<string, never>;

/** Lower factors; what lies above the diagonal is not specified. */
export const choleskyPrimitive: Op<None> = {
  name: "cholesky",
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
  lower: (lowering, { inputs, outputs }, [x]) =>
    lowering.emit(`stablehlo.cholesky ${x}, lower = true : ${functionType(inputs, outputs)}`),
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
  lower: (lowering, { inputs, outputs, attributes: { lower, transpose, unitDiagonal } }, [a, b]) =>
    lowering.emit(
      `"stablehlo.triangular_solve"(${a}, ${b}) <{left_side = true, lower = ${lower}, transpose_a = #stablehlo<transpose ${transpose ? "TRANSPOSE" : "NO_TRANSPOSE"}>, unit_diagonal = ${unitDiagonal}}> : ${functionType(inputs, outputs)}`,
    ),
};

export function solveTriangular(a: Tensor, b: Tensor, triangle: Triangle): Tensor {
  return bind(triangularSolvePrimitive, [a, b], triangle);
}

/** A call of cuSOLVER through XLA's foreign function interface. Results in `matrices` are stored column by column, as the operand is. */
function callSolver(
  lowering: Lowering,
  routine: string,
  config: string,
  operands: readonly (readonly [name: string, aval: Aval])[],
  results: readonly Aval[],
  matrices: readonly number[],
): readonly string[] {
  const rank = operands[0]![1].shape.length;
  const descending = (n: number): number[] => Array.from({ length: n }, (_, i) => n - 1 - i);
  const layout = (order: readonly number[]): string =>
    `dense<${order.length > 1 ? `[${order.join(", ")}]` : order.join()}> : tensor<${order.length}xindex>`;
  const layouts = (avals: readonly Aval[], columns: readonly number[]): string =>
    avals
      .map(({ shape }, i) =>
        layout(
          columns.includes(i) ? [rank - 2, rank - 1, ...descending(rank - 2)] : descending(shape.length),
        ),
      )
      .join(", ");
  const avals = operands.map(([, aval]) => aval);
  // The first result takes the place of the first operand.
  const alias = `#stablehlo.output_operand_alias<output_tuple_indices = [${results.length > 1 ? 0 : ""}], operand_index = 0, operand_tuple_indices = []>`;
  return lowering.emit(
    `stablehlo.custom_call @cusolver_${routine}_ffi(${operands.map(([name]) => name).join(", ")}) {api_version = 4 : i32, backend_config = {${config}}, operand_layouts = [${layouts(avals, [0])}], output_operand_aliases = [${alias}], result_layouts = [${layouts(results, matrices)}]} : ${functionType(avals, results)}`,
    results.length,
  );
}

/** `value` where cuSOLVER reported success (0), NaN elsewhere. */
function nanWhereFailed(lowering: Lowering, failed: string, value: string, aval: Aval, batch: Shape): string {
  const { shape, dtype } = aval;
  const integers: Aval = { shape: batch, dtype: "int32" };
  const flags: Aval = { shape: batch, dtype: "bool" };
  const spread = (name: string, from: Aval, to: Aval): string => {
    const dims = from.shape.map((_, i) => i).join(", ");
    return lowering.emit(
      `stablehlo.broadcast_in_dim ${name}, dims = [${dims}] : ${functionType([from], [to])}`,
    )[0]!;
  };
  const zero = spread(lowering.constant("0", "int32"), { shape: [], dtype: "int32" }, integers);
  const [ok] = lowering.emit(
    `stablehlo.compare EQ, ${failed}, ${zero}, SIGNED : ${functionType([integers, integers], [flags])}`,
  );
  const everywhere: Aval = { shape, dtype: "bool" };
  const nan = spread(lowering.constant(literal(Number.NaN, dtype), dtype), { shape: [], dtype }, aval);
  return lowering.emit(
    `stablehlo.select ${spread(ok!, flags, everywhere)}, ${value}, ${nan} : ${tensorType(everywhere)}, ${tensorType(aval)}`,
  )[0]!;
}

/** Of m × n matrices, m >= n: Q (m × n), R (n × n, with other things below the diagonal) and the scales of the reflections in Q. */
export const householderPrimitive: Op<None> = {
  name: "qr",
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
    const [packed, taus] =
      lowering.platform === "cpu"
        ? lowering.emit(`stablehlo.custom_call @Qr(${operand}) : ${functionType([x!], [x!, scales!])}`, 2)
        : callSolver(lowering, "geqrf", "", [[operand!, x!]], [x!, scales!], [0]);
    const [orthogonal] =
      lowering.platform === "cpu"
        ? lowering.emit(
            `stablehlo.custom_call @ProductOfElementaryHouseholderReflectors(${packed}, ${taus}) : ${functionType([x!, scales!], [q!])}`,
          )
        : callSolver(
            lowering,
            "orgqr",
            "",
            [
              [packed!, x!],
              [taus!, scales!],
            ],
            [q!],
            [0],
          );
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

/** Of symmetric matrices, whose lower triangle is read: eigenvectors (columns) and eigenvalues (ascending). */
export const symmetricPrimitive: Op<None> = {
  name: "eigh",
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
    if (lowering.platform === "cpu") {
      // Lower triangle, sorted, at most 100 sweeps of Jacobi's rotations, relative size of what they may leave.
      const config = `1,1,100,${x!.dtype === "float64" ? "1e-14" : "1e-7"}`;
      return lowering.emit(
        `stablehlo.custom_call @Eigh(${operand}) {backend_config = "${config}"} : ${functionType([x!], [v!, w!])}`,
        2,
      );
    }
    const batch = x!.shape.slice(0, -2);
    const info: Aval = { shape: batch, dtype: "int32" };
    const [vectors, values, failed] = callSolver(
      lowering,
      "syevd",
      "algorithm = 0 : ui8, lower = true",
      [[operand!, x!]],
      [v!, w!, info],
      [0],
    );
    return [
      nanWhereFailed(lowering, failed!, vectors!, v!, batch),
      nanWhereFailed(lowering, failed!, values!, w!, batch),
    ];
  },
};

/**
 * Singular values by the eigenvalues ±s of [[0, Rᵀ], [R, 0]], where x = Q R: as exact as rounding in x allows, where those of xᵀ x would
 * lose half of the digits. Two more QRs make the vectors orthonormal also where singular values are 0 and the eigenvectors any mixture.
 */
function singularByEigenvalues(x: Tensor): readonly Tensor[] {
  const n = x.shape.at(-1)!;
  const factor = (matrix: Tensor): { q: Tensor; r: Tensor } => {
    const [q, r] = bindAll(householderPrimitive, [matrix], {});
    return { q: q!, r: triu(r!) };
  };
  const { q, r } = factor(x);
  const none = zerosLike(r);
  const doubled = concatenate([concatenate([none, matrixTranspose(r)], -1), concatenate([r, none], -1)], -2);
  const [vectors] = bindAll(symmetricPrimitive, [doubled], {});
  // The upper half of the eigenvectors of the n largest eigenvalues, largest first.
  const start = doubled.shape.map(() => 0);
  const upper = sliceRanges(vectors!, start.with(-1, n), doubled.shape.with(-2, n));
  const { q: v } = factor(flip(upper, -1));
  const { q: u, r: nearlyDiagonal } = factor(product(r, v));
  const signed = diagonals(nearlyDiagonal);
  const signs = where(less(signed, 0), -1, onesLike(signed));
  return [mul(product(q, u), expandDims(signs, -2)), abs(signed), matrixTranspose(v)];
}

/** Of m × n matrices, m >= n: U (m × n), the singular values (descending) and Vᵀ (n × n). */
export const singularPrimitive: Op<None> = {
  name: "svd",
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
    if (lowering.platform === "cpu") {
      const parameter = placeholder(x!);
      return lowering.inline({ parameters: [parameter], outputs: singularByEigenvalues(parameter) }, [
        operand!,
      ]);
    }
    const batch = x!.shape.slice(0, -2);
    const [, values, left, right, failed] = callSolver(
      lowering,
      "gesvd",
      "compute_uv = true, full_matrices = false, transposed = false",
      [[operand!, x!]],
      [x!, s!, u!, vt!, { shape: batch, dtype: "int32" }],
      [0, 2, 3],
    );
    return [
      nanWhereFailed(lowering, failed!, left!, u!, batch),
      nanWhereFailed(lowering, failed!, values!, s!, batch),
      nanWhereFailed(lowering, failed!, right!, vt!, batch),
    ];
  },
};
