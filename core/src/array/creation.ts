/** Constants and arrays made from nothing: scalars, filled arrays, ranges, host data. */
import { type DType, isComplex, isInteger } from "../graph/dtype.js";
import { DTypeError, ShapeError } from "../graph/errors.js";
import { type HostArray, hostArray } from "../graph/leaves.js";
import { tensorType } from "../graph/lowering.js";
import type { Placement } from "../graph/mesh.js";
import type { Shape } from "../graph/node.js";
import type { BufferTag } from "../runtime/runtime.js";
import { bind, type Op } from "./bind.js";
import { described, fixFor } from "./given.js";
import {
  checkElements,
  dtypeOf,
  encode,
  flattenNested,
  limits,
  type Nested,
  type TypedArray,
} from "./hostdata.js";
import { checkDType, checkShape, sizeOf } from "./shapes.js";
import { reshape } from "./shaping.js";
import type { Tensor } from "./tensor.js";

export type Scalar = number | bigint | boolean;

/** A scalar known while tracing, printed into the program. */
export const constant: Op<{ value: Scalar; dtype: DType }> = {
  name: "constant",
  fusion: "element",
  zeroDerivative: true,
  shape: (_, { dtype }) => [{ shape: [], dtype }],
  batch: () => {
    throw new Error("a constant has no inputs to batch");
  },
  lower: (lowering, { attributes: { value, dtype } }) => [lowering.constant(literal(value, dtype), dtype)],
};

const constantArrayPrimitive: Op<{ values: readonly number[]; dtype: DType }> = {
  name: "constant_array",
  fusion: "element",
  zeroDerivative: true,
  shape: (_, { values, dtype }) => [{ shape: [values.length], dtype }],
  lower: (lowering, { outputs: [y], attributes: { values, dtype } }) =>
    lowering.emit(
      `stablehlo.constant dense<[${values.map((x) => literal(x, dtype)).join(", ")}]> : ${tensorType(y!)}`,
    ),
};

/** A short one-dimensional array known while tracing, printed into the program: the compiler computes with it, nothing is uploaded. */
export function constantArray(
  values: readonly number[],
  { dtype = "float32" }: CreationOptions = {},
): Tensor {
  return bind(constantArrayPrimitive, [], { values: [...values], dtype });
}

/** A scalar as MLIR writes it; floats without a short exact decimal are written by their bits. */
export function literal(value: Scalar, dtype: DType): string {
  if (dtype === "bool") return value ? "true" : "false";
  if (isInteger(dtype)) return String(typeof value === "bigint" ? value : BigInt(Math.trunc(Number(value))));
  if (isComplex(dtype)) return `(${literal(value, "float32")}, 0.0)`;
  const x = Number(value);
  if (!Number.isFinite(x) || dtype.startsWith("float8")) {
    const bytes = encode([x], dtype);
    return `0x${[...bytes]
      .reverse()
      .map((b) => b.toString(16).padStart(2, "0"))
      .join("")
      .toUpperCase()}`;
  }
  const text = Object.is(x, -0) ? "-0.0" : String(x);
  return /[.e]/.test(text) ? text.replace(/^(-?\d+)e/, "$1.0e") : `${text}.0`;
}

/** A scalar of `dtype`. Integers out of the type's range are errors. */
export function scalar(value: Scalar, dtype: DType): Tensor {
  checkDType("scalar", dtype);
  if (typeof value !== "number" && typeof value !== "bigint" && typeof value !== "boolean")
    throw new DTypeError(
      `a ${dtype} scalar is ${described(value)}`,
      fixFor(value, "give a number or a boolean"),
    );
  if (isInteger(dtype)) {
    const { min, max } = limits(dtype);
    if (typeof value === "number" && !Number.isInteger(value)) {
      throw new DTypeError(`${value} is no ${dtype}`, "use a floating-point tensor, or round first");
    }
    if (typeof value !== "boolean" && (value < min || value > max))
      throw new DTypeError(`${value} is outside ${dtype}, ${min} to ${max}`, "use a type that has it");
  }
  return bind(constant, [], {
    value: typeof value === "boolean" && dtype !== "bool" ? Number(value) : value,
    dtype,
  });
}

export interface CreationOptions {
  dtype?: DType;
}

/**
 * A Tensor from a number, nested arrays or a typed array. The default dtype is float32 for numbers, whole ones too (JavaScript cannot write
 * 1.0), bool for booleans, and a typed array's own: indices and tokens need `{ dtype: "int32" }` or an Int32Array. Complex tensors are made of
 * real numbers here, and of pairs with `complex()`.
 *
 * @param shape - the shape of the elements; default that of the nested arrays, or one dimension
 * @throws DTypeError for a number that the integer type does not have
 */
export function tensor(
  data: Nested | TypedArray | ArrayLike<number>,
  options: CreationOptions & { shape?: Shape } = {},
): Tensor {
  if (options.dtype !== undefined) checkDType("tensor", options.dtype);
  if (typeof data === "number" || typeof data === "boolean") {
    const single = scalar(data, options.dtype ?? flattenNested(data).dtype);
    return options.shape === undefined ? single : reshape(single, options.shape);
  }
  const given = ArrayBuffer.isView(data)
    ? {
        shape: [(data as TypedArray).length],
        dtype: dtypeOf(data as TypedArray),
        elements: data as TypedArray,
      }
    : flattenNested(data as Nested);
  const [shape, dtype] = [options.shape ?? given.shape, options.dtype ?? given.dtype];
  if (sizeOf(shape) !== given.elements.length) {
    throw new ShapeError(`tensor: ${given.elements.length} elements do not fill shape [${shape.join(", ")}]`);
  }
  if (Array.isArray(given.elements)) checkElements(given.elements, dtype);
  const bytes = isComplex(dtype) ? withoutImaginary(given.elements) : encode(given.elements, dtype);
  return fromBytes(bytes, shape, dtype);
}

function withoutImaginary(real: ArrayLike<number | bigint>): Uint8Array {
  const pairs = new Float32Array(2 * real.length);
  for (let i = 0; i < real.length; i++) pairs[2 * i] = Number(real[i]);
  return encode(pairs, "complex64");
}

/**
 * A Tensor of raw row-major little-endian bytes, which must not change afterwards.
 *
 * @param tag - what it holds, for the account of device memory
 * @param placement - where it is to lie on a mesh; default whole on the first device
 */
export function fromBytes(
  bytes: Uint8Array,
  shape: Shape,
  dtype: DType,
  tag?: BufferTag,
  placement?: Placement,
): Tensor {
  checkDType("tensor", dtype);
  return bind(hostArray as Op<HostArray>, [], { aval: { shape: [...shape], dtype }, bytes, tag, placement });
}

const iotaPrimitive: Op<{ shape: Shape; dtype: DType; axis: number }> = {
  name: "iota",
  fusion: "element",
  zeroDerivative: true,
  shape: (_, { shape, dtype }) => [{ shape, dtype }],
  lower: (lowering, { outputs: [y], attributes: { axis } }) =>
    lowering.emit(`stablehlo.iota dim = ${axis} : ${tensorType(y!)}`),
};

/** Counts 0, 1, 2, … along `axis` of `shape`. */
export function iota(shape: Shape, axis: number, options: CreationOptions = {}): Tensor {
  checkShape("iota", shape);
  if (options.dtype !== undefined) checkDType("iota", options.dtype);
  return bind(iotaPrimitive, [], { shape: [...shape], dtype: options.dtype ?? "int32", axis });
}
