/** Reading and writing parts of arrays: static slices, slices at computed places, gather and scatter. */
import { isInteger, isUnsigned, itemSize } from "../graph/dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../graph/errors.js";
import { functionType, scalarType } from "../graph/lowering.js";
import type { Shape } from "../graph/node.js";
import { bind, type Op } from "./bind.js";
import { addBatchAxis, broadcastInDim, broadcastTo, full, zerosLike } from "./broadcast.js";
import { iota, scalar } from "./creation.js";
import {
  add,
  and,
  cast,
  clip,
  equal,
  greaterEqual,
  less,
  lessEqual,
  minimum,
  promote,
  type TensorLike,
  uniform,
  where,
} from "./elementwise.js";
import { checkInteger, described, fixFor, INTEGERS } from "./given.js";
import { concatenate } from "./joining.js";
import { broadcastShapes, checkShape, normalizeAxis, sizeOf } from "./shapes.js";
import { expandDims, flip, reshape, sliceRanges, squeeze } from "./shaping.js";
import { Tensor } from "./tensor.js";

/** What a dimension of `slice` takes: an index (the axis goes), [start, stop] or [start, stop, step] (null for an end), or null for all. */
export type SliceSpec = number | null | readonly [number | null, (number | null)?, number?];

/** NumPy's basic indexing: `slice(x, 0, [1, -1], null, [null, null, 2])`. Negative numbers count from the end. */
export function slice(x: Tensor, ...specs: readonly SliceSpec[]): Tensor {
  if (specs.length > x.ndim) {
    throw new ArgumentError(
      `slice: ${specs.length} indices for shape [${x.shape.join(", ")}]`,
      `give at most ${x.ndim}`,
    );
  }
  const start: number[] = [];
  const limit: number[] = [];
  const stride: number[] = [];
  const dropped: number[] = [];
  const reversed: number[] = [];
  for (const [axis, length] of x.shape.entries()) {
    const spec = specs[axis] ?? null;
    if (typeof spec === "number") {
      if (!Number.isInteger(spec) || spec < -length || spec >= length) {
        throw new ArgumentError(
          `slice: index ${spec} of axis ${axis}, which has length ${length}`,
          length === 0 ? "there are no elements" : `use an integer from ${-length} to ${length - 1}`,
        );
      }
      const at = spec < 0 ? spec + length : spec;
      start.push(at);
      limit.push(at + 1);
      stride.push(1);
      dropped.push(axis);
      continue;
    }
    if (spec !== null && !Array.isArray(spec))
      throw new ArgumentError(
        `slice: axis ${axis} is ${described(spec)}`,
        spec instanceof Tensor
          ? "take() and at() take computed indices, dynamicSlice() computed places"
          : fixFor(spec, "give an index, [start, stop, step], or null for all"),
      );
    const [from = null, to = null, step = 1] = (spec ?? []) as Exclude<SliceSpec, number | null>;
    for (const end of [from, to])
      if (end !== null)
        checkInteger(`slice: an end of axis ${axis}`, end, "give an integer, or null for the axis' end");
    if (!Number.isInteger(step) || step === 0)
      throw new ArgumentError(`slice: step ${step} of axis ${axis}`, "steps are integers other than 0");
    const wrap = (i: number, low: number, high: number): number =>
      Math.min(Math.max(i < 0 ? i + length : i, low), high);
    if (step > 0) {
      const first = from === null ? 0 : wrap(from, 0, length);
      start.push(first);
      limit.push(Math.max(first, to === null ? length : wrap(to, 0, length)));
      stride.push(step);
    } else {
      // Walking down from `first` to above `last` is walking up through the same elements, reversed.
      const first = from === null ? length - 1 : wrap(from, -1, length - 1);
      const last = to === null ? -1 : wrap(to, -1, length - 1);
      const count = Math.max(0, Math.ceil((first - last) / -step));
      start.push(count === 0 ? 0 : first + (count - 1) * step);
      limit.push(count === 0 ? 0 : first + 1);
      stride.push(-step);
      reversed.push(axis);
    }
  }
  return squeeze(flip(sliceRanges(x, start, limit, stride), reversed), dropped);
}

type None = Record<string, never>;

const dynamicSlicePrimitive: Op<{ sizes: readonly number[] }> = {
  name: "dynamic_slice",
  shape: ([x], { sizes }) => [{ shape: sizes, dtype: x!.dtype }],
  vjp({ inputs: [x, ...starts] }, [g]) {
    return [g && dynamicUpdateSlice(zerosLike(x!), g, starts), ...starts.map(() => undefined)];
  },
  batch([x, ...starts], [xBatched, ...startsBatched], { sizes }, size) {
    if (xBatched && !startsBatched.some(Boolean)) {
      return [dynamicSlice(x!, [scalar(0, starts[0]?.dtype ?? "int32"), ...starts], [size, ...sizes])];
    }
    // Different places for different rows: a gather of whole windows.
    const operand = xBatched ? x! : addBatchAxis(x!, size);
    const places = stackStarts(starts, startsBatched, size, operand.shape, sizes);
    return [
      gather(operand, places, {
        offsetDims: sizes.map((_, i) => i + 1),
        collapsedSliceDims: [],
        operandBatchingDims: [0],
        startIndicesBatchingDims: [0],
        startIndexMap: sizes.map((_, i) => i + 1),
        sliceSizes: [1, ...sizes],
      }),
    ];
  },
  lower: (lowering, { inputs, outputs, attributes: { sizes } }, [x, ...starts]) =>
    lowering.emit(
      `stablehlo.dynamic_slice ${x}, ${starts.join(", ")}, sizes = [${sizes.join(", ")}] : ${functionType(inputs, outputs)}`,
    ),
};

/** [size, rank] int32 start indices, clamped as dynamic_slice clamps them. */
function stackStarts(
  starts: readonly Tensor[],
  batched: readonly boolean[],
  size: number,
  operand: Shape,
  sizes: Shape,
): Tensor {
  const columns = starts.map((s, i) => {
    const column = batched[i] ? s : addBatchAxis(s, size);
    return expandDims(cast(clip(column, 0, operand[i + 1]! - sizes[i]!), "int32"), 1);
  });
  return concatenate(columns, 1);
}

/** `sizes` elements from the computed place `starts` (one integer scalar an axis), moved to lie within `x`. */
export function dynamicSlice(x: Tensor, starts: readonly TensorLike[], sizes: readonly number[]): Tensor {
  if (starts.length !== x.ndim || sizes.length !== x.ndim) {
    throw new ArgumentError(
      `dynamicSlice: ${starts.length} starts and ${sizes.length} sizes for ${x.ndim} dimensions`,
    );
  }
  checkShape("dynamicSlice", sizes);
  for (const [i, s] of sizes.entries()) {
    if (s > x.shape[i]!)
      throw new ShapeError(`dynamicSlice: size ${s} of axis ${i}, which has length ${x.shape[i]}`);
  }
  if (x.ndim === 0) return x;
  return bind(dynamicSlicePrimitive, [x, ...places(starts)], { sizes: [...sizes] });
}

/** Start indices, all of one type that is wide enough for any length. */
function places(starts: readonly TensorLike[]): Tensor[] {
  const given = starts.map((s) => {
    const t = s instanceof Tensor ? s : scalar(s as number, "int32");
    if (!isInteger(t.dtype) || t.ndim !== 0)
      throw new DTypeError(`a start index is ${t}`, t.ndim === 0 ? INTEGERS : "use integer scalars");
    return wide(t);
  });
  const [first, ...rest] = given;
  return rest.every((t) => t.dtype === first!.dtype) ? given : given.map(signed);
}

/** As int64; what that does not have is beyond any axis. */
function signed(indices: Tensor): Tensor {
  return cast(indices.dtype === "uint64" ? minimum(indices, 2n ** 62n) : indices, "int64");
}

/** Indices in a type that can count the elements of any axis. */
export function wide(indices: Tensor): Tensor {
  return itemSize(indices.dtype) < 4 ? cast(indices, "int32") : indices;
}

const dynamicUpdateSlicePrimitive: Op<None> = {
  name: "dynamic_update_slice",
  shape([x, update]) {
    if (x!.dtype !== update!.dtype)
      throw new DTypeError(`dynamicUpdateSlice of ${x!.dtype} with ${update!.dtype}`, "convert the update");
    return [{ shape: x!.shape, dtype: x!.dtype }];
  },
  vjp({ inputs: [, update, ...starts] }, [g]) {
    const none = starts.map(() => undefined);
    if (g === undefined) return [undefined, undefined, ...none];
    return [
      dynamicUpdateSlice(g, zerosLike(update!), starts),
      dynamicSlice(g, starts, update!.shape),
      ...none,
    ];
  },
  batch([x, update, ...starts], [xBatched, updateBatched, ...startsBatched], _, size) {
    const operand = xBatched ? x! : addBatchAxis(x!, size);
    const window = updateBatched ? update! : addBatchAxis(update!, size);
    if (!startsBatched.some(Boolean)) {
      return [dynamicUpdateSlice(operand, window, [scalar(0, starts[0]?.dtype ?? "int32"), ...starts])];
    }
    const at = stackStarts(
      starts,
      startsBatched,
      size,
      operand.shape,
      update!.shape.slice(updateBatched ? 1 : 0),
    );
    const rank = operand.ndim - 1;
    return [
      scatter(operand, at, window, {
        kind: "set",
        updateWindowDims: Array.from({ length: rank }, (_, i) => i + 1),
        insertedWindowDims: [],
        inputBatchingDims: [0],
        scatterIndicesBatchingDims: [0],
        scatterDimsToOperandDims: Array.from({ length: rank }, (_, i) => i + 1),
      }),
    ];
  },
  lower: (lowering, { inputs, outputs }, names) =>
    lowering.emit(`stablehlo.dynamic_update_slice ${names.join(", ")} : ${functionType(inputs, outputs)}`),
};

/** `x` with `update` written at the computed place `starts`, moved to lie within `x`. */
export function dynamicUpdateSlice(x: Tensor, update: Tensor, starts: readonly TensorLike[]): Tensor {
  if (update.ndim !== x.ndim || update.shape.some((d, i) => d > x.shape[i]!)) {
    throw new ShapeError(
      `dynamicUpdateSlice: an update of [${update.shape.join(", ")}] into [${x.shape.join(", ")}]`,
    );
  }
  return x.ndim === 0 ? update : bind(dynamicUpdateSlicePrimitive, [x, update, ...places(starts)], {});
}

/** StableHLO's gather dimension numbers; the index vector is the last axis of the indices. */
export interface GatherDimensions {
  readonly [name: string]: unknown;
  readonly offsetDims: readonly number[];
  readonly collapsedSliceDims: readonly number[];
  readonly operandBatchingDims: readonly number[];
  readonly startIndicesBatchingDims: readonly number[];
  readonly startIndexMap: readonly number[];
  readonly sliceSizes: readonly number[];
}

const gatherPrimitive: Op<GatherDimensions> = {
  name: "gather",
  shape([x, indices], d) {
    const window = d.sliceSizes.filter(
      (_, i) => !d.collapsedSliceDims.includes(i) && !d.operandBatchingDims.includes(i),
    );
    const batch = indices!.shape.slice(0, -1);
    const shape: number[] = [];
    for (let i = 0; i < window.length + batch.length; i++) {
      const k = d.offsetDims.indexOf(i);
      shape.push(k >= 0 ? window[k]! : batch[i - d.offsetDims.filter((o) => o < i).length]!);
    }
    return [{ shape, dtype: x!.dtype }];
  },
  vjp({ inputs: [x, indices], attributes: d }, [g]) {
    if (g === undefined) return [undefined, undefined];
    return [
      scatter(zerosLike(x!), clampPlaces(indices!, x!.shape, d), g, {
        kind: "add",
        updateWindowDims: d.offsetDims,
        insertedWindowDims: d.collapsedSliceDims,
        inputBatchingDims: d.operandBatchingDims,
        scatterIndicesBatchingDims: d.startIndicesBatchingDims,
        scatterDimsToOperandDims: d.startIndexMap,
      }),
      undefined,
    ];
  },
  batch([x, indices], [xBatched, indicesBatched], d, size) {
    const up = (axes: readonly number[]): number[] => axes.map((a) => a + 1);
    const at = indicesBatched ? indices! : addBatchAxis(indices!, size);
    if (!xBatched) {
      // The new leading axis is one more axis of places.
      return [
        gather(x!, at, {
          ...d,
          offsetDims: up(d.offsetDims),
          startIndicesBatchingDims: up(d.startIndicesBatchingDims),
        }),
      ];
    }
    return [
      gather(x!, at, {
        offsetDims: up(d.offsetDims),
        collapsedSliceDims: up(d.collapsedSliceDims),
        operandBatchingDims: [0, ...up(d.operandBatchingDims)],
        startIndicesBatchingDims: [0, ...up(d.startIndicesBatchingDims)],
        startIndexMap: up(d.startIndexMap),
        sliceSizes: [1, ...d.sliceSizes],
      }),
    ];
  },
  lower: (lowering, { inputs, outputs, attributes: d }, [x, indices]) => {
    const numbers = [
      ["offset_dims", d.offsetDims],
      ["collapsed_slice_dims", d.collapsedSliceDims],
      ["operand_batching_dims", d.operandBatchingDims],
      ["start_indices_batching_dims", d.startIndicesBatchingDims],
      ["start_index_map", d.startIndexMap],
    ] as const;
    return lowering.emit(
      `"stablehlo.gather"(${x}, ${indices}) <{dimension_numbers = #stablehlo.gather<${dimensionText(numbers)}index_vector_dim = ${inputs[1]!.ndim - 1}>, indices_are_sorted = false, slice_sizes = array<i64: ${d.sliceSizes.join(", ")}>}> : ${functionType(inputs, outputs)}`,
    );
  },
};

/** The places that a gather reads after it moved those outside `x` to its ends: scatter, its transpose, would skip them. */
function clampPlaces(indices: Tensor, shape: Shape, d: GatherDimensions): Tensor {
  const last = d.startIndexMap.map((axis) => shape[axis]! - d.sliceSizes[axis]!);
  if (last.length === 0) return indices;
  const bound =
    new Set(last).size === 1
      ? scalar(last[0]!, indices.dtype)
      : concatenate(last.map((n) => reshape(scalar(n, indices.dtype), [1])));
  return clip(indices, 0, bound);
}

function dimensionText(entries: readonly (readonly [string, readonly number[]])[]): string {
  return entries
    .map(([name, axes]) => (axes.length === 0 ? "" : `${name} = [${axes.join(", ")}], `))
    .join("");
}

/** XLA's gather: windows of `sliceSizes` at the places in `indices` (last axis: the index vector), moved to lie within `x`. */
export function gather(x: Tensor, indices: Tensor, dimensions: GatherDimensions): Tensor {
  return bind(gatherPrimitive, [x, wide(indices)], dimensions);
}

export interface ScatterDimensions {
  readonly [name: string]: unknown;
  readonly kind: "add" | "set" | "min" | "max" | "mul";
  readonly updateWindowDims: readonly number[];
  readonly insertedWindowDims: readonly number[];
  readonly inputBatchingDims: readonly number[];
  readonly scatterIndicesBatchingDims: readonly number[];
  readonly scatterDimsToOperandDims: readonly number[];
}

/** The gather that reads what a scatter writes. */
function windows(x: Tensor, indices: Tensor, updates: Shape, d: ScatterDimensions): Tensor {
  const window = d.updateWindowDims.map((a) => updates[a]!);
  return gather(x, indices, {
    offsetDims: d.updateWindowDims,
    collapsedSliceDims: d.insertedWindowDims,
    operandBatchingDims: d.inputBatchingDims,
    startIndicesBatchingDims: d.scatterIndicesBatchingDims,
    startIndexMap: d.scatterDimsToOperandDims,
    sliceSizes: x.shape.map((_, i) =>
      d.insertedWindowDims.includes(i) || d.inputBatchingDims.includes(i) ? 1 : window.shift()!,
    ),
  });
}

/** Which updates a scatter writes, of the shape of the updates: it skips windows that do not lie within `shape`, which a gather would move there. */
function written(indices: Tensor, shape: Shape, updates: Shape, d: ScatterDimensions): Tensor {
  const window = d.updateWindowDims.map((a) => updates[a]!);
  const sizes = shape.map((_, i) =>
    d.insertedWindowDims.includes(i) || d.inputBatchingDims.includes(i) ? 1 : window.shift()!,
  );
  const { ndim } = indices;
  const inside = d.scatterDimsToOperandDims.map((axis, k) => {
    const start = indices.shape.map((_, i) => (i === ndim - 1 ? k : 0));
    const at = squeeze(sliceRanges(indices, start, indices.shape.with(-1, k + 1)), -1);
    return and(greaterEqual(at, 0), lessEqual(at, shape[axis]! - sizes[axis]!));
  });
  const all = inside.reduce(and, full(indices.shape.slice(0, -1), true));
  return broadcastInDim(
    all,
    updates,
    updates.flatMap((_, i) => (d.updateWindowDims.includes(i) ? [] : [i])),
  );
}

const scatterPrimitive: Op<ScatterDimensions> = {
  name: "scatter",
  flops: ({ inputs: [, , updates], attributes: { kind } }) => (kind === "set" ? 0 : updates!.size),
  shape: ([x]) => [{ shape: x!.shape, dtype: x!.dtype }],
  vjp({ inputs: [x, indices, updates], attributes: d }, [g]) {
    if (g === undefined) return [undefined, undefined, undefined];
    if (d.kind === "add") {
      const back = windows(g, indices!, updates!.shape, d);
      return [g, undefined, where(written(indices!, x!.shape, updates!.shape, d), back, 0)];
    }
    if (d.kind === "set") {
      // Which update won each place: write their numbers, read them back.
      const ids = reshape(iota([updates!.size], 0), updates!.shape);
      const winners = scatter(add(zerosLike({ shape: x!.shape, dtype: "int32" }), -1), indices!, ids, d);
      const won = equal(windows(winners, indices!, updates!.shape, d), ids);
      const untouched = less(winners, 0);
      const back = windows(g, indices!, updates!.shape, d);
      return [where(untouched, g, 0), undefined, where(won, back, 0)];
    }
    throw new ArgumentError(
      `gradient of scatter ${d.kind}`,
      "use scatter add or set where gradients are needed",
    );
  },
  batch([x, indices, updates], batched, d, size) {
    const up = (axes: readonly number[]): number[] => axes.map((a) => a + 1);
    const [operand, at, values] = uniform([x!, indices!, updates!], batched, size) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    return [
      scatter(operand, at, values, {
        kind: d.kind,
        updateWindowDims: up(d.updateWindowDims),
        insertedWindowDims: up(d.insertedWindowDims),
        inputBatchingDims: [0, ...up(d.inputBatchingDims)],
        scatterIndicesBatchingDims: [0, ...up(d.scatterIndicesBatchingDims)],
        scatterDimsToOperandDims: up(d.scatterDimsToOperandDims),
      }),
    ];
  },
  lower(lowering, { inputs, outputs, attributes: d }, [x, indices, updates]) {
    const { dtype } = inputs[0]!;
    const s = scalarType(dtype);
    const numbers = [
      ["update_window_dims", d.updateWindowDims],
      ["inserted_window_dims", d.insertedWindowDims],
      ["input_batching_dims", d.inputBatchingDims],
      ["scatter_indices_batching_dims", d.scatterIndicesBatchingDims],
      ["scatter_dims_to_operand_dims", d.scatterDimsToOperandDims],
    ] as const;
    const [a, b] = [lowering.fresh("a"), lowering.fresh("b")];
    const op = { add: "add", mul: "multiply", min: "minimum", max: "maximum" }[d.kind as "add"];
    return lowering.withRegions(
      `"stablehlo.scatter"(${x}, ${indices}, ${updates}) <{indices_are_sorted = false, scatter_dimension_numbers = #stablehlo.scatter<${dimensionText(numbers)}index_vector_dim = ${inputs[1]!.ndim - 1}>, unique_indices = false}> ({`,
      [
        {
          head: `^bb0(${a}: ${s}, ${b}: ${s}):`,
          write: () => [
            [d.kind === "set" ? b : lowering.emit(`stablehlo.${op} ${a}, ${b} : ${s}`)[0]!],
            [{ shape: [], dtype }],
          ],
        },
      ],
      `) : ${functionType(inputs, outputs)}`,
      1,
    );
  },
};

/** XLA's scatter: combines `updates` into `x` at the places in `indices`; places outside `x` are skipped. */
export function scatter(x: Tensor, indices: Tensor, updates: Tensor, dimensions: ScatterDimensions): Tensor {
  const values = cast(updates, x.dtype);
  if (dimensions.kind !== "set" && x.dtype === "bool")
    throw new DTypeError(`scatter ${dimensions.kind} into bool`);
  return bind(scatterPrimitive, [x, wide(indices), values], dimensions);
}

/** Indices as a Tensor of integers; numbers written down count as such. */
export function integerIndices(operation: string, indices: TensorLike): Tensor {
  const [given] = promote(operation, indices) as [Tensor];
  const written = !(indices instanceof Tensor) && given.dtype !== "bool";
  const t = written ? promote(operation, scalar(0, "int32"), indices)[1]! : given;
  if (!isInteger(t.dtype)) throw new DTypeError(`${operation}: indices are ${t}`, INTEGERS);
  return t;
}

/** Integer indices, negative ones counted from the end. */
export function wrapIndices(operation: string, indices: TensorLike, length: number): Tensor {
  const at = wide(integerIndices(operation, indices));
  return isUnsigned(at.dtype) ? at : where(less(at, 0), add(at, length), at);
}

/** Refuses to read elements where there are none: there is no end to move an index to. */
export function checkReadable(operation: string, x: Tensor, axis: number, indices: Shape): void {
  if (x.shape[axis] === 0 && sizeOf(indices) > 0) {
    throw new ShapeError(
      `${operation}: indices of [${indices.join(", ")}] into axis ${axis} of [${x.shape.join(", ")}], which has no elements`,
      "there is nothing to read: give no indices, or another axis",
    );
  }
}

/** Rows of `x` along `axis` at `indices` (any shape), which take the axis' place. Indices outside are moved to the nearest end. */
export function take(x: Tensor, indices: TensorLike, axis = 0): Tensor {
  const along = normalizeAxis("take", axis, x.ndim);
  const at = wrapIndices("take", indices, x.shape[along]!);
  checkReadable("take", x, along, at.shape);
  if (x.size === 0)
    return zerosLike({
      shape: [...x.shape.slice(0, along), ...at.shape, ...x.shape.slice(along + 1)],
      dtype: x.dtype,
    });
  const before = Array.from({ length: along }, (_, i) => i);
  const after = Array.from({ length: x.ndim - along - 1 }, (_, i) => along + at.ndim + i);
  return gather(x, expandDims(at, at.ndim), {
    offsetDims: [...before, ...after],
    collapsedSliceDims: [along],
    operandBatchingDims: [],
    startIndicesBatchingDims: [],
    startIndexMap: [along],
    sliceSizes: x.shape.with(along, 1),
  });
}

/** For each place of `indices` the element of `x` whose index along `axis` it holds; other axes broadcast. */
export function takeAlongAxis(x: Tensor, indices: Tensor, axis = -1): Tensor {
  const along = normalizeAxis("takeAlongAxis", axis, x.ndim);
  if (indices.ndim !== x.ndim) {
    throw new ShapeError(
      `takeAlongAxis: indices of [${indices.shape.join(", ")}] for [${x.shape.join(", ")}]`,
      "ranks must be equal",
    );
  }
  const lead = broadcastShapes("takeAlongAxis", x.shape.with(along, 1), indices.shape.with(along, 1));
  const operand = broadcastTo(x, lead.with(along, x.shape[along]!));
  const places = broadcastTo(
    wrapIndices("takeAlongAxis", indices, x.shape[along]!),
    lead.with(along, indices.shape[along]!),
  );
  checkReadable("takeAlongAxis", operand, along, places.shape);
  if (operand.size === 0) return zerosLike({ shape: places.shape, dtype: x.dtype });
  const batch = operand.shape.map((_, i) => i).filter((i) => i !== along);
  return gather(operand, expandDims(places, places.ndim), {
    offsetDims: [],
    collapsedSliceDims: [along],
    operandBatchingDims: batch,
    startIndicesBatchingDims: batch,
    startIndexMap: [along],
    sliceSizes: operand.shape.map(() => 1),
  });
}
