/** Convolutional layers, laid out as in PyTorch: signals [batch, channels, ...space], weights [outputs, inputs / groups, ...kernel]. */
import { type ConvolutionOptions, conv } from "../array/convolution.js";
import { add, cast, mul, rsqrt, sub } from "../array/elementwise.js";
import { mean, variance } from "../array/reductions.js";
import { reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { constantInit, fanInUniform, type Initializer, uniformInit } from "./initializers.js";
import { Module } from "./module.js";

export interface ConvOptions extends Omit<ConvolutionOptions, "layout" | "precision"> {
  /** Default true. */
  bias?: boolean;
  /** Default PyTorch's: uniform in ±1/sqrt(fan in). */
  init?: Initializer;
  /** Logical axes of the outputs and inputs. Default none. */
  axes?: readonly [string | null, string | null];
}

class Conv extends Module {
  weight: Tensor;
  bias: Tensor | null;
  readonly options: Omit<ConvolutionOptions, "layout" | "precision">;

  constructor(inputs: number, outputs: number, kernel: readonly number[], options: ConvOptions) {
    super();
    const { bias = true, init = fanInUniform, axes = [null, null], ...rest } = options;
    const { groups = 1 } = rest;
    if (inputs % groups !== 0 || outputs % groups !== 0) {
      throw new ArgumentError(
        `convolution of ${inputs} to ${outputs} channels in ${groups} groups`,
        "both numbers of channels must be multiples of that of groups",
      );
    }
    const shape = [outputs, inputs / groups, ...kernel];
    this.weight = this.parameter("weight", shape, { init, axes: [...axes, ...kernel.map(() => null)] });
    const bound = 1 / Math.sqrt(shape.slice(1).reduce((a, b) => a * b, 1));
    this.bias = bias
      ? this.parameter("bias", [outputs], { init: uniformInit(bound), axes: [axes[0]] })
      : null;
    this.options = rest;
  }

  /** [batch, inputs, ...space] to [batch, outputs, ...space]. */
  forward(x: Tensor): Tensor {
    const [, perGroup, ...kernel] = this.weight.shape as [number, number, ...number[]];
    const inputs = perGroup * (this.options.groups ?? 1);
    if (x.ndim !== kernel.length + 2 || x.shape[1] !== inputs) {
      throw new ShapeError(
        `convolution of ${inputs} channels over ${kernel.length} axes: x has shape [${x.shape.join(", ")}]`,
        "x is [batch, channels, ...space]",
      );
    }
    const y = conv(x, this.weight, { ...this.options, layout: "channelsFirst" });
    return this.bias === null ? y : add(y, reshape(this.bias, [-1, ...kernel.map(() => 1)]));
  }
}

/** Convolution over one axis: [batch, inputs, time] to [batch, outputs, time]. */
export class Conv1d extends Conv {
  constructor(inputs: number, outputs: number, kernel: number, options: ConvOptions = {}) {
    super(inputs, outputs, [kernel], options);
  }
}

/** Convolution over two axes: [batch, inputs, height, width] to [batch, outputs, height, width]. */
export class Conv2d extends Conv {
  constructor(
    inputs: number,
    outputs: number,
    kernel: number | readonly [number, number],
    options: ConvOptions = {},
  ) {
    super(inputs, outputs, typeof kernel === "object" ? kernel : [kernel, kernel], options);
  }
}

/** Normalization of groups of channels over all places (Wu & He 2018), computed in float32: [batch, channels, ...space]. */
export class GroupNorm extends Module {
  weight: Tensor;
  bias: Tensor;
  readonly groups: number;
  readonly epsilon: number;

  constructor(groups: number, channels: number, { epsilon = 1e-5 } = {}) {
    super();
    if (channels % groups !== 0)
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
    const perChannel = (y: Tensor): Tensor => reshape(y, [-1, ...x.shape.slice(2).map(() => 1)]);
    return add(mul(normed, perChannel(this.weight)), perChannel(this.bias));
  }
}
