/** Normalizations of signals [batch, channels, ...space], computed in float32. */
import { sum } from "../array/broadcast.js";
import { add, cast, div, greater, maximum, mul, rsqrt, square, sub, where } from "../array/elementwise.js";
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

/** Of each feature, with axes of 1 in place of those that were reduced. */
interface Moments {
  readonly mean: Tensor;
  /** Divided by the number of elements. */
  readonly variance: Tensor;
  /** Number of elements. */
  readonly count: Tensor | number;
}

/** Over axes, of the elements where `counts` is true. */
function moments(x: Tensor, axes: readonly number[], counts: Tensor | undefined): Moments {
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

export interface BatchNormOptions {
  /** Default 1e-5. */
  epsilon?: number;
  /** Share of a batch's statistics in the running ones; null: the mean over all batches so far. Default 0.1, PyTorch's. */
  momentum?: number | null;
  /** Whether features have a factor and a term. Default true. */
  affine?: boolean;
  /** Where the features are. Default 1: [batch, features, ...space]. */
  axis?: number;
}

/** What `BatchNorm` is told beside its input. */
export interface BatchNormInputs {
  /** Whether the batch's statistics are used, and kept in the running ones. Default false. */
  training?: boolean;
  /** bool of the shape of x without the features: positions of false (padding) do not count in the statistics. */
  mask?: Tensor;
}

/**
 * Batch normalization (Ioffe & Szegedy 2015) of [batch, features], [batch, features, time] and so on, as PyTorch's BatchNorm1d, 2d and 3d. In
 * training each feature is normalized by its mean and variance over everything else, and the running statistics (buffers, named and counted
 * as in PyTorch: the running variance is the unbiased one) move towards them; otherwise the running ones are used.
 *
 * A batch that is spread over devices is one array, so its statistics are over all of it: this is SyncBatchNorm too. With `accumulate` they
 * are those of each part.
 */
export class BatchNorm extends Module {
  weight: Tensor | null;
  bias: Tensor | null;
  runningMean: Tensor;
  runningVar: Tensor;
  numBatchesTracked: Tensor;
  readonly epsilon: number;
  readonly momentum: number | null;
  readonly axis: number;

  constructor(features: number, options: BatchNormOptions = {}) {
    super();
    const { epsilon = 1e-5, momentum = 0.1, affine: scaled = true, axis = 1 } = options;
    if (momentum !== null && !(momentum >= 0 && momentum <= 1))
      throw new ArgumentError(`BatchNorm: momentum is ${momentum}`, "give a number from 0 to 1, or null");
    this.epsilon = epsilon;
    this.momentum = momentum;
    this.axis = axis;
    this.weight = scaled ? this.parameter("weight", [features], { init: constantInit(1) }) : null;
    this.bias = scaled ? this.parameter("bias", [features], { init: constantInit(0) }) : null;
    this.runningMean = this.buffer("runningMean", [features]);
    this.runningVar = this.buffer("runningVar", [features], { init: constantInit(1) });
    this.numBatchesTracked = this.buffer("numBatchesTracked", [], { dtype: "int64" });
  }

  /** @throws TraceError in training outside of `nn.withUpdates`: the running statistics would be lost */
  forward(x: Tensor, { training = false, mask }: BatchNormInputs = {}): Tensor {
    const [features] = this.runningMean.shape;
    const axis = this.axis < 0 ? this.axis + x.ndim : this.axis;
    if (x.ndim < 2 || x.shape[axis] !== features) {
      throw new ShapeError(
        `BatchNorm of ${features} features: x has shape [${x.shape.join(", ")}]`,
        `axis ${this.axis} of x is that of the features`,
      );
    }
    const wide = cast(x, "float32");
    const along = (y: Tensor): Tensor => reshape(y, [-1, ...x.shape.slice(axis + 1).map(() => 1)]);
    let [middle, spread] = [along(this.runningMean), along(this.runningVar)];
    if (training) {
      const others = x.shape.map((_, i) => i).filter((i) => i !== axis);
      const counts = mask && expandMask("BatchNorm", mask, x, axis);
      const found = moments(wide, others, counts);
      if (counts === undefined && found.count === 1) {
        throw new ShapeError(
          `BatchNorm in training: x of shape [${x.shape.join(", ")}] has one value of each feature`,
          "give a larger batch: one value has no variance",
        );
      }
      [middle, spread] = [found.mean, found.variance];
      this.track(found);
    }
    const normed = mul(sub(wide, middle), rsqrt(add(spread, this.epsilon)));
    return affine(cast(normed, x.dtype), this.weight, this.bias, axis);
  }

  /** Moves the running statistics towards those of a batch; a batch of which nothing counts leaves them. */
  private track({ mean: middle, variance: spread, count }: Moments): void {
    const batches = add(this.numBatchesTracked, 1);
    const share = this.momentum ?? div(1, cast(batches, "float32"));
    const unbiased = mul(spread, div(count, maximum(sub(count, 1), 1)));
    const some = greater(count, 0);
    const towards = (running: Tensor, now: Tensor): Tensor => {
      const next = add(mul(running, sub(1, share)), mul(reshape(now, running.shape), share));
      return where(reshape(some, []), next, running);
    };
    this.setBuffer("runningMean", towards(this.runningMean, middle));
    this.setBuffer("runningVar", towards(this.runningVar, unbiased));
    this.setBuffer("numBatchesTracked", batches);
  }
}
