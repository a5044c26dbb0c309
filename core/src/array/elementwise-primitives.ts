/** Primitives of the element-wise operations: one table row for each function of one tensor, one for each of two. */
import { tensorType } from "../graph/lowering.js";
import { bind, type Op } from "./bind.js";
import { full } from "./broadcast.js";
import {
  add,
  cast,
  cos,
  cosh,
  digamma,
  div,
  equal,
  exp,
  log,
  mul,
  neg,
  polygamma,
  rsqrt,
  sign,
  sin,
  sinh,
  sub,
  truncate,
  uniform,
  where,
} from "./elementwise.js";
import { check, type Kind, oncePerElement } from "./kinds.js";
import type { Tensor } from "./tensor.js";

type None = Record<string, never>;
interface Row<Rule> {
  /** MLIR operation name. */
  readonly mlir: string;
  readonly kind: Kind;
  /** The cotangents of the operands; none where the derivative is zero everywhere. */
  readonly vjp?: Rule;
}

type UnaryRow = Row<(g: Tensor, x: Tensor, y: Tensor) => Tensor>;
type BinaryRow = Row<
  (g: Tensor, x: Tensor, y: Tensor, z: Tensor) => readonly [Tensor | undefined, Tensor | undefined]
>;

const unaryTable = {
  neg: { mlir: "stablehlo.negate", kind: "number", vjp: (g) => neg(g) },
  abs: { mlir: "stablehlo.abs", kind: "number", vjp: (g, x) => mul(g, sign(x)) },
  exp: { mlir: "stablehlo.exponential", kind: "float", vjp: (g, _, y) => mul(g, y) },
  expm1: { mlir: "stablehlo.exponential_minus_one", kind: "float", vjp: (g, _, y) => mul(g, add(y, 1)) },
  log: { mlir: "stablehlo.log", kind: "float", vjp: (g, x) => div(g, x) },
  log1p: { mlir: "stablehlo.log_plus_one", kind: "float", vjp: (g, x) => div(g, add(x, 1)) },
  sqrt: { mlir: "stablehlo.sqrt", kind: "float", vjp: (g, _, y) => div(mul(g, 0.5), y) },
  rsqrt: { mlir: "stablehlo.rsqrt", kind: "float", vjp: (g, x, y) => mul(g, mul(div(y, x), -0.5)) },
  cbrt: { mlir: "stablehlo.cbrt", kind: "real", vjp: (g, _, y) => div(g, mul(mul(y, y), 3)) },
  sin: { mlir: "stablehlo.sine", kind: "float", vjp: (g, x) => mul(g, cos(x)) },
  cos: { mlir: "stablehlo.cosine", kind: "float", vjp: (g, x) => neg(mul(g, sin(x))) },
  tan: { mlir: "chlo.tan", kind: "float", vjp: (g, _, y) => mul(g, add(mul(y, y), 1)) },
  asin: { mlir: "chlo.asin", kind: "float", vjp: (g, x) => mul(g, rsqrt(sub(1, mul(x, x)))) },
  acos: { mlir: "chlo.acos", kind: "float", vjp: (g, x) => neg(mul(g, rsqrt(sub(1, mul(x, x))))) },
  atan: { mlir: "chlo.atan", kind: "float", vjp: (g, x) => div(g, add(mul(x, x), 1)) },
  sinh: { mlir: "chlo.sinh", kind: "float", vjp: (g, x) => mul(g, cosh(x)) },
  cosh: { mlir: "chlo.cosh", kind: "float", vjp: (g, x) => mul(g, sinh(x)) },
  tanh: { mlir: "stablehlo.tanh", kind: "float", vjp: (g, _, y) => mul(g, sub(1, mul(y, y))) },
  asinh: { mlir: "chlo.asinh", kind: "float", vjp: (g, x) => mul(g, rsqrt(add(mul(x, x), 1))) },
  acosh: {
    mlir: "chlo.acosh",
    kind: "float",
    vjp: (g, x) => mul(g, mul(rsqrt(sub(x, 1)), rsqrt(add(x, 1)))),
  },
  atanh: { mlir: "chlo.atanh", kind: "float", vjp: (g, x) => div(g, mul(sub(1, x), add(x, 1))) },
  sigmoid: { mlir: "stablehlo.logistic", kind: "float", vjp: (g, _, y) => mul(g, mul(y, sub(1, y))) },
  erf: {
    mlir: "chlo.erf",
    kind: "real",
    vjp: (g, x) => mul(g, mul(exp(neg(mul(x, x))), 2 / Math.sqrt(Math.PI))),
  },
  erfc: {
    mlir: "chlo.erfc",
    kind: "real",
    vjp: (g, x) => mul(g, mul(exp(neg(mul(x, x))), -2 / Math.sqrt(Math.PI))),
  },
  erfinv: {
    mlir: "chlo.erf_inv",
    kind: "real",
    vjp: (g, _, y) => mul(g, mul(exp(mul(y, y)), Math.sqrt(Math.PI) / 2)),
  },
  lgamma: { mlir: "chlo.lgamma", kind: "real", vjp: (g, x) => mul(g, digamma(x)) },
  digamma: {
    mlir: "chlo.digamma",
    kind: "real",
    vjp: (g, x) => mul(g, polygamma(full(x.shape, 1, { dtype: x.dtype }), x)),
  },
  floor: { mlir: "stablehlo.floor", kind: "real" },
  ceil: { mlir: "stablehlo.ceil", kind: "real" },
  round: { mlir: "stablehlo.round_nearest_even", kind: "real" },
  sign: { mlir: "stablehlo.sign", kind: "number" },
  not: { mlir: "stablehlo.not", kind: "logical" },
  popcount: { mlir: "stablehlo.popcnt", kind: "integer" },
  clz: { mlir: "stablehlo.count_leading_zeros", kind: "integer" },
} as const satisfies Record<string, UnaryRow>;

/** 1 where `x` is the extremum `z`, shared between equal operands. */
const share = (x: Tensor, other: Tensor, z: Tensor): Tensor =>
  div(cast(equal(x, z), x.dtype), cast(where(equal(other, z), 2, 1), x.dtype));

const binaryTable = {
  add: { mlir: "stablehlo.add", kind: "number", vjp: (g) => [g, g] },
  sub: { mlir: "stablehlo.subtract", kind: "number", vjp: (g) => [g, neg(g)] },
  mul: { mlir: "stablehlo.multiply", kind: "number", vjp: (g, x, y) => [mul(g, y), mul(g, x)] },
  div: {
    mlir: "stablehlo.divide",
    kind: "number",
    vjp: (g, x, y) => [div(g, y), neg(mul(g, div(div(x, y), y)))],
  },
  rem: {
    mlir: "stablehlo.remainder",
    kind: "ordered",
    vjp: (g, x, y) => [g, neg(mul(g, truncate(div(x, y))))],
  },
  pow: {
    mlir: "stablehlo.power",
    kind: "number",
    vjp: (g, x, y, z) => {
      const base = where(equal(y, 0), 0, mul(y, bind(ops.pow, [x, where(equal(y, 0), 1, sub(y, 1))], {})));
      return [mul(g, base), mul(g, mul(log(where(equal(x, 0), 1, x)), z))];
    },
  },
  atan2: {
    mlir: "stablehlo.atan2",
    kind: "real",
    vjp: (g, x, y) => {
      const r2 = add(mul(x, x), mul(y, y));
      return [mul(g, div(y, r2)), neg(mul(g, div(x, r2)))];
    },
  },
  maximum: {
    mlir: "stablehlo.maximum",
    kind: "any",
    vjp: (g, x, y, z) => [mul(g, share(x, y, z)), mul(g, share(y, x, z))],
  },
  minimum: {
    mlir: "stablehlo.minimum",
    kind: "any",
    vjp: (g, x, y, z) => [mul(g, share(x, y, z)), mul(g, share(y, x, z))],
  },
  polygamma: {
    mlir: "chlo.polygamma",
    kind: "real",
    vjp: (g, n, x) => [undefined, mul(g, polygamma(add(n, 1), x))],
  },
  and: { mlir: "stablehlo.and", kind: "logical" },
  or: { mlir: "stablehlo.or", kind: "logical" },
  xor: { mlir: "stablehlo.xor", kind: "logical" },
  shiftLeft: { mlir: "stablehlo.shift_left", kind: "integer" },
  shiftRightLogical: { mlir: "stablehlo.shift_right_logical", kind: "integer" },
  shiftRightArithmetic: { mlir: "stablehlo.shift_right_arithmetic", kind: "integer" },
} as const satisfies Record<string, BinaryRow>;

export type OperationName = keyof typeof unaryTable | keyof typeof binaryTable;

/** The operation that a row says; `vjp` is its rule, for any number of operands. */
function operation(
  name: string,
  { mlir, kind }: Row<unknown>,
  vjp?: (g: Tensor, inputs: readonly Tensor[], output: Tensor) => readonly (Tensor | undefined)[],
): Op<None> {
  return {
    name,
    zeroDerivative: vjp === undefined,
    ...oncePerElement,
    shape([x]) {
      check(name, x!.dtype, kind);
      return [{ shape: x!.shape, dtype: x!.dtype }];
    },
    ...(vjp && {
      vjp: ({ inputs, outputs: [y] }, [g]) =>
        g === undefined ? inputs.map(() => undefined) : vjp(g, inputs, y!),
    }),
    batch: (inputs, batched, _, size) => [
      bind(ops[name as OperationName], uniform(inputs, batched, size), {}),
    ],
    lower(lowering, { inputs, outputs: [y] }, operands) {
      const type = tensorType(y!);
      // CHLO's operations write the operands' types too.
      const types = mlir.startsWith("chlo.") ? `${inputs.map(() => type).join(", ")} -> ${type}` : type;
      return lowering.emit(`${mlir} ${operands.join(", ")} : ${types}`);
    },
  };
}

const rows: Record<string, UnaryRow | BinaryRow> = { ...unaryTable, ...binaryTable };

/** Whether an operation is a function of real or complex numbers, to which integers are converted. */
export const isContinuous = (name: OperationName): boolean => ["real", "float"].includes(rows[name]!.kind);

export const ops = Object.fromEntries([
  ...Object.entries<UnaryRow>(unaryTable).map(([name, row]) => [
    name,
    operation(name, row, row.vjp && ((g, [x], y) => [row.vjp!(g, x!, y)])),
  ]),
  ...Object.entries<BinaryRow>(binaryTable).map(([name, row]) => [
    name,
    operation(name, row, row.vjp && ((g, [x, y], z) => row.vjp!(g, x!, y!, z))),
  ]),
]) as Record<OperationName, Op<None>>;
