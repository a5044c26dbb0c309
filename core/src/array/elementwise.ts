/** Element-wise operations, with promotion of their operands; the primitives are in elementwise-primitives.ts. */
import {
  type DType,
  isComplex,
  isDifferentiable,
  isFloat,
  isInteger,
  isUnsigned,
  itemSize,
  promoteTypes,
} from "../graph/dtype.js";
import { ArgumentError, DTypeError } from "../graph/errors.js";
import { functionType, type Lowering, tensorType } from "../graph/lowering.js";
import type { Aval } from "../graph/node.js";
import { bind, type Op } from "./bind.js";
import { addBatchAxis, broadcastTo, defaultDType, full, zerosLike } from "./broadcast.js";
import { imag, magnitude, real } from "./complex.js";
import { constant, literal, type Scalar, scalar, tensor } from "./creation.js";
import { isContinuous, type OperationName, ops } from "./elementwise-primitives.js";
import { AWAIT, described, isPromise } from "./given.js";
import { decode, encode, flattenNested, limits, type Nested, type TypedArray } from "./hostdata.js";
import { check, oncePerElement } from "./kinds.js";
import { broadcastShapes, checkDType } from "./shapes.js";
import { Tensor } from "./tensor.js";

/** What operations take beside Tensors: numbers, booleans and nested arrays of them, which take the Tensor's type where it has them. */
export type TensorLike = Tensor | Scalar | readonly Nested[];

type None = Record<string, never>;

/** All inputs with a batch axis. */
export function uniform(inputs: readonly Tensor[], batched: readonly boolean[], size: number): Tensor[] {
  return inputs.map((x, i) => (batched[i] ? x : addBatchAxis(x, size)));
}

/** Whether `x` is a lone number or boolean. */
function isScalar(x: unknown): x is Scalar {
  return typeof x === "number" || typeof x === "bigint" || typeof x === "boolean";
}

/** Numbers written down: what takes its type from the operand beside it. */
interface Weak {
  readonly dtype: DType;
  /** Whether an integer type has them. */
  readonly whole: boolean;
  as(dtype: DType): Tensor;
}

function weak(operation: string, x: unknown): Weak {
  if (isScalar(x)) {
    const whole = typeof x !== "number" || Number.isInteger(x);
    return { dtype: defaultDType(x), whole, as: (dtype) => scalar(x, dtype) };
  }
  if (!Array.isArray(x)) {
    throw new ArgumentError(
      `${operation}: an operand is ${described(x)}`,
      isPromise(x)
        ? AWAIT
        : x === undefined
          ? "give all operands: a Tensor, a number, a boolean or nested arrays for each"
          : "operands are Tensors, numbers, booleans and nested arrays of them",
    );
  }
  const { dtype, elements } = flattenNested(x as Nested);
  return { dtype, whole: elements.every(Number.isInteger), as: (dtype) => tensor(x as Nested, { dtype }) };
}

/** The type of numbers beside a tensor of `dtype`: the tensor's, but for fractions beside integers and numbers beside bools. */
function weakDType({ dtype: own, whole }: Weak, dtype: DType): DType {
  if (own === "bool" || isDifferentiable(dtype)) return dtype;
  if (!whole) return "float32";
  return dtype === "bool" ? "int32" : dtype;
}

/** Brings operands to one type and one shape. */
export function promote(operation: string, ...operands: readonly TensorLike[]): Tensor[] {
  const given = operands.map((x) =>
    x instanceof Tensor ? x : ArrayBuffer.isView(x) ? tensor(x as unknown as TypedArray) : weak(operation, x),
  );
  const strong = given.filter((x) => x instanceof Tensor);
  let dtype = (strong.length > 0 ? strong : given).map((x) => x.dtype).reduce(promoteTypes);
  if (strong.length > 0) for (const x of given) if (!(x instanceof Tensor)) dtype = weakDType(x, dtype);
  const tensors = given.map((x) => (x instanceof Tensor ? cast(x, dtype) : x.as(dtype)));
  const shape = broadcastShapes(operation, ...tensors.map((x) => x.shape));
  return tensors.map((x) => broadcastTo(x, shape));
}

/** Applies an operation to promoted operands; functions of real numbers convert integers to float32. */
function apply(name: OperationName, ...given: readonly TensorLike[]): Tensor {
  const operands = promote(name, ...given);
  const converts = isContinuous(name) && !isDifferentiable(operands[0]!.dtype);
  return bind(ops[name], converts ? operands.map((o) => cast(o, "float32")) : operands, {});
}

const unary =
  (name: OperationName) =>
  (x: TensorLike): Tensor =>
    apply(name, x);
const binary =
  (name: OperationName) =>
  (x: TensorLike, y: TensorLike): Tensor =>
    apply(name, x, y);

/** Integers and bools are whole already, and not all of them are float32 numbers. */
const rounding =
  (name: "floor" | "ceil" | "round") =>
  (x: TensorLike): Tensor => {
    const [t] = promote(name, x) as [Tensor];
    return isInteger(t.dtype) || t.dtype === "bool" ? t : apply(name, t);
  };

export const neg = unary("neg");
const signedAbs = unary("abs");
/** Absolute value; of complex numbers a real one. */
export function abs(x: TensorLike): Tensor {
  const [t] = promote("abs", x);
  if (isComplex(t!.dtype)) return magnitude(t!);
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
export const floor = rounding("floor");
export const ceil = rounding("ceil");
/** Nearest integer, ties to even. */
export const round = rounding("round");
const signedSign = unary("sign");
/** -1, 0 or 1 (NaN for NaN); of complex numbers z / |z|. */
export function sign(x: TensorLike): Tensor {
  const [t] = promote("sign", x);
  if (isComplex(t!.dtype)) {
    const size = magnitude(t!);
    return div(t!, cast(where(equal(size, 0), 1, size), t!.dtype));
  }
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
/** The remainder with the dividend's sign, as C's %; of an integer by 0 it is 0, as NumPy's. */
export function rem(x: TensorLike, y: TensorLike): Tensor {
  const [a, b] = promote("rem", x, y) as [Tensor, Tensor];
  const remainder = bind(ops.rem, [a, b], {});
  return isInteger(a.dtype) && !isNonzero(y) ? where(equal(b, 0), 0, remainder) : remainder;
}

/** Whether a divisor is known while tracing not to be 0. */
function isNonzero(y: TensorLike): boolean {
  if (!(y instanceof Tensor)) return isScalar(y) && Number(y) !== 0;
  return y.node.primitive === (constant as unknown) && Number(y.node.attributes.value) !== 0;
}

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

/** Largest integer not above the quotient: `floorDiv(x, y) * y + mod(x, y)` is `x`, as in Python; of an integer by 0 it is 0, as NumPy's. */
export function floorDiv(x: TensorLike, y: TensorLike): Tensor {
  const [a, b] = promote("floorDiv", x, y) as [Tensor, Tensor];
  if (isFloat(a.dtype)) {
    // floor(a / b) would be one too large where the quotient rounds up to a whole number.
    const r = rem(a, b);
    const whole = div(sub(a, r), b);
    const floored = where(and(notEqual(r, 0), notEqual(sign(r), sign(b))), sub(whole, 1), whole);
    return where(equal(b, 0), div(a, b), round(floored));
  }
  const divided = bind(ops.div, [a, b], {});
  const quotient = isNonzero(y) ? divided : where(equal(b, 0), 0, divided);
  if (isUnsigned(a.dtype)) return quotient;
  const inexact = and(notEqual(rem(a, b), 0), notEqual(sign(a), sign(b)));
  return where(inexact, sub(quotient, 1), quotient);
}

/** The remainder with the divisor's sign, as Python's %; of an integer by 0 it is 0. */
export function mod(x: TensorLike, y: TensorLike): Tensor {
  const [a, b] = promote("mod", x, y) as [Tensor, Tensor];
  const r = rem(a, isNonzero(y) && isScalar(y) ? y : b);
  if (isUnsigned(a.dtype)) return r;
  return where(and(notEqual(r, 0), notEqual(less(r, 0), less(b, 0))), add(r, b), r);
}

/** `x` to the power `y`; small integer powers become products and reciprocals. */
export function pow(x: TensorLike, y: TensorLike): Tensor {
  if (typeof y === "number" && Number.isInteger(y) && x instanceof Tensor) {
    const real = isDifferentiable(x.dtype);
    if (y < 0 && !real)
      throw new DTypeError(`pow: ${x.dtype} to the power ${y}`, 'convert with .astype("float32") first');
    if (Math.abs(y) <= 8) return integerPower(x.dtype === "bool" ? cast(x, "int32") : x, y);
  }
  return bind(ops.pow, promote("pow", x, y), {});
}

const integerPowerPrimitive: Op<{ exponent: number }> = {
  name: "integer_pow",
  fusion: "element",
  flops({ outputs: [y], attributes: { exponent } }) {
    const bits = Math.abs(exponent).toString(2);
    return y!.size * (bits.length - 1 + bits.replaceAll("0", "").length - 1 + (exponent < 0 ? 1 : 0));
  },
  shape: ([x]) => [{ shape: x!.shape, dtype: x!.dtype }],
  vjp: ({ inputs: [x], attributes: { exponent } }, [g]) => [
    g && mul(g, mul(integerPower(x!, exponent - 1), exponent)),
  ],
  batch: ([x], _, { exponent }) => [integerPower(x!, exponent)],
  lower(lowering, { outputs: [y], attributes: { exponent } }, [x]) {
    const type = tensorType(y!);
    const product = (a: string, b: string): string =>
      lowering.emit(`stablehlo.multiply ${a}, ${b} : ${type}`)[0]!;
    let result: string | undefined;
    let square = x!;
    for (let rest = Math.abs(exponent); ; square = product(square, square)) {
      if (rest & 1) result = result === undefined ? square : product(result, square);
      rest >>= 1;
      if (rest === 0) break;
    }
    if (exponent > 0) return [result!];
    const one = lowering.constant(literal(1, y!.dtype), y!.dtype);
    const ones = lowering.emit(
      `stablehlo.broadcast_in_dim ${one}, dims = [] : ${functionType([{ shape: [], dtype: y!.dtype }], [y!])}`,
    )[0];
    return lowering.emit(`stablehlo.divide ${ones}, ${result} : ${type}`);
  },
};

function integerPower(x: Tensor, exponent: number): Tensor {
  if (exponent === 0) return full(x.shape, 1, { dtype: x.dtype });
  return exponent === 1 ? x : bind(integerPowerPrimitive, [x], { exponent });
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
  if (!isFloat(x.dtype)) return x;
  return where(less(x, 0), ceil(x), floor(x));
}

type Direction = "EQ" | "NE" | "LT" | "LE" | "GT" | "GE";

const comparePrimitive: Op<{ direction: Direction }> = {
  name: "compare",
  ...oncePerElement,
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
  const ordered = direction !== "EQ" && direction !== "NE";
  return (x, y) => {
    const operands = promote(name, x, y);
    if (ordered) check(name, operands[0]!.dtype, "any");
    return bind(comparePrimitive, operands, { direction });
  };
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
  ...oncePerElement,
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
  const [t] = promote("isfinite", x) as [Tensor];
  if (isComplex(t.dtype)) return and(isfinite(real(t)), isfinite(imag(t)));
  return isFloat(t.dtype) ? bind(isFinitePrimitive, [t], {}) : equal(t, t);
}

export function isinf(x: TensorLike): Tensor {
  const [t] = promote("isinf", x) as [Tensor];
  if (isComplex(t.dtype)) return or(isinf(real(t)), isinf(imag(t)));
  return isFloat(t.dtype) ? equal(abs(t), Number.POSITIVE_INFINITY) : notEqual(t, t);
}

const selectPrimitive: Op<None> = {
  name: "select",
  ...oncePerElement,
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
  const c = condition instanceof Tensor ? condition : cast(promote("where", condition)[0]!, "bool");
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
  ...oncePerElement,
  shape: ([x], { dtype }) => [{ shape: x!.shape, dtype }],
  vjp: ({ inputs: [x], attributes: { dtype } }, [g]) => [
    g && isDifferentiable(x!.dtype) && isDifferentiable(dtype) ? cast(g, x!.dtype) : undefined,
  ],
  batch: ([x], _, { dtype }) => [cast(x!, dtype)],
  lower(lowering, { inputs: [x], outputs: [y] }, [name]) {
    if (!y!.dtype.startsWith("float8") || x!.dtype === "bool" || isComplex(x!.dtype))
      return lowering.emit(`stablehlo.convert ${name} : (${tensorType(x!)}) -> ${tensorType(y!)}`);
    // What is rounded already is converted exactly, whatever way the compiler takes.
    const wide = { shape: x!.shape, dtype: x!.dtype === "float64" ? x!.dtype : "float32" } as const;
    const from =
      x!.dtype === wide.dtype
        ? name
        : lowering.emit(`stablehlo.convert ${name} : ${functionType([x!], [wide])}`)[0];
    const rounded = lowerFloat8Rounding(lowering, from!, wide, y!.dtype as keyof typeof float8);
    return lowering.emit(`stablehlo.convert ${rounded} : ${functionType([wide], [y!])}`);
  },
};

/** Bits of the mantissa and the exponent of the smallest normal number. */
const float8 = {
  float8_e4m3fn: { mantissa: 3, smallest: -6 },
  float8_e5m2: { mantissa: 2, smallest: -14 },
} as const;

/**
 * The nearest number that a float8 type has or, beyond its range, would have; ties to even. XLA's own conversion goes through float16 on some
 * GPUs, and cuts what does not fit there.
 */
function lowerFloat8Rounding(lowering: Lowering, x: string, aval: Aval, dtype: keyof typeof float8): string {
  const { mantissa, smallest } = float8[dtype];
  const type = tensorType(aval);
  const bits = { shape: aval.shape, dtype: "bool" } as const;
  const emit = (text: string): string => lowering.emit(text)[0]!;
  const filled = (value: number): string =>
    emit(
      `stablehlo.broadcast_in_dim ${lowering.constant(literal(value, aval.dtype), aval.dtype)}, dims = [] : ${functionType([{ shape: [], dtype: aval.dtype }], [aval])}`,
    );
  const normal = emit(
    `stablehlo.reduce_precision ${x}, format = e${aval.dtype === "float64" ? 11 : 8}m${mantissa} : ${type}`,
  );
  // Below the smallest normal number the spacing stays.
  const spacing = 2 ** (smallest - mantissa);
  const steps = emit(
    `stablehlo.round_nearest_even ${emit(`stablehlo.multiply ${x}, ${filled(1 / spacing)} : ${type}`)} : ${type}`,
  );
  const subnormal = emit(`stablehlo.multiply ${steps}, ${filled(spacing)} : ${type}`);
  const isSmall = emit(
    `stablehlo.compare LT, ${emit(`stablehlo.abs ${x} : ${type}`)}, ${filled(2 ** smallest)}, FLOAT : ${functionType([aval, aval], [bits])}`,
  );
  return emit(`stablehlo.select ${isSmall}, ${subnormal}, ${normal} : ${tensorType(bits)}, ${type}`);
}

export interface CastOptions {
  /** Values outside the range of a floating-point type become its largest (default: infinity, or NaN where it has none). */
  saturate?: boolean;
}

/** Converts to another element type; to bool by comparison with 0. A scalar constant is converted at once. */
export function cast(x: Tensor, dtype: DType, { saturate = false }: CastOptions = {}): Tensor {
  if (x.dtype === dtype) return x;
  checkDType("astype", dtype);
  if (saturate && isFloat(dtype) && isFloat(x.dtype)) {
    const [top, own] = [limits(dtype).max, limits(x.dtype).max];
    return cast(top < own ? clip(x, -top, top) : x, dtype);
  }
  if (x.node.primitive === (constant as unknown) && isFloat(dtype)) {
    const { value } = x.node.attributes as { value: Scalar };
    // The value that `x` has, which is not always the number that was written.
    return scalar(
      isFloat(x.dtype) ? Number(decode(encode([Number(value)], x.dtype), x.dtype)[0]) : value,
      dtype,
    );
  }
  return dtype === "bool" ? notEqual(x, 0) : bind(convertPrimitive, [x], { dtype });
}

const bitcastPrimitive: Op<{ dtype: DType }> = {
  name: "bitcast_convert",
  fusion: "element",
  zeroDerivative: true,
  shape([x], { dtype }) {
    if (itemSize(x!.dtype) !== itemSize(dtype) || x!.dtype === "bool" || dtype === "bool") {
      throw new DTypeError(
        `bitcast of ${x!.dtype} to ${dtype}`,
        "both types must have one size, and neither can be bool: see astype() for conversion",
      );
    }
    return [{ shape: x!.shape, dtype }];
  },
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
  fusion: "element",
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
  if (!isDifferentiable(x.dtype)) return gelu(cast(x, "float32"), { approximate });
  if (approximate) {
    const inner = mul(add(x, mul(mul(mul(x, x), x), 0.044715)), Math.sqrt(2 / Math.PI));
    return mul(mul(x, 0.5), add(tanh(inner), 1));
  }
  return mul(mul(x, 0.5), erfc(mul(neg(x), Math.SQRT1_2)));
}
