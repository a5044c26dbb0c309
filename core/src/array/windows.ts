/** Reductions of sliding windows: pooling, and sums of all elements so far. */
import { isFloat } from "../graph/dtype.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { functionType, scalarType } from "../graph/lowering.js";
import type { Shape } from "../graph/node.js";
import { bind, type Op, placeholder } from "./bind.js";
import { ones, onesLike, zeros } from "./broadcast.js";
import { resolvePadding } from "./convolution.js";
import { literal, scalar } from "./creation.js";
import {
  and,
  cast,
  div,
  greaterEqual,
  lessEqual,
  maximum,
  minimum,
  mul,
  not,
  or,
  uniform,
  where,
} from "./elementwise.js";
import { limits } from "./hostdata.js";
import { concatenate } from "./joining.js";
import { normalizeAxis } from "./shapes.js";
import { flip, padWith, sliceRanges } from "./shaping.js";
import { logaddexp } from "./smooth.js";
import type { Tensor } from "./tensor.js";

interface Windows {
  readonly [name: string]: unknown;
  readonly window: readonly number[];
  readonly strides: readonly number[];
  readonly padding: readonly (readonly [number, number])[];
}

interface WindowReduction extends Windows {
  readonly kind: "add" | "maximum" | "minimum";
  readonly inputDilation: readonly number[];
}

const dilate = (length: number, by: number): number => (length === 0 ? 0 : (length - 1) * by + 1);

const text = (values: readonly number[]): string => `array<i64: ${values.join(", ")}>`;

const pads = (padding: Windows["padding"]): string =>
  `dense<[${padding.map(([low, high]) => `[${low}, ${high}]`).join(", ")}]> : tensor<${padding.length}x2xi64>`;

/** The windows of one more leading axis, which they do not reach over. */
const below = <W extends Windows>(w: W): W => ({
  ...w,
  window: [1, ...w.window],
  strides: [1, ...w.strides],
  padding: [[0, 0], ...w.padding],
  ...("inputDilation" in w ? { inputDilation: [1, ...(w.inputDilation as number[])] } : {}),
});

const windowPrimitive: Op<WindowReduction> = {
  name: "reduce_window",
  flops: ({ outputs: [y], attributes: { window } }) => y!.size * window.reduce((n, w) => n * w, 1),
  shape([x], { window, strides, padding, inputDilation }) {
    const shape = x!.shape.map((d, i) => {
      const padded = dilate(d, inputDilation[i]!) + padding[i]![0] + padding[i]![1];
      return padded < window[i]! ? 0 : Math.floor((padded - window[i]!) / strides[i]!) + 1;
    });
    return [{ shape, dtype: x!.dtype }];
  },
  vjp({ inputs: [x], outputs: [y], attributes: a }, [g]) {
    if (g === undefined) return [undefined];
    if (a.kind !== "add") return [bind(selectAndScatterPrimitive, [x!, g], { ...a, kind: a.kind })];
    // Each element is in every window that covers it.
    const before = a.window.map((w, i) => w - 1 - a.padding[i]![0]);
    const spread = padWith(g, scalar(0, g.dtype), {
      low: before,
      high: a.window.map(
        (w, i) =>
          dilate(x!.shape[i]!, a.inputDilation[i]!) +
          w -
          1 -
          dilate(y!.shape[i]!, a.strides[i]!) -
          before[i]!,
      ),
      interior: a.strides.map((s, i) => (y!.shape[i]! > 1 ? s - 1 : 0)),
    });
    const ones = a.window.map(() => 1);
    const none = a.window.map((): [number, number] => [0, 0]);
    return [
      bind(windowPrimitive, [spread], {
        kind: "add",
        window: a.window,
        strides: a.inputDilation,
        padding: none,
        inputDilation: ones,
      }),
    ];
  },
  batch: ([x], _, attributes) => [bind(windowPrimitive, [x!], below(attributes))],
  lower(lowering, { inputs: [x], outputs: [y], attributes: a }, [operand]) {
    const { dtype } = x!;
    const s = scalarType(dtype);
    const init = lowering.constant(literal(identity(a.kind, dtype), dtype), dtype);
    const [l, r] = [lowering.fresh("a"), lowering.fresh("b")];
    return lowering.withRegions(
      `"stablehlo.reduce_window"(${operand}, ${init}) <{window_dimensions = ${text(a.window)}, window_strides = ${text(a.strides)}, base_dilations = ${text(a.inputDilation)}, window_dilations = ${text(a.window.map(() => 1))}, padding = ${pads(a.padding)}}> ({`,
      [
        {
          head: `^bb0(${l}: ${s}, ${r}: ${s}):`,
          write: () => [lowering.emit(`stablehlo.${a.kind} ${l}, ${r} : ${s}`), [{ shape: [], dtype }]],
        },
      ],
      `) : ${functionType([x!, { shape: [], dtype }], [y!])}`,
      1,
    );
  },
};

function identity(kind: WindowReduction["kind"], dtype: Tensor["dtype"]): number | bigint {
  if (kind === "add") return 0;
  const sign = kind === "maximum" ? -1 : 1;
  return isFloat(dtype) ? sign * Number.POSITIVE_INFINITY : limits(dtype)[sign < 0 ? "min" : "max"];
}

type Selection = Windows & { readonly kind: "maximum" | "minimum" };

/** Adds each window's cotangent to the element that is the window's extremum, the first of equal ones. */
const selectAndScatterPrimitive: Op<Selection> = {
  name: "select_and_scatter",
  flops: ({ inputs: [, g], attributes: { window } }) => g!.size * (window.reduce((n, w) => n * w, 1) + 1),
  shape: ([x]) => [{ shape: x!.shape, dtype: x!.dtype }],
  // Where the extremum stands does not change.
  vjp: ({ inputs: [x, g], attributes }, [h]) => [
    undefined,
    h && bind(selectAndGatherPrimitive, [x!, h], { ...attributes, results: g!.shape }),
  ],
  batch: (inputs, batched, attributes, size) => [
    bind(selectAndScatterPrimitive, uniform(inputs, batched, size), below(attributes)),
  ],
  lower(lowering, { inputs: [x, g], outputs: [y], attributes: a }, [operand, source]) {
    const { dtype } = x!;
    const s = scalarType(dtype);
    const zero = lowering.constant(literal(0, dtype), dtype);
    const direction = a.kind === "maximum" ? "GE" : "LE";
    const [p, q, l, r] = ["p", "q", "a", "b"].map((prefix) => lowering.fresh(prefix));
    const kind = isFloat(dtype) ? "FLOAT" : dtype.startsWith("u") ? "UNSIGNED" : "SIGNED";
    return lowering.withRegions(
      `"stablehlo.select_and_scatter"(${operand}, ${source}, ${zero}) <{window_dimensions = ${text(a.window)}, window_strides = ${text(a.strides)}, padding = ${pads(a.padding)}}> ({`,
      [
        {
          head: `^bb0(${p}: ${s}, ${q}: ${s}):`,
          write: () => [
            lowering.emit(`stablehlo.compare ${direction}, ${p}, ${q}, ${kind} : (${s}, ${s}) -> tensor<i1>`),
            [{ shape: [], dtype: "bool" }],
          ],
        },
        {
          head: `, {
    ^bb0(${l}: ${s}, ${r}: ${s}):`,
          write: () => [lowering.emit(`stablehlo.add ${l}, ${r} : ${s}`), [{ shape: [], dtype }]],
        },
      ],
      `) : ${functionType([x!, g!, { shape: [], dtype }], [y!])}`,
      1,
    );
  },
};

/** The reverse: of each window the element of the second operand that stands where the first has its extremum. */
const selectAndGatherPrimitive: Op<Selection & { readonly results: Shape }> = {
  name: "select_and_gather",
  shape: ([x], { results }) => [{ shape: results, dtype: x!.dtype }],
  vjp: ({ inputs: [x], attributes }, [g]) => [
    undefined,
    g && bind(selectAndScatterPrimitive, [x!, g], attributes),
  ],
  batch: (inputs, batched, attributes, size) => [
    bind(selectAndGatherPrimitive, uniform(inputs, batched, size), {
      ...below(attributes),
      results: [size, ...attributes.results],
    }),
  ],
  lower(lowering, { inputs, attributes }, operands) {
    const parameters = inputs.map(placeholder);
    const outputs = [gathered(parameters[0]!, parameters[1]!, attributes)];
    return lowering.inline({ parameters, outputs }, operands);
  },
};

/** Goes through the places of a window, all windows side by side, and keeps the best so far: the compiler makes one loop of it. */
function gathered(x: Tensor, values: Tensor, a: Selection & { readonly results: Shape }): Tensor {
  if (a.results.includes(0)) return zeros(a.results, { dtype: x.dtype });
  const interior = a.window.map(() => 0);
  const [low, high] = [a.padding.map(([before]) => before), a.padding.map(([, after]) => after)];
  const padded = (t: Tensor, value: number | boolean): Tensor =>
    padWith(t, scalar(value, t.dtype), { low, high, interior });
  const [keys, tangents, inside] = [
    padded(x, 0),
    padded(values, 0),
    padded(ones(x.shape, { dtype: "bool" }), false),
  ];
  const before = a.kind === "maximum" ? greaterEqual : lessEqual;
  let best: { key: Tensor; tangent: Tensor; inside: Tensor } | undefined;
  for (let place = 0; place < a.window.reduce((n, w) => n * w, 1); place++) {
    let rest = place;
    const offset = a.window.map(() => 0);
    for (let axis = a.window.length - 1; axis >= 0; axis--) {
      offset[axis] = rest % a.window[axis]!;
      rest = Math.floor(rest / a.window[axis]!);
    }
    const stop = offset.map((o, i) => o + (a.results[i]! - 1) * a.strides[i]! + 1);
    const at = (t: Tensor): Tensor => sliceRanges(t, offset, stop, a.strides);
    const next = { key: at(keys), tangent: at(tangents), inside: at(inside) };
    if (best === undefined) {
      best = next;
      continue;
    }
    const stays = or(not(next.inside), and(best.inside, before(best.key, next.key)));
    best = {
      key: where(stays, best.key, next.key),
      tangent: where(stays, best.tangent, next.tangent),
      inside: or(best.inside, next.inside),
    };
  }
  return best!.tangent;
}

export interface PoolingOptions {
  /** Default: the window itself. */
  strides?: number | readonly number[];
  padding?: "valid" | "same" | number | readonly (readonly [number, number])[];
  /** Where the channels are, as for `conv`. Default "channelsLast". */
  layout?: "channelsLast" | "channelsFirst";
}

function pool(
  name: string,
  x: Tensor,
  window: number | readonly number[],
  kind: WindowReduction["kind"],
  options: PoolingOptions,
): Tensor {
  const rank = x.ndim - 2;
  if (rank < 1)
    throw new ShapeError(
      `${name} of [${x.shape.join(", ")}]`,
      "the input has a batch, a channel and spatial axes",
    );
  const each = (value: number | readonly number[]): number[] =>
    typeof value === "number" ? new Array<number>(rank).fill(value) : [...value];
  const [sizes, strides] = [each(window), each(options.strides ?? window)];
  if (
    sizes.length !== rank ||
    strides.length !== rank ||
    [...sizes, ...strides].some((n) => !Number.isInteger(n) || n < 1)
  ) {
    throw new ArgumentError(
      `${name}: windows of [${sizes.join(", ")}] with strides [${strides.join(", ")}] over ${rank} spatial axes`,
      "give integers of at least 1, one for all spatial axes or one for each",
    );
  }
  const last = (options.layout ?? "channelsLast") === "channelsLast";
  const image = last ? x.shape.slice(1, -1) : x.shape.slice(2);
  const padding = resolvePadding(options.padding, image, sizes, strides);
  const around = <T>(inner: readonly T[], outer: T): T[] =>
    last ? [outer, ...inner, outer] : [outer, outer, ...inner];
  return bind(windowPrimitive, [x], {
    kind,
    window: around(sizes, 1),
    strides: around(strides, 1),
    padding: around<readonly [number, number]>(padding, [0, 0]),
    inputDilation: x.shape.map(() => 1),
  });
}

/** The largest element of each window over the spatial axes; the gradient goes to the first of equal ones. */
export function maxPool(x: Tensor, window: number | readonly number[], options: PoolingOptions = {}): Tensor {
  return pool("maxPool", x, window, "maximum", options);
}

/** The mean of each window over the spatial axes; padding does not count. */
export function avgPool(x: Tensor, window: number | readonly number[], options: PoolingOptions = {}): Tensor {
  const total = pool("avgPool", x, window, "add", options);
  return div(total, pool("avgPool", onesLike(x), window, "add", options));
}

/** Sums of the elements up to and with each, along an axis. */
export function cumsum(x: Tensor, axis = 0, { reverse = false } = {}): Tensor {
  const along = normalizeAxis("cumsum", axis, x.ndim);
  const counted = x.dtype === "bool" ? cast(x, "int32") : x;
  const length = x.shape[along]!;
  if (x.size === 0) return counted;
  const at = <T>(value: T, other: T): T[] => x.shape.map((_, i) => (i === along ? value : other));
  return bind(windowPrimitive, [counted], {
    kind: "add",
    window: at(length, 1),
    strides: x.shape.map(() => 1),
    padding: at<[number, number]>(reverse ? [0, length - 1] : [length - 1, 0], [0, 0]),
    inputDilation: x.shape.map(() => 1),
  });
}

/** Combines the elements up to and with each by doubling: log2(length) passes. */
function cumulative(
  name: string,
  x: Tensor,
  axis: number,
  reverse: boolean,
  combine: (x: Tensor, y: Tensor) => Tensor,
): Tensor {
  const along = normalizeAxis(name, axis, x.ndim);
  let result = reverse ? flip(x, along) : x;
  const length = x.shape[along]!;
  const zeros = x.shape.map(() => 0);
  const part = (from: number, to: number): Tensor =>
    sliceRanges(result, zeros.with(along, from), x.shape.with(along, to));
  for (let by = 1; by < length; by *= 2) {
    const combined = combine(part(0, length - by), part(by, length));
    result = concatenate([part(0, by), combined], along);
  }
  return reverse ? flip(result, along) : result;
}

/** Products of the elements up to and with each, along an axis. */
export function cumprod(x: Tensor, axis = 0, { reverse = false } = {}): Tensor {
  return cumulative("cumprod", x.dtype === "bool" ? cast(x, "int32") : x, axis, reverse, mul);
}

/** Products of the elements before each along the last axis, or after it. */
export function productsBefore(x: Tensor, { reverse = false } = {}): Tensor {
  const length = x.shape.at(-1)!;
  if (length === 0) return x;
  const none = x.shape.map(() => 0);
  const first = reverse ? 1 : 0;
  const inner = sliceRanges(
    cumprod(x, -1, { reverse }),
    none.with(-1, first),
    x.shape.with(-1, length - 1 + first),
  );
  return padWith(inner, scalar(1, x.dtype), {
    low: none.with(-1, 1 - first),
    high: none.with(-1, first),
    interior: none,
  });
}

/** The largest of the elements up to and with each, along an axis. */
export function cummax(x: Tensor, axis = 0, { reverse = false } = {}): Tensor {
  return cumulative("cummax", x, axis, reverse, maximum);
}

/** The smallest of the elements up to and with each, along an axis. */
export function cummin(x: Tensor, axis = 0, { reverse = false } = {}): Tensor {
  return cumulative("cummin", x, axis, reverse, minimum);
}

/** log of the sums of exp(x) up to and with each, along an axis. */
export function logcumsumexp(x: Tensor, axis = 0, { reverse = false } = {}): Tensor {
  return cumulative("logcumsumexp", isFloat(x.dtype) ? x : cast(x, "float32"), axis, reverse, logaddexp);
}
