/** Operations that move elements without computing with them: reshape, transpose, slice, pad, concatenate, reverse. */
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { functionType, tensorType } from "../graph/lowering.js";
import type { Shape } from "../graph/node.js";
import { bind, type Op } from "./bind.js";
import { scalar } from "./creation.js";
import { described } from "./given.js";
import { checkShape, normalizeAxes, normalizeAxis, sameShape, sizeOf } from "./shapes.js";
import type { Tensor } from "./tensor.js";

const reshapePrimitive: Op<{ shape: Shape }> = {
  name: "reshape",
  fusion: "element",
  shape([x], { shape }) {
    if (sizeOf(shape) !== sizeOf(x!.shape)) {
      throw new ShapeError(
        `reshape: [${x!.shape.join(", ")}] has ${sizeOf(x!.shape)} elements and [${shape.join(", ")}] ${sizeOf(shape)}`,
        "the number of elements must stay the same; one dimension may be -1",
      );
    }
    return [{ shape, dtype: x!.dtype }];
  },
  vjp: ({ inputs: [x] }, [g]) => [g && reshape(g, x!.shape)],
  batch: ([x], _, { shape }, size) => [reshape(x!, [size, ...shape])],
  lower: (lowering, { inputs, outputs }, [x]) =>
    lowering.emit(`stablehlo.reshape ${x} : ${functionType(inputs, outputs)}`),
};

/** The same elements in another shape; one dimension may be -1. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  if (!Array.isArray(shape)) checkShape("reshape", shape);
  const free = shape.indexOf(-1);
  let target = shape;
  if (free >= 0) {
    const rest = sizeOf(shape.filter((_, i) => i !== free));
    if (shape.lastIndexOf(-1) !== free) {
      throw new ArgumentError(
        `reshape: [${shape.join(", ")}] has more than one -1`,
        "at most one dimension may be -1",
      );
    }
    target = shape.with(free, rest === 0 ? 0 : x.size / rest);
    if (!Number.isInteger(target[free])) {
      throw new ShapeError(
        `reshape: [${x.shape.join(", ")}] (${x.size} elements) cannot become [${shape.join(", ")}]`,
        `the other dimensions must divide ${x.size}`,
      );
    }
  }
  checkShape("reshape", target);
  return sameShape(x.shape, target) ? x : bind(reshapePrimitive, [x], { shape: [...target] });
}

/** One dimension, or the dimensions `start` to `end` (inclusive) merged into one. */
export function flatten(x: Tensor, start = 0, end = -1): Tensor {
  if (x.ndim === 0) return reshape(x, [1]);
  const [from, to] = [normalizeAxis("flatten", start, x.ndim), normalizeAxis("flatten", end, x.ndim)];
  return reshape(x, [
    ...x.shape.slice(0, from),
    sizeOf(x.shape.slice(from, to + 1)),
    ...x.shape.slice(to + 1),
  ]);
}

/** Inserts an axis of length 1 at each of `axes` (positions in the result). */
export function expandDims(x: Tensor, axes: number | readonly number[]): Tensor {
  const list = typeof axes === "number" ? [axes] : axes;
  const inserted = new Set(normalizeAxes("expandDims", list, x.ndim + list.length));
  const old = [...x.shape];
  return reshape(
    x,
    Array.from({ length: x.ndim + list.length }, (_, i) => (inserted.has(i) ? 1 : old.shift()!)),
  );
}

/** Removes axes of length 1: the given ones, or all. */
export function squeeze(x: Tensor, axes?: number | readonly number[]): Tensor {
  const removed = new Set(
    axes === undefined
      ? x.shape.flatMap((d, i) => (d === 1 ? [i] : []))
      : normalizeAxes("squeeze", axes, x.ndim),
  );
  for (const axis of removed) {
    if (x.shape[axis] !== 1) {
      throw new ShapeError(
        `squeeze: axis ${axis} of [${x.shape.join(", ")}] has length ${x.shape[axis]}`,
        "only axes of length 1 go",
      );
    }
  }
  return reshape(
    x,
    x.shape.filter((_, i) => !removed.has(i)),
  );
}

const transposePrimitive: Op<{ permutation: readonly number[] }> = {
  name: "transpose",
  fusion: "element",
  shape: ([x], { permutation }) => [{ shape: permutation.map((p) => x!.shape[p]!), dtype: x!.dtype }],
  vjp: ({ attributes: { permutation } }, [g]) => [g && transpose(g, inverse(permutation))],
  batch: ([x], _, { permutation }) => [transpose(x!, [0, ...permutation.map((p) => p + 1)])],
  lower: (lowering, { inputs, outputs, attributes: { permutation } }, [x]) =>
    lowering.emit(
      `stablehlo.transpose ${x}, dims = [${permutation.join(", ")}] : ${functionType(inputs, outputs)}`,
    ),
};

export function inverse(permutation: readonly number[]): number[] {
  const result = new Array<number>(permutation.length);
  for (const [i, p] of permutation.entries()) result[p] = i;
  return result;
}

/** Permutes the axes; reverses their order by default. */
export function transpose(x: Tensor, permutation?: readonly number[]): Tensor {
  if (permutation !== undefined && !Array.isArray(permutation))
    throw new ArgumentError(
      `transpose: the axes are ${described(permutation)}`,
      "give a list of all axes: transpose(x, [1, 0]); swapAxes(x, a, b) exchanges two",
    );
  const order = permutation ?? x.shape.map((_, i) => x.ndim - 1 - i);
  if (order.length !== x.ndim) {
    throw new ArgumentError(
      `transpose: [${order.join(", ")}] for ${x.ndim} dimensions`,
      "name each axis once",
    );
  }
  normalizeAxes("transpose", order, x.ndim);
  const axes = order.map((a) => (a < 0 ? a + x.ndim : a));
  return axes.every((a, i) => a === i) ? x : bind(transposePrimitive, [x], { permutation: axes });
}

/** Exchanges two axes. */
export function swapAxes(x: Tensor, a: number, b: number): Tensor {
  const [i, j] = [normalizeAxis("swapAxes", a, x.ndim), normalizeAxis("swapAxes", b, x.ndim)];
  return transpose(
    x,
    x.shape.map((_, k) => (k === i ? j : k === j ? i : k)),
  );
}

/** Moves one axis to another position; the others keep their order. */
export function moveAxis(x: Tensor, from: number, to: number): Tensor {
  const [i, j] = [normalizeAxis("moveAxis", from, x.ndim), normalizeAxis("moveAxis", to, x.ndim)];
  const order = x.shape.map((_, k) => k).filter((k) => k !== i);
  order.splice(j, 0, i);
  return transpose(x, order);
}

const slicePrimitive: Op<{ start: readonly number[]; limit: readonly number[]; stride: readonly number[] }> =
  {
    name: "slice",
    fusion: "element",
    shape: ([x], { start, limit, stride }) => [
      { shape: start.map((s, i) => Math.max(0, Math.ceil((limit[i]! - s) / stride[i]!))), dtype: x!.dtype },
    ],
    vjp({ inputs: [x], outputs: [y], attributes: { start, stride } }, [g]) {
      if (g === undefined) return [undefined];
      const interior = stride.map((s, i) => (y!.shape[i]! > 1 ? s - 1 : 0));
      const high = start.map((s, i) => {
        const length = y!.shape[i]!;
        return x!.shape[i]! - s - (length === 0 ? 0 : (length - 1) * (interior[i]! + 1) + 1);
      });
      return [padWith(g, zero(g), { low: start, high, interior })];
    },
    batch: ([x], _, { start, limit, stride }, size) => [
      bind(slicePrimitive, [x!], { start: [0, ...start], limit: [size, ...limit], stride: [1, ...stride] }),
    ],
    lower: (lowering, { inputs, outputs, attributes: { start, limit, stride } }, [x]) => {
      const ranges = start.map((s, i) => `${s}:${limit[i]}${stride[i] === 1 ? "" : `:${stride[i]}`}`);
      return lowering.emit(`stablehlo.slice ${x} [${ranges.join(", ")}] : ${functionType(inputs, outputs)}`);
    },
  };

/** Elements `start[i]`, `start[i] + stride[i]`, … below `limit[i]` of each axis; all within the shape. */
export function sliceRanges(
  x: Tensor,
  start: readonly number[],
  limit: readonly number[],
  stride?: readonly number[],
): Tensor {
  const steps = stride ?? start.map(() => 1);
  for (const [i, s] of start.entries()) {
    if (s < 0 || limit[i]! > x.shape[i]! || s > limit[i]! || steps[i]! < 1) {
      throw new ArgumentError(
        `slice: ${s}:${limit[i]}:${steps[i]} of axis ${i}, which has length ${x.shape[i]}`,
      );
    }
  }
  const whole = start.every((s, i) => s === 0 && limit[i] === x.shape[i] && steps[i] === 1);
  return whole ? x : bind(slicePrimitive, [x], { start: [...start], limit: [...limit], stride: [...steps] });
}

const zero = (x: Tensor): Tensor => scalar(x.dtype === "bool" ? false : 0, x.dtype);

interface Padding {
  readonly low: readonly number[];
  readonly high: readonly number[];
  readonly interior: readonly number[];
}

const padPrimitive: Op<{ low: readonly number[]; high: readonly number[]; interior: readonly number[] }> = {
  name: "pad",
  fusion: "element",
  shape([x], { low, high, interior }) {
    const shape = x!.shape.map((d, i) => d + low[i]! + high[i]! + Math.max(d - 1, 0) * interior[i]!);
    if (!shape.every((d) => Number.isInteger(d) && d >= 0)) {
      throw new ShapeError(
        `pad of [${x!.shape.join(", ")}] by [${low.join(", ")}] before and [${high.join(", ")}] after`,
        "widths are integers, and negative ones remove no more than there is",
      );
    }
    return [{ shape, dtype: x!.dtype }];
  },
  vjp({ inputs: [x], attributes: { low, high, interior } }, [g]) {
    if (g === undefined) return [undefined, undefined];
    // Negative padding removed elements: they get zeros back before the kept ones are picked.
    const widened = padWith(g, zero(g), {
      low: low.map((l) => Math.max(-l, 0)),
      high: high.map((h) => Math.max(-h, 0)),
      interior: low.map(() => 0),
    });
    const start = low.map((l) => Math.max(l, 0));
    const limit = x!.shape.map((d, i) => start[i]! + (d === 0 ? 0 : (d - 1) * (interior[i]! + 1) + 1));
    return [
      sliceRanges(
        widened,
        start,
        limit,
        interior.map((n) => n + 1),
      ),
      undefined,
    ];
  },
  batch([x, value], [, valueBatched], { low, high, interior }) {
    if (valueBatched)
      throw new ArgumentError("vmap of pad over its padding value", "select the padding with where()");
    return [padWith(x!, value!, { low: [0, ...low], high: [0, ...high], interior: [0, ...interior] })];
  },
  lower: (lowering, { inputs, outputs, attributes: { low, high, interior } }, [x, value]) =>
    lowering.emit(
      `stablehlo.pad ${x}, ${value}, low = [${low.join(", ")}], high = [${high.join(", ")}], interior = [${interior.join(", ")}] : ${functionType(inputs, outputs)}`,
    ),
};

/** XLA's pad: elements before, after and between along each axis; negative `low` and `high` remove. `value` is a scalar Tensor. */
export function padWith(x: Tensor, value: Tensor, { low, high, interior }: Padding): Tensor {
  if ([low, high, interior].every((p) => p.every((n) => n === 0))) return x;
  return bind(padPrimitive, [x, value], { low: [...low], high: [...high], interior: [...interior] });
}

/** Adds `widths[i] = [before, after]` elements of `value` around each axis. */
export function pad(x: Tensor, widths: readonly (readonly [number, number])[], value = 0): Tensor {
  if (!Array.isArray(widths) || widths.length !== x.ndim || !widths.every(Array.isArray)) {
    throw new ArgumentError(
      `pad: ${Array.isArray(widths) ? `${widths.length} widths` : described(widths)} for ${x.ndim} dimensions`,
      `give [before, after] for each axis: [${x.shape.map(() => "[1, 1]").join(", ")}]`,
    );
  }
  return padWith(x, scalar(x.dtype === "bool" ? value !== 0 : value, x.dtype), {
    low: widths.map(([low]) => low),
    high: widths.map(([, high]) => high),
    interior: widths.map(() => 0),
  });
}

const reversePrimitive: Op<{ axes: readonly number[] }> = {
  name: "reverse",
  fusion: "element",
  shape: ([x]) => [{ shape: x!.shape, dtype: x!.dtype }],
  vjp: ({ attributes: { axes } }, [g]) => [g && flip(g, axes)],
  batch: ([x], _, { axes }) => [
    flip(
      x!,
      axes.map((a) => a + 1),
    ),
  ],
  lower: (lowering, { outputs: [y], attributes: { axes } }, [x]) =>
    lowering.emit(`stablehlo.reverse ${x}, dims = [${axes.join(", ")}] : ${tensorType(y!)}`),
};

/** Reverses the order of the elements along the axes (all by default). */
export function flip(x: Tensor, axes?: number | readonly number[]): Tensor {
  const list = normalizeAxes("flip", axes, x.ndim);
  return list.length === 0 ? x : bind(reversePrimitive, [x], { axes: list });
}
