/** Normalizations of signals [batch, channels, ...space], computed in float32. */
import { sum } from "../array/broadcast.js";
import { add, cast, div, maximum, mul, rsqrt, square, sub, where } from "../array/elementwise.js";
import { mean, variance } from "../array/reductions.js";
import { expandDims, reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError, DTypeError, ShapeError } from "../graph/errors.js";
import { constantInit } from "./initializers.js";
import { Module } from "./module.js";

/** Normalization of groups of channels over all places (Wu & He 2018): [batch, channels, ...space]. */
export class GroupNorm extends Module {
  weight: Tensor;
  bias: Tensor;
  readonly groups: number;
  readonly epsilon: number;

  constructor(groups: number, channels: number, { epsilon = 1e-5 } = {}) {
    super();
    if (!(groups > 0) || channels % groups !== 0)
      throw new ArgumentError(
        `GroupNorm: ${channels} channels in ${groups} groups`,
        "channels must be a multiple of groups",
      );
    this.groups = groups;
    this.epsilon = epsilon;
    this.weight = this.parameter("weight", [channels], { init: constantInit(1) });
    this.bias = this.parameter("bias", [channels], { init: constantInit(0) });
  }

  forward(x: Tensor): Tensor {
    const [channels] = this.weight.shape;
    if (x.ndim < 2 || x.shape[1] !== channels) {
      throw new ShapeError(
        `GroupNorm of ${channels} channels: x has shape [${x.shape.join(", ")}]`,
        "x is [batch, channels, ...space]",
      );
    }
    const grouped = reshape(cast(x, "float32"), [x.shape[0]!, this.groups, -1]);
    const centred = sub(grouped, mean(grouped, -1, { keepDims: true }));
    const scale = rsqrt(add(variance(grouped, -1, { keepDims: true }), this.epsilon));
    const normed = cast(reshape(mul(centred, scale), x.shape), x.dtype);
    return affine(normed, this.weight, this.bias, 1);
  }
}

/** Factors and terms of the features that stand along an axis. */
function affine(x: Tensor, weight: Tensor | null, bias: Tensor | null, axis: number): Tensor {
  const along = (y: Tensor): Tensor => reshape(y, [-1, ...x.shape.slice(axis + 1).map(() => 1)]);
  const scaled = weight === null ? x : mul(x, along(weight));
  return bias === null ? scaled : add(scaled, along(bias));
}

/** Throws where a mask is not bool of the shape of `x` without the axis of the features; the mask with that axis. */
function expandMask(name: string, mask: Tensor, x: Tensor, axis: number): Tensor {
  if (mask.dtype !== "bool")
    throw new DTypeError(
      `${name}: the mask is ${mask.dtype}`,
      "give bool, true for the positions that count",
    );
  const expected = x.shape.filter((_, i) => i !== axis);
  if (mask.shape.join() !== expected.join()) {
    throw new ShapeError(
      `${name}: mask [${mask.shape.join(", ")}] for x [${x.shape.join(", ")}]`,
      `it has the shape of x without the features, here [${expected.join(", ")}]`,
    );
  }
  return expandDims(mask, axis);
}

/** Mean, variance (divided by the number) and the number of elements over axes, of those where `counts` is true. */
function moments(x: Tensor, axes: readonly number[], counts: Tensor | undefined) {
  if (counts === undefined) {
    const count = axes.reduce((n, axis) => n * x.shape[axis]!, 1);
    return {
      mean: mean(x, axes, { keepDims: true }),
      variance: variance(x, axes, { keepDims: true }),
      count,
    };
  }
  const count = sum(cast(counts, "float32"), axes, { keepDims: true });
  const divisor = maximum(count, 1);
  const middle = div(sum(where(counts, x, 0), axes, { keepDims: true }), divisor);
  const squares = where(counts, square(sub(x, middle)), 0);
  return { mean: middle, variance: div(sum(squares, axes, { keepDims: true }), divisor), count };
}

export interface InstanceNormOptions {
  /** Default 1e-5. */
  epsilon?: number;
  /** Whether channels have a factor and a term. Default false, as in PyTorch. */
  affine?: boolean;
}

/** Normalization of each channel of each example over its places (Ulyanov et al. 2016): [batch, channels, ...space]. */
export class InstanceNorm extends Module {
  weight: Tensor | null;
  bias: Tensor | null;
  readonly channels: number;
  readonly epsilon: number;

  constructor(channels: number, { epsilon = 1e-5, affine: scaled = false }: InstanceNormOptions = {}) {
    super();
    this.channels = channels;
    this.epsilon = epsilon;
    this.weight = scaled ? this.parameter("weight", [channels], { init: constantInit(1) }) : null;
    this.bias = scaled ? this.parameter("bias", [channels], { init: constantInit(0) }) : null;
  }

  /** @param mask - bool [batch, ...space], true for the places that count in the statistics */
  forward(x: Tensor, { mask }: { mask?: Tensor } = {}): Tensor {
    if (x.ndim < 3 || x.shape[1] !== this.channels) {
      throw new ShapeError(
        `InstanceNorm of ${this.channels} channels: x has shape [${x.shape.join(", ")}]`,
        "x is [batch, channels, ...space]",
      );
    }
    const wide = cast(x, "float32");
    const counts = mask && expandMask("InstanceNorm", mask, x, 1);
    const space = x.shape.slice(2).map((_, i) => i + 2);
    const { mean: middle, variance: spread } = moments(wide, space, counts);
    const normed = mul(sub(wide, middle), rsqrt(add(spread, this.epsilon)));
    return affine(cast(normed, x.dtype), this.weight, this.bias, 1);
  }
}
