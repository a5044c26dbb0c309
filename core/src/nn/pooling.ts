/** Pooling over the space of signals [batch, channels, ...space]. */

import { sum } from "../array/broadcast.js";
import { dotGeneral } from "../array/contraction.js";
import { constantArray } from "../array/creation.js";
import { cast, div, equal, where } from "../array/elementwise.js";
import { max, mean } from "../array/reductions.js";
import { expandDims, moveAxis, pad, reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { avgPool, maxPool, type PoolingOptions } from "../array/windows.js";
import { ArgumentError, DTypeError, ShapeError } from "../graph/errors.js";
import { Module } from "./module.js";

function checkSignal(name: string, x: Tensor): void {
  if (x.ndim < 3)
    throw new ShapeError(`${name}: x has shape [${x.shape.join(", ")}]`, "x is [batch, channels, ...space]");
}

export type PoolOptions = Omit<PoolingOptions, "layout">;

/** The largest element of each window: [batch, channels, ...space] of any number of spatial axes. Padding never wins. */
export class MaxPool extends Module {
  readonly window: number | readonly number[];
  readonly options: PoolOptions;

  constructor(window: number | readonly number[], options: PoolOptions = {}) {
    super();
    this.window = window;
    this.options = options;
  }

  forward(x: Tensor): Tensor {
    checkSignal("MaxPool", x);
    return maxPool(x, this.window, { ...this.options, layout: "channelsFirst" });
  }
}

export interface AvgPoolOptions extends PoolOptions {
  /** Whether the zeros of a numeric padding count as elements: true as in PyTorch; of "same" they never do. */
  countPadding?: boolean;
}

/** The mean of each window: [batch, channels, ...space] of any number of spatial axes. */
export class AvgPool extends Module {
  readonly window: number | readonly number[];
  readonly options: PoolOptions;
  readonly countPadding: boolean;

  constructor(window: number | readonly number[], { countPadding = true, ...options }: AvgPoolOptions = {}) {
    super();
    this.window = window;
    this.options = options;
    this.countPadding = countPadding;
  }

  forward(x: Tensor): Tensor {
    checkSignal("AvgPool", x);
    const { padding, ...rest } = this.options;
    const numeric = padding !== undefined && typeof padding !== "string";
    if (!numeric || !this.countPadding)
      return avgPool(x, this.window, { ...this.options, layout: "channelsFirst" });
    const space = x.shape.slice(2);
    const widths = typeof padding === "number" ? space.map(() => [padding, padding] as const) : padding;
    const padded = pad(x, [[0, 0], [0, 0], ...widths]);
    return avgPool(padded, this.window, { ...rest, layout: "channelsFirst" });
  }
}

/**
 * Means of windows that are chosen such that the results have a given space, as PyTorch's AdaptiveAvgPool: result i of m over a length n is
 * the mean from floor(i n / m) to ceil((i + 1) n / m). null keeps an axis.
 */
export class AdaptiveAvgPool extends Module {
  readonly size: readonly (number | null)[] | number;

  constructor(size: number | readonly (number | null)[]) {
    super();
    const sizes: readonly (number | null)[] = typeof size === "number" ? [size] : size;
    if (sizes.some((n) => n !== null && !(Number.isInteger(n) && n > 0))) {
      throw new ArgumentError(
        `AdaptiveAvgPool: the size is ${JSON.stringify(size)}`,
        "give positive integers, one for all axes or one (or null) for each",
      );
    }
    this.size = size;
  }

  forward(x: Tensor): Tensor {
    checkSignal("AdaptiveAvgPool", x);
    const space = x.shape.slice(2);
    const { size } = this;
    const sizes = typeof size === "number" ? space.map(() => size) : size;
    if (sizes.length !== space.length) {
      throw new ShapeError(
        `AdaptiveAvgPool to [${sizes.join(", ")}]: x has shape [${x.shape.join(", ")}]`,
        "give one size for each axis of the space",
      );
    }
    return sizes.reduce<Tensor>((y, to, k) => (to === null ? y : averaged(y, k + 2, to)), x);
  }
}

/** The means of `count` windows along an axis. */
function averaged(x: Tensor, axis: number, count: number): Tensor {
  const length = x.shape[axis]!;
  if (length % count === 0) {
    const shape = [...x.shape];
    shape.splice(axis, 1, count, length / count);
    return mean(reshape(x, shape), axis + 1);
  }
  const shares = Array.from({ length: count }, (_, i) => {
    const [from, to] = [Math.floor((i * length) / count), Math.ceil(((i + 1) * length) / count)];
    return Array.from({ length }, (_, k) => (k >= from && k < to ? 1 / (to - from) : 0));
  });
  const matrix = reshape(constantArray(shares.flat(), { dtype: "float32" }), [count, length]);
  const contract = { contract: [[axis], [1]], batch: [[], []] } as const;
  const means = dotGeneral(x, cast(matrix, x.dtype), contract, { precision: "highest" });
  return moveAxis(means, -1, axis);
}

/** The mean or the largest element over the whole space: [batch, channels, ...space] to [batch, channels]. */
export class GlobalPool extends Module {
  readonly kind: "mean" | "max";

  constructor(kind: "mean" | "max" = "mean") {
    super();
    if (kind !== "mean" && kind !== "max")
      throw new ArgumentError(`GlobalPool: the kind is ${JSON.stringify(kind)}`, 'give "mean" or "max"');
    this.kind = kind;
  }

  /**
   * @param mask - bool [batch, ...space], true for the places that count. A row without any gives 0
   */
  forward(x: Tensor, { mask }: { mask?: Tensor } = {}): Tensor {
    checkSignal("GlobalPool", x);
    const space = x.shape.slice(2).map((_, i) => i + 2);
    if (mask === undefined) return this.kind === "mean" ? mean(x, space) : max(x, space);
    if (mask.dtype !== "bool")
      throw new DTypeError(
        `GlobalPool: the mask is ${mask.dtype}`,
        "give bool, true for the places that count",
      );
    const expected = [x.shape[0]!, ...x.shape.slice(2)];
    if (mask.shape.join() !== expected.join()) {
      throw new ShapeError(
        `GlobalPool: mask [${mask.shape.join(", ")}] for x [${x.shape.join(", ")}]`,
        "it is [batch, ...space]",
      );
    }
    const counts = expandDims(mask, 1);
    const number = sum(cast(counts, "float32"), space);
    const none = equal(number, 0);
    if (this.kind === "max") {
      const largest = max(where(counts, x, Number.NEGATIVE_INFINITY), space);
      return where(none, 0, largest);
    }
    const total = sum(where(counts, cast(x, "float32"), 0), space);
    return cast(div(total, where(none, 1, number)), x.dtype);
  }
}
