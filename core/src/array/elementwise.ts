/** Element-wise operations: one table row for each function of one tensor, one for each of two. */
import {
  type DType,
  isComplex,
  isDifferentiable,
  isFloat,
  isInteger,
  isUnsigned,
  promoteTypes,
} from "../graph/dtype.js";
import { DTypeError } from "../graph/errors.js";
import { tensorType } from "../graph/lowering.js";
import { bind, type Op } from "./bind.js";
import { addBatchAxis, broadcastTo, defaultDType, full, zerosLike } from "./broadcast.js";
import { constant, type Scalar, scalar, tensor } from "./creation.js";
import { limits, type Nested } from "./hostdata.js";
import { broadcastShapes } from "./shapes.js";
import { Tensor } from "./tensor.js";

/** What operations take beside Tensors: numbers and booleans (weakly typed) and nested arrays. */
export type TensorLike = Tensor | Scalar | readonly Nested[];

type None = Record<string, never>;
type Kind = "float" | "number" | "integer" | "logical" | "any";

function check(operation: string, dtype: DType, kind: Kind): void {
  const ok =
    kind === "any" ||
    (kind === "float" && (isFloat(dtype) || isComplex(dtype))) ||
    (kind === "number" && dtype !== "bool") ||
    (kind === "integer" && isInteger(dtype)) ||
    (kind === "logical" && (isInteger(dtype) || dtype === "bool"));
  if (!ok) {
    const wanted = {
      float: "a floating-point",
      number: "a numeric",
      integer: "an integer",
      logical: "an integer or bool",
      any: "",
    };
    throw new DTypeError(
      `${operation} of ${dtype}`,
      `it takes ${wanted[kind]} tensor: convert with .astype()`,
    );
  }
}

type UnaryRule = (g: Tensor, x: Tensor, y: Tensor) => Tensor;

interface UnaryRow {
  /** MLIR operation name. */
  readonly mlir: string;
  readonly kind: Kind;
  readonly vjp?: UnaryRule;
}

function unaryOp(name: string, row: UnaryRow): Op<None> {
  const { vjp } = row;
  return {
    name,
    zeroDerivative: vjp === undefined,
    shape([x]) {
      check(name, x!.dtype, row.kind);
      return [{ shape: x!.shape, dtype: x!.dtype }];
    },
    ...(vjp && { vjp: ({ inputs: [x], outputs: [y] }, [g]) => [g && vjp(g, x!, y!)] }),
    batch: ([x]) => [bind(ops[name as UnaryName], [x!], {})],
    lower: (lowering, { inputs: [x], outputs: [y] }, [operand]) =>
      lowering.emit(
        row.mlir.startsWith("chlo.")
          ? `${row.mlir} ${operand} : ${tensorType(x!)} -> ${tensorType(y!)}`
          : `${row.mlir} ${operand} : ${tensorType(y!)}`,
      ),
  };
}

const unaryTable = {
  neg: { mlir: "stablehlo.negate", kind: "number", vjp: (g) => neg(g) },
  abs: { mlir: "stablehlo.abs", kind: "number", vjp: (g, x) => mul(g, sign(x)) },
  exp: { mlir: "stablehlo.exponential", kind: "float", vjp: (g, _, y) => mul(g, y) },
  expm1: { mlir: "stablehlo.exponential_minus_one", kind: "float", vjp: (g, _, y) => mul(g, add(y, 1)) },
  log: { mlir: "stablehlo.log", kind: "float", vjp: (g, x) => div(g, x) },
  log1p: { mlir: "stablehlo.log_plus_one", kind: "float", vjp: (g, x) => div(g, add(x, 1)) },
  sqrt: { mlir: "stablehlo.sqrt", kind: "float", vjp: (g, _, y) => div(mul(g, 0.5), y) },
  rsqrt: { mlir: "stablehlo.rsqrt", kind: "float", vjp: (g, x, y) => mul(g, mul(div(y, x), -0.5)) },
  cbrt: { mlir: "stablehlo.cbrt", kind: "float", vjp: (g, x, y) => mul(g, div(y, mul(x, 3))) },
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
    vjp: (g, x) => mul(g, rsqrt(mul(sub(x, 1), add(x, 1)))),
  },
  atanh: { mlir: "chlo.atanh", kind: "float", vjp: (g, x) => div(g, mul(sub(1, x), add(x, 1))) },
  sigmoid: { mlir: "stablehlo.logistic", kind: "float", vjp: (g, _, y) => mul(g, mul(y, sub(1, y))) },
  erf: {
    mlir: "chlo.erf",
    kind: "float",
    vjp: (g, x) => mul(g, mul(exp(neg(mul(x, x))), 2 / Math.sqrt(Math.PI))),
  },
  erfc: {
    mlir: "chlo.erfc",
    kind: "float",
    vjp: (g, x) => mul(g, mul(exp(neg(mul(x, x))), -2 / Math.sqrt(Math.PI))),
  },
  erfinv: {
    mlir: "chlo.erf_inv",
    kind: "float",
    vjp: (g, _, y) => mul(g, mul(exp(mul(y, y)), Math.sqrt(Math.PI) / 2)),
  },
  lgamma: { mlir: "chlo.lgamma", kind: "float", vjp: (g, x) => mul(g, digamma(x)) },
  digamma: {
    mlir: "chlo.digamma",
    kind: "float",
    vjp: (g, x) => mul(g, polygamma(full(x.shape, 1, { dtype: x.dtype }), x)),
  },
  floor: { mlir: "stablehlo.floor", kind: "float" },
  ceil: { mlir: "stablehlo.ceil", kind: "float" },
  round: { mlir: "stablehlo.round_nearest_even", kind: "float" },
  sign: { mlir: "stablehlo.sign", kind: "number" },
  not: { mlir: "stablehlo.not", kind: "logical" },
  popcount: { mlir: "stablehlo.popcnt", kind: "integer" },
  clz: { mlir: "stablehlo.count_leading_zeros", kind: "integer" },
} as const satisfies Record<string, UnaryRow>;

type UnaryName = keyof typeof unaryTable;

type BinaryRule = (
  g: Tensor,
  x: Tensor,
  y: Tensor,
  z: Tensor,
) => readonly [Tensor | undefined, Tensor | undefined];

interface BinaryRow {
  readonly mlir: string;
  readonly kind: Kind;
  readonly vjp?: BinaryRule;
}

function binaryOp(name: string, row: BinaryRow): Op<None> {
  const { vjp } = row;
  return {
    name,
    zeroDerivative: vjp === undefined,
    shape([x]) {
      check(name, x!.dtype, row.kind);
      return [{ shape: x!.shape, dtype: x!.dtype }];
    },
    ...(vjp && {
      vjp: ({ inputs: [x, y], outputs: [z] }, [g]) =>
        g === undefined ? [undefined, undefined] : vjp(g, x!, y!, z!),
    }),
    batch: (inputs, batched, _, size) => [bind(ops[name as BinaryName], uniform(inputs, batched, size), {})],
    lower: (lowering, { inputs: [x], outputs: [z] }, [a, b]) =>
      lowering.emit(
        row.mlir.startsWith("chlo.")
          ? `${row.mlir} ${a}, ${b} : ${tensorType(x!)}, ${tensorType(x!)} -> ${tensorType(z!)}`
          : `${row.mlir} ${a}, ${b} : ${tensorType(z!)}`,
      ),
  };
}

/** All inputs with a batch axis. */
export function uniform(inputs: readonly Tensor[], batched: readonly boolean[], size: number): Tensor[] {
  return inputs.map((x, i) => (batched[i] ? x : addBatchAxis(x, size)));
}

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
    kind: "number",
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
    kind: "float",
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
    kind: "float",
    vjp: (g, n, x) => [undefined, mul(g, polygamma(add(n, 1), x))],
  },
  and: { mlir: "stablehlo.and", kind: "logical" },
  or: { mlir: "stablehlo.or", kind: "logical" },
  xor: { mlir: "stablehlo.xor", kind: "logical" },
  shiftLeft: { mlir: "stablehlo.shift_left", kind: "integer" },
  shiftRightLogical: { mlir: "stablehlo.shift_right_logical", kind: "integer" },
  shiftRightArithmetic: { mlir: "stablehlo.shift_right_arithmetic", kind: "integer" },
} as const satisfies Record<string, BinaryRow>;

type BinaryName = keyof typeof binaryTable;

const ops = {
  ...mapTable(unaryTable, unaryOp),
  ...mapTable(binaryTable, binaryOp),
} as Record<UnaryName | BinaryName, Op<None>>;

function mapTable<R>(
  table: Record<string, R>,
  make: (name: string, row: R) => Op<None>,
): Record<string, Op<None>> {
  return Object.fromEntries(Object.entries(table).map(([name, row]) => [name, make(name, row)]));
}

/** Whether `x` takes its type from the operand beside it. */
function isWeak(x: TensorLike): x is Scalar {
  return typeof x === "number" || typeof x === "bigint" || typeof x === "boolean";
}

/** The type of a weak scalar beside a tensor of `dtype`: the tensor's, but for fractions beside integers and numbers beside bools. */
function weakDType(value: Scalar, dtype: DType): DType {
  if (typeof value === "boolean") return dtype;
  if (isDifferentiable(dtype)) return dtype;
  if (typeof value === "number" && !Number.isInteger(value)) return "float32";
  return dtype === "bool" ? "int32" : dtype;
}

/** Brings operands to one type and one shape. */
export function promote(operation: string, ...operands: readonly TensorLike[]): Tensor[] {
  const strong = operands.map((x) => (isWeak(x) ? x : x instanceof Tensor ? x : tensor(x as Nested)));
  let dtype: DType | undefined;
  for (const x of strong)
    if (!isWeak(x)) dtype = dtype === undefined ? x.dtype : promoteTypes(dtype, x.dtype);
  for (const x of strong) {
    if (isWeak(x)) dtype = dtype === undefined ? defaultDType(x) : weakDType(x, dtype);
  }
  const target = dtype!;
  const tensors = strong.map((x) => (isWeak(x) ? scalar(x, target) : cast(x, target)));
  const shape = broadcastShapes(operation, ...tensors.map((x) => x.shape));
  return tensors.map((x) => broadcastTo(x, shape));
}

function unary(name: UnaryName): (x: TensorLike) => Tensor {
  const floating = unaryTable[name].kind === "float";
  return (x) => {
    const [operand] = promote(name, x);
    const real = floating && !isDifferentiable(operand!.dtype) ? cast(operand!, "float32") : operand!;
    return bind(ops[name], [real], {});
  };
}

function binary(name: BinaryName): (x: TensorLike, y: TensorLike) => Tensor {
  const floating = binaryTable[name].kind === "float";
  return (x, y) => {
    let operands = promote(name, x, y);
    if (floating && !isDifferentiable(operands[0]!.dtype)) operands = operands.map((o) => cast(o, "float32"));
    return bind(ops[name], operands, {});
  };
}

export const neg = unary("neg");
const signedAbs = unary("abs");
/** Absolute value. */
export function abs(x: TensorLike): Tensor {
  const [t] = promote("abs", x);
  return isUnsigned(t!.dtype) ? t! : signedAbs(t!);
}
export const exp = unary("exp");
/** exp(x) - 1, accurate near 0. */
export const expm1 = unary("expm1");
export const log = unary("log");
/** log(1 + x), accurate near 0. */
export const log1p = unary("log1p");
export const sqrt = unary("sqrt");
/** 1 / sqrt(x). */
export const rsqrt = unary("rsqrt");
export const cbrt = unary("cbrt");
export const sin = unary("sin");
export const cos = unary("cos");
export const tan = unary("tan");
export const asin = unary("asin");
export const acos = unary("acos");
export const atan = unary("atan");
export const sinh = unary("sinh");
export const cosh = unary("cosh");
export const tanh = unary("tanh");
export const asinh = unary("asinh");
export const acosh = unary("acosh");
export const atanh = unary("atanh");
/** 1 / (1 + exp(-x)). */
export const sigmoid = unary("sigmoid");
export const erf = unary("erf");
export const erfc = unary("erfc");
/** The inverse of erf on (-1, 1). */
export const erfinv = unary("erfinv");
/** log |Γ(x)|. */
export const lgamma = unary("lgamma");
export const digamma = unary("digamma");
export const floor = unary("floor");
export const ceil = unary("ceil");
/** Nearest integer, ties to even. */
export const round = unary("round");
const signedSign = unary("sign");
/** -1, 0 or 1 (NaN for NaN). */
export function sign(x: TensorLike): Tensor {
  const [t] = promote("sign", x);
  return isUnsigned(t!.dtype) ? minimum(t!, 1) : signedSign(t!);
}
/** Bitwise not; logical not of bools. */
export const not = unary("not");
export const popcount = unary("popcount");
/** Number of leading zero bits. */
export const clz = unary("clz");

const addNumbers = binary("add");
const mulNumbers = binary("mul");

/** Sum; of two bools their or. */
export function add(x: TensorLike, y: TensorLike): Tensor {
  return areBools(x, y) ? or(x, y) : addNumbers(x, y);
}

/** Product; of two bools their and. */
export function mul(x: TensorLike, y: TensorLike): Tensor {
  return areBools(x, y) ? and(x, y) : mulNumbers(x, y);
}

function areBools(x: TensorLike, y: TensorLike): boolean {
  const isBool = (v: TensorLike): boolean =>
    typeof v === "boolean" || (v instanceof Tensor && v.dtype === "bool");
  return isBool(x) && isBool(y);
}

export const sub = binary("sub");
/** The remainder with the dividend's sign, as C's %. */
export const rem = binary("rem");
export const atan2 = binary("atan2");
export const maximum = binary("maximum");
export const minimum = binary("minimum");
/** The `n`-th derivative of digamma at `x`. */
export const polygamma = binary("polygamma");
/** Bitwise and; logical and of bools. */
export const and = binary("and");
/** Bitwise or; logical or of bools. */
export const or = binary("or");
/** Bitwise exclusive or. */
export const xor = binary("xor");
export const shiftLeft = binary("shiftLeft");
export const shiftRightLogical = binary("shiftRightLogical");
export const shiftRightArithmetic = binary("shiftRightArithmetic");

/** Quotient in floating point: integers are converted to float32. */
export function div(x: TensorLike, y: TensorLike): Tensor {
  let operands = promote("div", x, y);
  if (!isDifferentiable(operands[0]!.dtype)) operands = operands.map((o) => cast(o, "float32"));
  return bind(ops.div, operands, {});
}

/** Largest integer not above the quotient. */
export function floorDiv(x: TensorLike, y: TensorLike): Tensor {
  const [a, b] = promote("floorDiv", x, y) as [Tensor, Tensor];
  if (isFloat(a.dtype)) return floor(div(a, b));
  const quotient = bind(ops.div, [a, b], {});
  if (isUnsigned(a.dtype)) return quotient;
  const inexact = and(notEqual(rem(a, b), 0), notEqual(sign(a), sign(b)));
  return where(inexact, sub(quotient, 1), quotient);
}

/** The remainder with the divisor's sign, as Python's %. */
export function mod(x: TensorLike, y: TensorLike): Tensor {
  const [a, b] = promote("mod", x, y) as [Tensor, Tensor];
  const r = rem(a, b);
  if (isUnsigned(a.dtype)) return r;
  return where(and(notEqual(r, 0), notEqual(less(r, 0), less(b, 0))), add(r, b), r);
}

/** `x` to the power `y`; small integer powers become products and reciprocals. */
export function pow(x: TensorLike, y: TensorLike): Tensor {
  if (typeof y === "number" && x instanceof Tensor) {
    if (Number.isInteger(y) && Math.abs(y) <= 8 && (y >= 0 || isDifferentiable(x.dtype))) {
      return y < 0 ? div(1, integerPower(x, -y)) : integerPower(x, y);
    }
  }
  return bind(ops.pow, promote("pow", x, y), {});
}

function integerPower(x: Tensor, n: number): Tensor {
  if (n === 0) return full(x.shape, 1, { dtype: x.dtype });
  let result: Tensor | undefined;
  let square = x;
  for (let rest = n; ; square = mul(square, square)) {
    if (rest & 1) result = result === undefined ? square : mul(result, square);
    rest >>= 1;
    if (rest === 0) return result!;
  }
}

export function square(x: TensorLike): Tensor {
  const [t] = promote("square", x);
  return mul(t!, t!);
}

/** `1 / x`. */
export function reciprocal(x: TensorLike): Tensor {
  return div(1, x);
}

/** Rounds toward zero. */
export function truncate(x: Tensor): Tensor {
  return where(less(x, 0), ceil(x), floor(x));
}

type Direction = "EQ" | "NE" | "LT" | "LE" | "GT" | "GE";

const comparePrimitive: Op<{ direction: Direction }> = {
  name: "compare",
  zeroDerivative: true,
  shape: ([x]) => [{ shape: x!.shape, dtype: "bool" }],
  batch: (inputs, batched, attributes, size) => [
    bind(comparePrimitive, uniform(inputs, batched, size), attributes),
  ],
  lower(lowering, { inputs: [x], outputs: [y], attributes: { direction } }, [a, b]) {
    const { dtype } = x!;
    const kind =
      isFloat(dtype) || isComplex(dtype)
        ? "FLOAT"
        : isUnsigned(dtype) || dtype === "bool"
          ? "UNSIGNED"
          : "SIGNED";
    return lowering.emit(
      `stablehlo.compare ${direction}, ${a}, ${b}, ${kind} : (${tensorType(x!)}, ${tensorType(x!)}) -> ${tensorType(y!)}`,
    );
  },
};

function comparison(name: string, direction: Direction): (x: TensorLike, y: TensorLike) => Tensor {
  return (x, y) => bind(comparePrimitive, promote(name, x, y), { direction });
}

export const equal = comparison("equal", "EQ");
export const notEqual = comparison("notEqual", "NE");
export const less = comparison("less", "LT");
export const lessEqual = comparison("lessEqual", "LE");
export const greater = comparison("greater", "GT");
export const greaterEqual = comparison("greaterEqual", "GE");

export function isnan(x: TensorLike): Tensor {
  return notEqual(x, x);
}

const isFinitePrimitive: Op<None> = {
  name: "is_finite",
  zeroDerivative: true,
  shape([x]) {
    check("isfinite", x!.dtype, "float");
    return [{ shape: x!.shape, dtype: "bool" }];
  },
  batch: ([x]) => [bind(isFinitePrimitive, [x!], {})],
  lower: (lowering, { inputs: [x], outputs: [y] }, [name]) =>
    lowering.emit(`stablehlo.is_finite ${name} : (${tensorType(x!)}) -> ${tensorType(y!)}`),
};

export function isfinite(x: TensorLike): Tensor {
  const [t] = promote("isfinite", x);
  return isFloat(t!.dtype) ? bind(isFinitePrimitive, [t!], {}) : equal(t!, t!);
}

const selectPrimitive: Op<None> = {
  name: "select",
  shape([condition, x]) {
    if (condition!.dtype !== "bool")
      throw new DTypeError(`where: the condition is ${condition!.dtype}`, "compare first: it must be bool");
    return [{ shape: x!.shape, dtype: x!.dtype }];
  },
  vjp({ inputs: [condition, x] }, [g]) {
    if (g === undefined) return [undefined, undefined, undefined];
    const nothing = zerosLike(x!);
    return [
      undefined,
      bind(selectPrimitive, [condition!, g, nothing], {}),
      bind(selectPrimitive, [condition!, nothing, g], {}),
    ];
  },
  batch: (inputs, batched, _, size) => [bind(selectPrimitive, uniform(inputs, batched, size), {})],
  lower: (lowering, { inputs: [condition], outputs: [y] }, [c, a, b]) =>
    lowering.emit(`stablehlo.select ${c}, ${a}, ${b} : ${tensorType(condition!)}, ${tensorType(y!)}`),
};

/** Elements of `x` where `condition` holds, else of `y`; broadcasts all three. */
export function where(condition: TensorLike, x: TensorLike, y: TensorLike): Tensor {
  const [a, b] = promote("where", x, y) as [Tensor, Tensor];
  const c = isWeak(condition)
    ? scalar(condition, "bool")
    : condition instanceof Tensor
      ? condition
      : tensor(condition as Nested);
  const shape = broadcastShapes("where", c.shape, a.shape);
  return bind(selectPrimitive, [broadcastTo(c, shape), broadcastTo(a, shape), broadcastTo(b, shape)], {});
}

/** Limits `x` to [`low`, `high`]; the gradient passes where `x` lies within. */
export function clip(x: TensorLike, low?: TensorLike, high?: TensorLike): Tensor {
  let [result] = promote("clip", x) as [Tensor];
  if (low !== undefined) result = maximum(result, low);
  if (high !== undefined) result = minimum(result, high);
  return result;
}

const convertPrimitive: Op<{ dtype: DType }> = {
  name: "convert",
  shape: ([x], { dtype }) => [{ shape: x!.shape, dtype }],
  vjp: ({ inputs: [x], attributes: { dtype } }, [g]) => [
    g && isDifferentiable(x!.dtype) && isDifferentiable(dtype) ? cast(g, x!.dtype) : undefined,
  ],
  batch: ([x], _, { dtype }) => [cast(x!, dtype)],
  lower: (lowering, { inputs: [x], outputs: [y] }, [name]) =>
    lowering.emit(`stablehlo.convert ${name} : (${tensorType(x!)}) -> ${tensorType(y!)}`),
};

export interface CastOptions {
  /** Values outside the range of a floating-point type become its largest (default: infinity, or NaN where it has none). */
  saturate?: boolean;
}

/** Converts to another element type; to bool by comparison with 0. A scalar constant is converted at once. */
export function cast(x: Tensor, dtype: DType, { saturate = false }: CastOptions = {}): Tensor {
  if (x.dtype === dtype) return x;
  if (saturate && isFloat(dtype) && isFloat(x.dtype)) {
    const [top, own] = [limits(dtype).max, limits(x.dtype).max];
    return cast(top < own ? clip(x, -top, top) : x, dtype);
  }
  if (x.node.primitive === (constant as unknown) && isFloat(dtype)) {
    return scalar((x.node.attributes as { value: Scalar }).value, dtype);
  }
  return dtype === "bool" ? notEqual(x, 0) : bind(convertPrimitive, [x], { dtype });
}

const bitcastPrimitive: Op<{ dtype: DType }> = {
  name: "bitcast_convert",
  zeroDerivative: true,
  shape: ([x], { dtype }) => [{ shape: x!.shape, dtype }],
  batch: ([x], _, { dtype }) => [bitcast(x!, dtype)],
  lower: (lowering, { inputs: [x], outputs: [y] }, [name]) =>
    lowering.emit(`stablehlo.bitcast_convert ${name} : (${tensorType(x!)}) -> ${tensorType(y!)}`),
};

/** The same bits read as another type of the same size. */
export function bitcast(x: Tensor, dtype: DType): Tensor {
  return x.dtype === dtype ? x : bind(bitcastPrimitive, [x], { dtype });
}

const stopGradientPrimitive: Op<None> = {
  name: "stop_gradient",
  zeroDerivative: true,
  shape: ([x]) => [{ shape: x!.shape, dtype: x!.dtype }],
  batch: ([x]) => [stopGradient(x!)],
  lower: (_lowering, _application, names) => names,
};

/** `x`, through which no gradient flows. */
export function stopGradient(x: Tensor): Tensor {
  return bind(stopGradientPrimitive, [x], {});
}

// Activations

/** max(x, 0), with gradient 0 at 0; NaN stays NaN. */
export function relu(x: Tensor): Tensor {
  return where(lessEqual(x, 0), 0, x);
}

/** x · sigmoid(x), also called swish. */
export function silu(x: Tensor): Tensor {
  return mul(x, sigmoid(x));
}

/** Gaussian error linear unit (Hendrycks & Gimpel 2016): exact by erf, or its tanh approximation. */
export function gelu(x: Tensor, { approximate = false } = {}): Tensor {
  if (approximate) {
    const inner = mul(add(x, mul(mul(mul(x, x), x), 0.044715)), Math.sqrt(2 / Math.PI));
    return mul(mul(x, 0.5), add(tanh(inner), 1));
  }
  return mul(mul(x, 0.5), erfc(mul(neg(x), Math.SQRT1_2)));
}

/** log(1 + exp(x)), without overflow. */
export function softplus(x: Tensor): Tensor {
  return add(maximum(x, 0), log1p(exp(neg(abs(x)))));
}
