/** Arrays whose elements follow from their positions: ranges, identities, triangles. */
import { type DType, isFloat, isInteger } from "../graph/dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../graph/errors.js";
import { zerosLike } from "./broadcast.js";
import { type CreationOptions, iota, tensor } from "./creation.js";
import { add, cast, equal, greaterEqual, mul, where } from "./elementwise.js";
import { AWAIT, described, fixFor, isPromise } from "./given.js";
import { checkElements } from "./hostdata.js";
import { checkShape } from "./shapes.js";
import type { Tensor } from "./tensor.js";

/** `arange(stop)`, `arange(start, stop, step)`: evenly spaced values in [start, stop); int32 where all three are integers. */
export function arange(start: number, stop?: number, step = 1, options: CreationOptions = {}): Tensor {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  if (step === 0 || ![from, to, step].every(Number.isFinite)) {
    throw new ArgumentError(
      `arange: from ${described(from)} to ${described(to)} in steps of ${described(step)}`,
      [from, to, step].some(isPromise) ? AWAIT : "give finite bounds and a step other than 0",
    );
  }
  const length = Math.max(0, Math.ceil((to - from) / step));
  const integral = [from, to, step].every(Number.isInteger);
  const dtype = options.dtype ?? (integral ? "int32" : "float32");
  if (integral && isInteger(dtype)) {
    if (length > 0) checkElements([from, from + (length - 1) * step], dtype);
    const counts = iota([length], 0, { dtype });
    const scaled = step === 1 ? counts : mul(counts, step);
    return from === 0 ? scaled : add(scaled, from);
  }
  return tensor(
    Float64Array.from({ length }, (_, i) => from + i * step),
    { dtype },
  );
}

/** `count` evenly spaced values from `start` to `stop`, both included. */
export function linspace(start: number, stop: number, count: number, options: CreationOptions = {}): Tensor {
  const dtype = options.dtype ?? "float32";
  if (!isFloat(dtype)) throw new DTypeError(`linspace of ${dtype}`, "use a floating-point dtype");
  if (typeof start !== "number" || typeof stop !== "number")
    throw new ArgumentError(
      `linspace: from ${described(start)} to ${described(stop)}`,
      fixFor(start, fixFor(stop, "give numbers")),
    );
  checkShape("linspace", [count]);
  const step = count > 1 ? (stop - start) / (count - 1) : 0;
  return tensor(
    Float64Array.from({ length: count }, (_, i) => (i === count - 1 && count > 1 ? stop : start + i * step)),
    { dtype },
  );
}

/** Ones on the `offset`-th diagonal of a matrix, zeros elsewhere. */
export function eye(rows: number, columns = rows, { dtype = "float32" as DType, offset = 0 } = {}): Tensor {
  const shape = [rows, columns];
  return cast(equal(add(iota(shape, 0), offset), iota(shape, 1)), dtype);
}

/** Whether column <= row + offset, over the last two axes of `shape`. */
function lowerTriangle(shape: readonly number[], offset: number): Tensor {
  const rank = shape.length;
  if (rank < 2)
    throw new ShapeError(`a triangle of shape [${shape.join(", ")}]`, "give at least two dimensions");
  return greaterEqual(add(iota(shape, rank - 2), offset), iota(shape, rank - 1));
}

/** The elements on and below the `offset`-th diagonal, zeros above. */
export function tril(x: Tensor, offset = 0): Tensor {
  return where(lowerTriangle(x.shape, offset), x, zerosLike(x));
}

/** The elements on and above the `offset`-th diagonal, zeros below. */
export function triu(x: Tensor, offset = 0): Tensor {
  return where(lowerTriangle(x.shape, offset - 1), zerosLike(x), x);
}
