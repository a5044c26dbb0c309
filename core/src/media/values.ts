import { tensor } from "../array/creation.js";
import { materialize } from "../array/evaluate.js";
import type { TypedArray } from "../array/hostdata.js";
import { Tensor } from "../array/tensor.js";
import { isComplex } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";

/** Numbers to show: a Tensor, or a typed array with its shape; without one it has one dimension. */
export type MediaValue =
  | Tensor
  | TypedArray
  | { readonly data: TypedArray; readonly shape: readonly number[] };

/** The value as a Tensor of real numbers. @throws ArgumentError where it is none. */
export function asNumbers(what: string, value: MediaValue): Tensor {
  const x = toTensor(what, value);
  if (isComplex(x.dtype)) {
    throw new ArgumentError(`${what} of ${x}: complex numbers`, "take abs(), real() or imag() first");
  }
  return x;
}

function toTensor(what: string, value: MediaValue): Tensor {
  if (value instanceof Tensor) return value;
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return tensor(value);
  const { data, shape } = (value ?? {}) as { data?: TypedArray; shape?: readonly number[] };
  if (!ArrayBuffer.isView(data) || !Array.isArray(shape)) {
    throw new ArgumentError(
      `${what} of ${value === null ? "null" : typeof value}`,
      "give a Tensor, a typed array, or { data, shape } with a typed array",
    );
  }
  return tensor(data, { shape });
}

/**
 * Queues the computation of several Tensors at once, and their way to the host: what is done to their inputs afterwards
 * (a training step takes its parameters over) no longer matters.
 */
export function fetchAll<const T extends readonly Tensor[]>(
  ...values: T
): Promise<{ -readonly [K in keyof T]: TypedArray }> {
  materialize(values);
  return Promise.all(values.map((value) => value.data())) as Promise<{
    -readonly [K in keyof T]: TypedArray;
  }>;
}
