/** Host data: nested arrays and typed arrays to bytes of a dtype and back. */
import { type DType, isComplex, isInteger, isUnsigned } from "../graph/dtype.js";
import { DTypeError, ShapeError } from "../graph/errors.js";
import type { Shape } from "../graph/node.js";
import { AWAIT, described, isPromise } from "./given.js";

export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

export type Nested = number | boolean | readonly Nested[];

/** The dtype that a typed array's elements have. */
export function dtypeOf(data: TypedArray): DType {
  if (data instanceof Float32Array) return "float32";
  if (data instanceof Float64Array) return "float64";
  if (data instanceof Int8Array) return "int8";
  if (data instanceof Int16Array) return "int16";
  if (data instanceof Int32Array) return "int32";
  if (data instanceof Uint8Array) return "uint8";
  if (data instanceof Uint16Array) return "uint16";
  if (data instanceof Uint32Array) return "uint32";
  if (data instanceof BigInt64Array) return "int64";
  if (data instanceof BigUint64Array) return "uint64";
  throw new DTypeError(
    `an array of ${(data as object).constructor.name}`,
    "copy it into one of the other typed arrays, e.g. Float32Array.from(data)",
  );
}

/** Shape, default dtype (float32 for numbers, whole ones too, since JavaScript cannot write 1.0; bool for booleans) and elements of nested arrays. */
export function flattenNested(value: Nested): { shape: number[]; dtype: DType; elements: number[] } {
  const shape: number[] = [];
  for (let v: Nested = value; Array.isArray(v); v = v[0] as Nested) {
    shape.push(v.length);
    if (v.length === 0) break;
  }
  const elements: number[] = [];
  let dtype: DType = "bool";
  const visit = (v: Nested, axis: number): void => {
    if (Array.isArray(v)) {
      if (v.length !== shape[axis]) {
        throw new ShapeError(
          `ragged nested array: ${v.length} elements along axis ${axis} where others have ${shape[axis]}`,
          "give all rows the same length",
        );
      }
      for (const item of v as readonly Nested[]) visit(item, axis + 1);
      return;
    }
    if (axis !== shape.length) throw new ShapeError("ragged nested array: a number where others have arrays");
    if (typeof v === "number") {
      dtype = "float32";
    } else if (typeof v !== "boolean") {
      throw new DTypeError(
        `an array element is ${described(v)}`,
        isPromise(v)
          ? AWAIT
          : "use numbers or booleans; join Tensors with stack(), and 64-bit integers in a BigInt64Array",
      );
    }
    elements.push(Number(v));
  };
  visit(value, 0);
  if (elements.length === 0) dtype = "float32";
  return { shape, dtype, elements };
}

/** Refuses numbers that an integer type does not have, as NumPy does: they would come out as others. */
export function checkElements(elements: readonly number[], dtype: DType): void {
  if (!isInteger(dtype)) return;
  const { min, max } = limits(dtype);
  for (const x of elements) {
    if (x >= min && x <= max) continue;
    throw new DTypeError(
      `${x} is outside ${dtype}, ${min} to ${max}`,
      'name a type that has it: { dtype: "float32" } or { dtype: "int64" }, for instance',
    );
  }
}

const scratch = new DataView(new ArrayBuffer(4));

/** The bfloat16 nearest to `x` (ties to even), as its 16 bits. */
export function toBfloat16(x: number): number {
  scratch.setFloat32(0, x);
  const bits = scratch.getUint32(0);
  if (Number.isNaN(x)) return 0x7fc0;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

function fromBfloat16(bits: number): number {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}

/** Reads a small float of `exponent` and `mantissa` bits; e4m3fn has no infinities. */
function fromSmallFloat(bits: number, exponent: number, mantissa: number, finite: boolean): number {
  const sign = bits >> (exponent + mantissa) ? -1 : 1;
  const e = (bits >> mantissa) & ((1 << exponent) - 1);
  const m = bits & ((1 << mantissa) - 1);
  const top = (1 << exponent) - 1;
  const bias = (1 << (exponent - 1)) - 1;
  if (e === top && !finite) return m === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (e === top && finite && m === (1 << mantissa) - 1) return Number.NaN;
  if (e === 0) return sign * m * 2 ** (1 - bias - mantissa);
  return sign * (1 + m / (1 << mantissa)) * 2 ** (e - bias);
}

/** Rounds to the nearest small float (ties to even); overflow gives infinity, or NaN where there are none. */
function toSmallFloat(x: number, exponent: number, mantissa: number, finite: boolean): number {
  const top = (1 << exponent) - 1;
  const bias = (1 << (exponent - 1)) - 1;
  const sign = x < 0 || Object.is(x, -0) ? 1 << (exponent + mantissa) : 0;
  const a = Math.abs(x);
  const nan = (top << mantissa) | ((1 << mantissa) - 1);
  const overflow = finite ? nan : top << mantissa;
  if (Number.isNaN(x)) return nan;
  if (a === 0) return sign;
  if (a === Number.POSITIVE_INFINITY) return sign | overflow;
  const e = Math.max(Math.floor(Math.log2(a)), 1 - bias);
  const ulp = 2 ** (e - mantissa);
  let q = a / ulp;
  const floor = Math.floor(q);
  const rest = q - floor;
  q = rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
  const bits = q >= 1 << mantissa ? ((e + bias - 1) << mantissa) + q : q;
  return sign | Math.min(bits, overflow);
}

/** A number without its fraction; 0 for NaN and infinities, as the narrower integer types have them. */
function whole(x: number | bigint): bigint {
  return typeof x === "bigint" ? x : Number.isFinite(x) ? BigInt(Math.trunc(x)) : 0n;
}

/**
 * The elements as bytes of `dtype`, row-major and little-endian, in a fresh buffer. Complex numbers are given as real and imaginary part by
 * turns.
 */
export function encode(elements: ArrayLike<number | bigint>, dtype: DType): Uint8Array {
  if (ArrayBuffer.isView(elements) && dtypeOf(elements as TypedArray) === dtype) {
    const { buffer, byteOffset, byteLength } = elements;
    return new Uint8Array(buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer);
  }
  const numbers = elements as ArrayLike<number>;
  const bytes = (array: ArrayBufferView): Uint8Array =>
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  switch (dtype) {
    case "float32":
    case "complex64":
      return bytes(Float32Array.from(numbers, Number));
    case "float64":
      return bytes(Float64Array.from(numbers, Number));
    case "int8":
      return bytes(Int8Array.from(numbers, Number));
    case "int16":
      return bytes(Int16Array.from(numbers, Number));
    case "int32":
      return bytes(Int32Array.from(numbers, Number));
    case "uint8":
      return Uint8Array.from(numbers, Number);
    case "bool":
      return Uint8Array.from(numbers, (x) => (x ? 1 : 0));
    case "uint16":
      return bytes(Uint16Array.from(numbers, Number));
    case "uint32":
      return bytes(Uint32Array.from(numbers, Number));
    case "int64":
      return bytes(BigInt64Array.from(elements as ArrayLike<bigint>, whole));
    case "uint64":
      return bytes(BigUint64Array.from(elements as ArrayLike<bigint>, whole));
    case "bfloat16":
      return bytes(Uint16Array.from(numbers, toBfloat16));
    case "float16":
      return bytes(Uint16Array.from(numbers, (x) => toSmallFloat(x, 5, 10, false)));
    case "float8_e4m3fn":
      return Uint8Array.from(numbers, (x) => toSmallFloat(x, 4, 3, true));
    case "float8_e5m2":
      return Uint8Array.from(numbers, (x) => toSmallFloat(x, 5, 2, false));
  }
}

/** Bytes of `dtype` as the typed array that represents it exactly (small floats widen to Float32Array). */
export function decode(raw: Uint8Array, dtype: DType): TypedArray {
  // Buffer.slice() would give a view of the same misaligned memory.
  const bytes = raw.byteOffset % 8 === 0 ? raw : new Uint8Array(raw);
  const { buffer, byteOffset: at, byteLength: length } = bytes;
  switch (dtype) {
    case "float32":
    case "complex64":
      return new Float32Array(buffer, at, length / 4);
    case "float64":
      return new Float64Array(buffer, at, length / 8);
    case "int8":
      return new Int8Array(buffer, at, length);
    case "int16":
      return new Int16Array(buffer, at, length / 2);
    case "int32":
      return new Int32Array(buffer, at, length / 4);
    case "uint8":
    case "bool":
      return bytes;
    case "uint16":
      return new Uint16Array(buffer, at, length / 2);
    case "uint32":
      return new Uint32Array(buffer, at, length / 4);
    case "int64":
      return new BigInt64Array(buffer, at, length / 8);
    case "uint64":
      return new BigUint64Array(buffer, at, length / 8);
    case "bfloat16":
      return Float32Array.from(new Uint16Array(buffer, at, length / 2), fromBfloat16);
    case "float16":
      return Float32Array.from(new Uint16Array(buffer, at, length / 2), (b) =>
        fromSmallFloat(b, 5, 10, false),
      );
    case "float8_e4m3fn":
      return Float32Array.from(bytes, (b) => fromSmallFloat(b, 4, 3, true));
    case "float8_e5m2":
      return Float32Array.from(bytes, (b) => fromSmallFloat(b, 5, 2, false));
  }
}

/** Row-major elements as nested arrays; complex numbers as [real, imaginary]. */
export function nest(data: TypedArray, shape: Shape, dtype: DType): Nested {
  let at = 0;
  const element = (): Nested => {
    if (isComplex(dtype)) return [Number(data[at++]), Number(data[at++])];
    const value = Number(data[at++]);
    return dtype === "bool" ? value !== 0 : value;
  };
  const build = (axis: number): Nested =>
    axis === shape.length ? element() : Array.from({ length: shape[axis]! }, () => build(axis + 1));
  return build(0);
}

/** The largest finite value, and the smallest, of a real type. */
export function limits(dtype: DType): { min: number | bigint; max: number | bigint } {
  const bits = { int8: 8, uint8: 8, int16: 16, uint16: 16, int32: 32, uint32: 32, int64: 64, uint64: 64 }[
    dtype as string
  ];
  if (bits !== undefined) {
    const wide = BigInt(bits);
    const range = isUnsigned(dtype)
      ? { min: 0n, max: (1n << wide) - 1n }
      : { min: -(1n << (wide - 1n)), max: (1n << (wide - 1n)) - 1n };
    return bits === 64 ? range : { min: Number(range.min), max: Number(range.max) };
  }
  const max: Partial<Record<DType, number>> = {
    float64: Number.MAX_VALUE,
    float32: 3.4028234663852886e38,
    bfloat16: 3.3895313892515355e38,
    float16: 65504,
    float8_e4m3fn: 448,
    float8_e5m2: 57344,
    bool: 1,
  };
  const top = max[dtype];
  if (top === undefined) throw new DTypeError(`${dtype} has no order`, "take real(), imag() or abs() first");
  return { min: dtype === "bool" ? 0 : -top, max: top };
}
