/** NumPy's indexing with slices and integer arrays together, to read and to write: `at(x, rows, [1, -1]).set(0)`. */
import { isInteger } from "../graph/dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../graph/errors.js";
import { broadcastTo, zerosLike } from "./broadcast.js";
import { iota } from "./creation.js";
import { and, cast, clip, greaterEqual, less, promote, type TensorLike, where } from "./elementwise.js";
import { INTEGERS } from "./given.js";
import {
  checkReadable,
  gather,
  type ScatterDimensions,
  type SliceSpec,
  scatter,
  slice,
  wrapIndices,
} from "./indexing.js";
import { stack } from "./joining.js";
import { broadcastShapes, normalizeAxis } from "./shapes.js";
import { expandDims, flatten, pad, reshape } from "./shaping.js";
import { Tensor } from "./tensor.js";

/** What an axis takes: an index, [start, stop, step], null for all, or an integer Tensor. */
export type PlaceSpec = SliceSpec | Tensor;

/** Which axes of what the slices leave the integer arrays index, and the arrays. */
interface Split {
  readonly sliced: (x: Tensor) => Tensor;
  readonly axes: number[];
  readonly arrays: Tensor[];
  /** Where the arrays' own axes come in the result. */
  readonly front: number;
}

function splitSpecs(x: Tensor, specs: readonly PlaceSpec[]): Split {
  if (specs.length > x.ndim) {
    throw new ArgumentError(
      `at: ${specs.length} indices for shape [${x.shape.join(", ")}]`,
      `give at most ${x.ndim}`,
    );
  }
  const slices = specs.map((s) => (s instanceof Tensor ? null : s));
  const axes: number[] = [];
  const arrays: Tensor[] = [];
  // Beside arrays an index counts as one, as in NumPy: where slices lie between, their axes come in front.
  const advanced = specs.flatMap((spec, i) =>
    spec instanceof Tensor || typeof spec === "number" ? [i] : [],
  );
  const adjacent = advanced.every((at, i) => i === 0 || at === advanced[i - 1]! + 1);
  let axis = 0;
  for (const spec of specs) {
    if (spec instanceof Tensor) {
      if (!isInteger(spec.dtype))
        throw new DTypeError(
          `at: an index is ${spec}`,
          spec.dtype === "bool" ? "select with where()" : INTEGERS,
        );
      axes.push(axis);
      arrays.push(spec);
    }
    if (typeof spec !== "number") axis++;
  }
  return { sliced: (v) => slice(v, ...slices), axes, arrays, front: adjacent ? (advanced[0] ?? 0) : 0 };
}

/** Reads at integer arrays: their axes come together at `front`. */
function readArrays(x: Tensor, axes: readonly number[], arrays: readonly Tensor[], front: number): Tensor {
  if (axes.length === 0) return x;
  const shape = broadcastShapes("at", ...arrays.map((a) => a.shape));
  for (const axis of axes) checkReadable("at", x, axis, shape);
  if (x.size === 0) {
    const kept = x.shape.filter((_, i) => !axes.includes(i));
    return zerosLike({ shape: kept.toSpliced(front, 0, ...shape), dtype: x.dtype });
  }
  const places = stack(
    arrays.map((a, i) => cast(clip(broadcastTo(a, shape), 0, x.shape[axes[i]!]! - 1), "int32")),
    shape.length,
  );
  const rest = x.shape.length - axes.length;
  return gather(x, places, {
    offsetDims: Array.from({ length: rest }, (_, i) => (i < front ? i : i + shape.length)),
    collapsedSliceDims: axes,
    operandBatchingDims: [],
    startIndicesBatchingDims: [],
    startIndexMap: axes,
    sliceSizes: x.shape.map((d, i) => (axes.includes(i) ? 1 : d)),
  });
}

/** Elements of a tensor, to read or to write; writing gives a new tensor. */
export class Place {
  readonly #x: Tensor;
  readonly #specs: readonly PlaceSpec[];

  constructor(x: Tensor, specs: readonly PlaceSpec[]) {
    this.#x = x;
    this.#specs = specs;
  }

  /** The elements. Array indices outside the tensor are moved to its ends. */
  get(): Tensor {
    const { sliced, axes, arrays, front } = splitSpecs(this.#x, this.#specs);
    const rest = sliced(this.#x);
    return readArrays(
      rest,
      axes,
      arrays.map((a, i) => wrapIndices("at", a, rest.shape[axes[i]!]!)),
      front,
    );
  }

  /** The tensor with the elements replaced by `values`, which broadcast. Array indices outside the tensor are skipped. */
  set(values: TensorLike): Tensor {
    return this.#write(values, "set");
  }

  /** The tensor with `values` added; elements that are indexed several times get several. */
  add(values: TensorLike): Tensor {
    return this.#write(values, "add");
  }

  mul(values: TensorLike): Tensor {
    return this.#write(values, "mul");
  }

  min(values: TensorLike): Tensor {
    return this.#write(values, "min");
  }

  max(values: TensorLike): Tensor {
    return this.#write(values, "max");
  }

  #write(values: TensorLike, kind: ScatterDimensions["kind"]): Tensor {
    const x = this.#x;
    const numbers = reshape(iota([x.size], 0), x.shape);
    const { sliced, axes, arrays, front } = splitSpecs(x, this.#specs);
    const rest = sliced(numbers);
    // One more row along each indexed axis, of a number that no element has: where indices outside the tensor lead.
    const extended = pad(
      rest,
      rest.shape.map((_, i): [number, number] => [0, axes.includes(i) ? 1 : 0]),
      x.size,
    );
    const places = readArrays(
      extended,
      axes,
      arrays.map((a, i) => {
        const length = rest.shape[axes[i]!]!;
        const wrapped = wrapIndices("at", a, length);
        return where(and(greaterEqual(wrapped, 0), less(wrapped, length)), wrapped, length);
      }),
      front,
    );
    const updates = broadcastTo(cast(promote("at", values)[0]!, x.dtype), places.shape);
    const result = scatter(flatten(x), expandDims(flatten(places), 1), flatten(updates), {
      kind,
      updateWindowDims: [],
      insertedWindowDims: [0],
      inputBatchingDims: [],
      scatterIndicesBatchingDims: [],
      scatterDimsToOperandDims: [0],
    });
    return reshape(result, x.shape);
  }
}

/** Elements of `x` by index, slice ([start, stop, step]), null for a whole axis, or integer Tensors that broadcast together. */
export function at(x: Tensor, ...specs: readonly PlaceSpec[]): Place {
  return new Place(x, specs);
}

/**
 * `x` with `updates` combined in at the `indices` along an axis, other axes side by side: the counterpart of `takeAlongAxis`. Indices outside
 * are skipped.
 */
export function scatterAlongAxis(
  x: Tensor,
  indices: Tensor,
  updates: Tensor,
  { axis = -1, kind = "set" as ScatterDimensions["kind"] } = {},
): Tensor {
  const along = normalizeAxis("scatterAlongAxis", axis, x.ndim);
  if (indices.ndim !== x.ndim) {
    throw new ShapeError(
      `scatterAlongAxis: indices of [${indices.shape.join(", ")}] for [${x.shape.join(", ")}]`,
      "ranks must be equal",
    );
  }
  const batch = x.shape.map((_, i) => i).filter((i) => i !== along);
  const lead = x.shape.with(along, indices.shape[along]!);
  const places = broadcastTo(wrapIndices("scatterAlongAxis", indices, x.shape[along]!), lead);
  return scatter(x, expandDims(places, x.ndim), broadcastTo(updates, lead), {
    kind,
    updateWindowDims: [],
    insertedWindowDims: [along],
    inputBatchingDims: batch,
    scatterIndicesBatchingDims: batch,
    scatterDimsToOperandDims: [along],
  });
}
