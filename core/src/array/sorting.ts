/** Order: sorting, the largest elements, and what follows from sorted data. */
import { isFloat, isInteger, promoteTypes } from "../graph/dtype.js";
import { ArgumentError, DTypeError } from "../graph/errors.js";
import { functionType, scalarType } from "../graph/lowering.js";
import { bindAll, type Op } from "./bind.js";
import { broadcastTo, keep, onesLike, zerosLike } from "./broadcast.js";
import { iota, literal } from "./creation.js";
import {
  add,
  and,
  cast,
  greaterEqual,
  isnan,
  less,
  lessEqual,
  mul,
  not,
  or,
  promote,
  shiftRightArithmetic,
  type TensorLike,
  uniform,
  where,
} from "./elementwise.js";
import { described, fixFor, INTEGERS } from "./given.js";
import { take, takeAlongAxis, wide } from "./indexing.js";
import { check } from "./kinds.js";
import { scatterAlongAxis } from "./places.js";
import { normalizeAxis } from "./shapes.js";
import { flatten, sliceRanges, squeeze } from "./shaping.js";
import type { Tensor } from "./tensor.js";

/** Sorts the first operand along an axis and the others with it. Stable; NaN counts as the largest number, -0 as 0. */
const sortPrimitive: Op<{ axis: number; descending: boolean }> = {
  name: "sort",
  flops: ({ inputs: [x], attributes: { axis } }) => comparisons(x!, axis),
  shape(inputs) {
    check("sort", inputs[0]!.dtype, "any");
    return inputs.map(({ shape, dtype }) => ({ shape, dtype }));
  },
  vjp({ inputs, attributes: { axis, descending } }, cotangents) {
    // Where each element went, found by sorting the places it came from.
    const places = iota(inputs[0]!.shape, axis);
    const [, from] = bindAll(sortPrimitive, [inputs[0]!, places], { axis, descending });
    const [, to] = bindAll(sortPrimitive, [from!, places], { axis, descending: false });
    return cotangents.map((g) => g && takeAlongAxis(g, to!, axis));
  },
  batch: (inputs, batched, { axis, descending }, size) =>
    bindAll(sortPrimitive, uniform(inputs, batched, size), { axis: axis + 1, descending }),
  lower(lowering, { inputs, outputs, attributes: { axis, descending } }, names) {
    const params = inputs.flatMap(({ dtype }) => {
      const type = scalarType(dtype);
      return [`${lowering.fresh("a")}: ${type}`, `${lowering.fresh("b")}: ${type}`];
    });
    const { dtype } = inputs[0]!;
    const s = scalarType(dtype);
    const name = (i: number): string => params[i]!.split(":")[0]!;
    const write = (): readonly [readonly string[], readonly { shape: number[]; dtype: "bool" }[]] => {
      let [a, b] = [name(0), name(1)];
      let kind = "SIGNED";
      if (isFloat(dtype)) {
        [a, b] = [canonical(a), canonical(b)];
        kind = "TOTALORDER";
      } else if (dtype === "bool" || dtype.startsWith("u")) kind = "UNSIGNED";
      const comes = `stablehlo.compare ${descending ? "GT" : "LT"}, ${a}, ${b}, ${kind} : (${s}, ${s}) -> tensor<i1>`;
      return [lowering.emit(comes), [{ shape: [], dtype: "bool" }]];
    };
    /** One zero and one NaN, so that the total order has no other distinctions than numbers have. */
    const canonical = (x: string): string => {
      const zero = lowering.constant(literal(0, dtype), dtype);
      const nan = lowering.constant(literal(Number.NaN, dtype), dtype);
      const emit = (text: string): string => lowering.emit(text)[0]!;
      const isZero = emit(`stablehlo.compare EQ, ${x}, ${zero}, FLOAT : (${s}, ${s}) -> tensor<i1>`);
      const isNan = emit(`stablehlo.compare NE, ${x}, ${x}, FLOAT : (${s}, ${s}) -> tensor<i1>`);
      const plain = emit(`stablehlo.select ${isZero}, ${zero}, ${x} : tensor<i1>, ${s}`);
      return emit(`stablehlo.select ${isNan}, ${nan}, ${plain} : tensor<i1>, ${s}`);
    };
    return lowering.withRegions(
      `"stablehlo.sort"(${names.join(", ")}) <{dimension = ${axis} : i64, is_stable = true}> ({`,
      [{ head: `^bb0(${params.join(", ")}):`, write }],
      `) : ${functionType(inputs, outputs)}`,
      outputs.length,
    );
  },
};

/** n log n for each row. */
function comparisons(x: Tensor, axis: number): number {
  return x.size * Math.ceil(Math.log2(Math.max(2, x.shape[axis]!)));
}

export interface SortOptions {
  descending?: boolean;
}

/** The elements in order along an axis (the last by default). Equal elements keep their order; NaN is the largest. */
export function sort(x: Tensor, axis = -1, { descending = false }: SortOptions = {}): Tensor {
  const along = normalizeAxis("sort", axis, x.ndim);
  return bindAll(sortPrimitive, [x], { axis: along, descending })[0]!;
}

/** The places (int32) of the sorted elements: `takeAlongAxis(x, argsort(x))` is `sort(x)`. */
export function argsort(x: Tensor, axis = -1, { descending = false }: SortOptions = {}): Tensor {
  const along = normalizeAxis("argsort", axis, x.ndim);
  return bindAll(sortPrimitive, [x, iota(x.shape, along)], { axis: along, descending })[1]!;
}

/** `values` in the order of `keys` along an axis, with the sorted keys: [keys, ...values]. */
export function sortBy(
  keys: Tensor,
  values: readonly Tensor[],
  axis = -1,
  { descending = false }: SortOptions = {},
): readonly Tensor[] {
  const along = normalizeAxis("sortBy", axis, keys.ndim);
  return bindAll(sortPrimitive, [keys, ...values.map((v) => broadcastTo(v, keys.shape))], {
    axis: along,
    descending,
  });
}

const topKPrimitive: Op<{ k: number }> = {
  name: "top_k",
  flops: ({ inputs: [x] }) => comparisons(x!, x!.ndim - 1),
  shape: ([x], { k }) => {
    check("topK", x!.dtype, "any");
    const shape = x!.shape.with(-1, k);
    return [
      { shape, dtype: x!.dtype },
      { shape, dtype: "int32" },
    ];
  },
  vjp: ({ inputs: [x], outputs: [, indices] }, [g]) => [
    g && scatterAlongAxis(zerosLike(x!), indices!, g, { axis: -1, kind: "add" }),
  ],
  batch: ([x], _, attributes) => bindAll(topKPrimitive, [x!], attributes),
  lower: (lowering, { inputs, outputs, attributes: { k } }, [x]) =>
    lowering.emit(
      `chlo.top_k(${x}, k = ${k}) : ${functionType(inputs, outputs).slice(1).replace(") ->", " ->")}`,
      2,
    ),
};

/** The `k` largest elements along the last axis, largest first, and their places (int32). */
export function topK(x: Tensor, k: number): [values: Tensor, indices: Tensor] {
  const length = x.shape.at(-1);
  if (length === undefined || !Number.isInteger(k) || k < 0 || k > length) {
    throw new ArgumentError(
      `topK: ${described(k)} of the last axis of [${x.shape.join(", ")}]`,
      fixFor(k, "k is at most the axis' length"),
    );
  }
  return bindAll(topKPrimitive, [x], { k }) as unknown as [Tensor, Tensor];
}

/** The `q`-th quantile (0 to 1) along an axis, linear between elements, NaN where one of them is; of all elements by default. */
export function quantile(x: Tensor, q: number, axis?: number, { keepDims = false } = {}): Tensor {
  if (!(q >= 0 && q <= 1))
    throw new ArgumentError(`quantile: ${described(q)}`, fixFor(q, "give a number from 0 to 1"));
  const input = isFloat(x.dtype) ? x : cast(x, "float32");
  const flat = axis === undefined ? flatten(input) : input;
  const along = normalizeAxis("quantile", axis ?? 0, flat.ndim);
  const length = flat.shape[along]!;
  if (length === 0) throw new ArgumentError(`quantile of an axis of length 0 of [${x.shape.join(", ")}]`);
  const sorted = sort(flat, along);
  const place = q * (length - 1);
  const row = (i: number): Tensor => {
    const start = flat.shape.map((_, d) => (d === along ? i : 0));
    return squeeze(sliceRanges(sorted, start, flat.shape.with(along, i + 1)), along);
  };
  const [low, part] = [row(Math.floor(place)), place % 1];
  // An element that has the rank is the quantile: nothing times infinity would be NaN.
  const between = part === 0 ? low : add(mul(low, 1 - part), mul(row(Math.ceil(place)), part));
  // NaN is sorted to the end: if there is one, no element has a rank.
  const result = where(isnan(row(length - 1)), Number.NaN, between);
  if (!keepDims) return result;
  return keep(result, x.shape, axis === undefined ? [...x.shape.keys()] : [along]);
}

/** The middle element along an axis, or the mean of the middle two; of all elements by default. */
export function median(x: Tensor, axis?: number, options: { keepDims?: boolean } = {}): Tensor {
  return quantile(x, 0.5, axis, options);
}

/**
 * For each of `values` the place (int32) where it would be put into the ascending vector `sorted`: before equal ones, or after them. NaN
 * counts as the largest number. A binary search, of as many steps for all values together as the length has digits.
 */
export function searchSorted(
  sorted: Tensor,
  values: TensorLike,
  { side = "left" as "left" | "right" } = {},
): Tensor {
  if (sorted.ndim !== 1)
    throw new ArgumentError(`searchSorted in [${sorted.shape.join(", ")}]`, "give a sorted vector");
  const given = promote("searchSorted", values)[0]!;
  const dtype = promoteTypes(sorted.dtype, given.dtype);
  const [edges, wanted] = [cast(sorted, dtype), cast(given, dtype)];
  const precedes = (edge: Tensor): Tensor =>
    side === "left"
      ? or(less(edge, wanted), and(isnan(wanted), not(isnan(edge))))
      : or(lessEqual(edge, wanted), isnan(wanted));
  // All edges before `low` precede the value, none from `high` on does.
  let low = zerosLike({ shape: wanted.shape, dtype: "int32" });
  let high = add(low, edges.size);
  for (let rest = edges.size; rest > 0; rest = Math.floor(rest / 2)) {
    const middle = shiftRightArithmetic(add(low, high), 1);
    const open = less(low, high);
    const goes = and(open, precedes(take(edges, middle)));
    [low, high] = [where(goes, add(middle, 1), low), where(or(goes, not(open)), high, middle)];
  }
  return low;
}

/** How often each of 0 … `length` - 1 is in the integers `x`; others are not counted. */
export function bincount(x: Tensor, length: number): Tensor {
  if (!isInteger(x.dtype)) throw new DTypeError(`bincount of ${x}`, `it counts integers: ${INTEGERS}`);
  const given = wide(flatten(x));
  const flat = cast(where(or(less(given, 0), greaterEqual(given, length)), length, given), "int32");
  const counts = zerosLike({ shape: [length], dtype: "int32" });
  return scatterAlongAxis(counts, flat, onesLike({ shape: flat.shape, dtype: "int32" }), {
    axis: 0,
    kind: "add",
  });
}
