/** Convolutional layers, laid out as in PyTorch: signals [batch, channels, ...space], weights [outputs, inputs / groups, ...kernel]. */
import {
  type ConvolutionOptions,
  conv,
  convTranspose,
  type TransposedConvolutionOptions,
} from "../array/convolution.js";
import { add } from "../array/elementwise.js";
import { reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { fanInUniform, type Initializer, uniformInit } from "./initializers.js";
import { Module } from "./module.js";

export interface ConvOptions extends Omit<ConvolutionOptions, "layout" | "precision"> {
  /** Default true. */
  bias?: boolean;
  /** Default PyTorch's: uniform in ±1/sqrt(fan in). */
  init?: Initializer;
  /** Logical axes of the outputs and inputs. Default none. */
  axes?: readonly [string | null, string | null];
}

/** Throws where channels do not fall into the groups. */
function checkGroups(inputs: number, outputs: number, groups: number): void {
  if (Number.isInteger(groups) && groups > 0 && inputs % groups === 0 && outputs % groups === 0) return;
  throw new ArgumentError(
    `convolution of ${inputs} to ${outputs} channels in ${groups} groups`,
    "both numbers of channels must be multiples of that of groups",
  );
}

/** A kernel's lengths: one number is for all axes. */
function kernelOf(kernel: number | readonly number[], rank: number): readonly number[] {
  return typeof kernel === "object" ? kernel : new Array<number>(rank).fill(kernel);
}

/** PyTorch's uniform initializer of a bias beside a weight of this shape. */
function biasInit([, ...fan]: readonly number[]): Initializer {
  return uniformInit(1 / Math.sqrt(fan.reduce((a, b) => a * b, 1)));
}

/** [channels] beside [batch, channels, ...space]. */
function perChannel(bias: Tensor, rank: number): Tensor {
  return reshape(bias, [-1, ...new Array<number>(rank).fill(1)]);
}

function checkSignal(what: string, x: Tensor, channels: number, rank: number): void {
  if (x.ndim === rank + 2 && x.shape[1] === channels) return;
  throw new ShapeError(
    `${what} of ${channels} channels over ${rank} axes: x has shape [${x.shape.join(", ")}]`,
    "x is [batch, channels, ...space]",
  );
}

export class Conv extends Module {
  weight: Tensor;
  bias: Tensor | null;
  readonly options: Omit<ConvolutionOptions, "layout" | "precision">;

  constructor(inputs: number, outputs: number, kernel: readonly number[], options: ConvOptions) {
    super();
    const { bias = true, init = fanInUniform, axes = [null, null], ...rest } = options;
    const { groups = 1 } = rest;
    checkGroups(inputs, outputs, groups);
    const shape = [outputs, inputs / groups, ...kernel];
    this.weight = this.parameter("weight", shape, { init, axes: [...axes, ...kernel.map(() => null)] });
    this.bias = bias ? this.parameter("bias", [outputs], { init: biasInit(shape), axes: [axes[0]] }) : null;
    this.options = rest;
  }

  /** [batch, inputs, ...space] to [batch, outputs, ...space]. */
  forward(x: Tensor): Tensor {
    const [, perGroup, ...kernel] = this.weight.shape as [number, number, ...number[]];
    checkSignal("convolution", x, perGroup * (this.options.groups ?? 1), kernel.length);
    const y = conv(x, this.weight, { ...this.options, layout: "channelsFirst" });
    return this.bias === null ? y : add(y, perChannel(this.bias, kernel.length));
  }
}

/** Convolution over one axis: [batch, inputs, time] to [batch, outputs, time]. */
export class Conv1d extends Conv {
  constructor(inputs: number, outputs: number, kernel: number, options: ConvOptions = {}) {
    super(inputs, outputs, kernelOf(kernel, 1), options);
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
    super(inputs, outputs, kernelOf(kernel, 2), options);
  }
}

/** Convolution over three axes: [batch, inputs, depth, height, width] to [batch, outputs, depth, height, width]. */
export class Conv3d extends Conv {
  constructor(
    inputs: number,
    outputs: number,
    kernel: number | readonly [number, number, number],
    options: ConvOptions = {},
  ) {
    super(inputs, outputs, kernelOf(kernel, 3), options);
  }
}

export interface DepthwiseConvOptions extends Omit<ConvOptions, "groups"> {
  /** Outputs of each channel. Default 1. */
  multiplier?: number;
}

/**
 * Convolution of each channel by itself, over as many axes as the kernel has lengths: [batch, channels, ...space] to
 * [batch, channels · multiplier, ...space]. `new DepthwiseConv(64, [31])` is over time, `[3, 3]` over an image.
 */
export class DepthwiseConv extends Conv {
  constructor(channels: number, kernel: readonly number[], options: DepthwiseConvOptions = {}) {
    const { multiplier = 1, ...rest } = options;
    if (!Array.isArray(kernel) || kernel.length < 1 || kernel.length > 3) {
      throw new ArgumentError(
        `DepthwiseConv: the kernel is ${JSON.stringify(kernel)}`,
        "give a list of one to three lengths, one for each axis",
      );
    }
    super(channels, channels * multiplier, kernel, { ...rest, groups: channels });
  }
}

export interface ConvTransposeOptions extends Omit<TransposedConvolutionOptions, "layout" | "precision"> {
  /** Default true. */
  bias?: boolean;
  /** Default PyTorch's: uniform in ±1/sqrt(outputs / groups · kernel). */
  init?: Initializer;
  /** Logical axes of the inputs and outputs. Default none. */
  axes?: readonly [string | null, string | null];
}

/** The transpose of a convolution, as PyTorch's; the weight is [inputs, outputs / groups, ...kernel]. */
export class ConvTranspose extends Module {
  weight: Tensor;
  bias: Tensor | null;
  readonly options: Omit<TransposedConvolutionOptions, "layout" | "precision">;

  constructor(inputs: number, outputs: number, kernel: readonly number[], options: ConvTransposeOptions) {
    super();
    const { bias = true, init = fanInUniform, axes = [null, null], ...rest } = options;
    const { groups = 1 } = rest;
    checkGroups(inputs, outputs, groups);
    const shape = [inputs, outputs / groups, ...kernel];
    this.weight = this.parameter("weight", shape, { init, axes: [...axes, ...kernel.map(() => null)] });
    this.bias = bias ? this.parameter("bias", [outputs], { init: biasInit(shape), axes: [axes[1]] }) : null;
    this.options = rest;
  }

  /**
   * [batch, inputs, ...space] to [batch, outputs, ...space], each length n becoming
   * (n - 1) · stride - 2 · padding + dilation · (kernel - 1) + 1 + outputPadding.
   */
  forward(x: Tensor): Tensor {
    const [inputs, , ...kernel] = this.weight.shape as [number, number, ...number[]];
    checkSignal("transposed convolution", x, inputs, kernel.length);
    const y = convTranspose(x, this.weight, { ...this.options, layout: "channelsFirst" });
    return this.bias === null ? y : add(y, perChannel(this.bias, kernel.length));
  }
}

/** Transposed convolution over one axis: [batch, inputs, time] to [batch, outputs, time]. */
export class ConvTranspose1d extends ConvTranspose {
  constructor(inputs: number, outputs: number, kernel: number, options: ConvTransposeOptions = {}) {
    super(inputs, outputs, kernelOf(kernel, 1), options);
  }
}

/** Transposed convolution over two axes: [batch, inputs, height, width] to [batch, outputs, height, width]. */
export class ConvTranspose2d extends ConvTranspose {
  constructor(
    inputs: number,
    outputs: number,
    kernel: number | readonly [number, number],
    options: ConvTransposeOptions = {},
  ) {
    super(inputs, outputs, kernelOf(kernel, 2), options);
  }
}

/** Transposed convolution over three axes. */
export class ConvTranspose3d extends ConvTranspose {
  constructor(
    inputs: number,
    outputs: number,
    kernel: number | readonly [number, number, number],
    options: ConvTransposeOptions = {},
  ) {
    super(inputs, outputs, kernelOf(kernel, 3), options);
  }
}
