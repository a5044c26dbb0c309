/** Convolutions in one to three dimensions, and their transposes. */
import { promoteTypes } from "../graph/dtype.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { functionType } from "../graph/lowering.js";
import type { Shape } from "../graph/node.js";
import { bind, type Op } from "./bind.js";
import { addBatchAxis, zerosLike } from "./broadcast.js";
import { fusedMultiplyAdd, type Precision } from "./contraction.js";
import { cast } from "./elementwise.js";
import { slice } from "./indexing.js";
import { stack } from "./joining.js";
import { flip, moveAxis, reshape } from "./shaping.js";
import type { Tensor } from "./tensor.js";

/** Axes of an operand: batch (or output channels), channels (or input channels), then the spatial ones. */
type Axes = readonly number[];
type Pads = readonly (readonly [number, number])[];

interface ConvolutionAttributes {
  readonly [name: string]: unknown;
  readonly lhs: Axes;
  readonly rhs: Axes;
  readonly out: Axes;
  readonly strides: readonly number[];
  readonly padding: Pads;
  /** Zeros are put between the elements of the input. */
  readonly inputDilation: readonly number[];
  readonly kernelDilation: readonly number[];
  /** Channels, and outputs, fall into this many groups that do not see each other. */
  readonly groups: number;
  /** The same of the batch: what the derivative of a grouped convolution with respect to its kernel is. */
  readonly batchGroups: number;
  readonly precision: Precision;
}

const dilate = (length: number, by: number): number => (length === 0 ? 0 : (length - 1) * by + 1);

const at = (shape: Shape, axes: Axes): number[] => axes.map((axis) => shape[axis]!);

const convolutionPrimitive: Op<ConvolutionAttributes> = {
  name: "convolution",
  flops({ inputs: [x, w], attributes: a }) {
    const [[n, , ...image], [o, i, ...kernel]] = [at(x!.shape, a.lhs), at(w!.shape, a.rhs)] as [
      number[],
      number[],
    ];
    const pairs = image.reduce((count, length, k) => count * products(length, kernel[k]!, a, k), 1);
    return (fusedMultiplyAdd(x!.dtype) * pairs * n! * o! * i!) / a.batchGroups;
  },
  shape([x, w], a) {
    const [[n, c, ...image], [o, i, ...kernel]] = [at(x!.shape, a.lhs), at(w!.shape, a.rhs)];
    if (c !== i! * a.groups || o! % a.groups !== 0 || n! % a.batchGroups !== 0 || o! % a.batchGroups !== 0) {
      throw new ShapeError(
        `convolution: an input with ${c} channels, a kernel of ${i} input and ${o} output channels, ${a.groups} group${a.groups === 1 ? "" : "s"}`,
        "the kernel's input channels are the input's divided by the groups, and the groups divide the output channels",
      );
    }
    const shape = new Array<number>(x!.shape.length);
    shape[a.out[0]!] = n! / a.batchGroups;
    shape[a.out[1]!] = o!;
    for (const [k, length] of image.entries()) {
      const padded = dilate(length, a.inputDilation[k]!) + a.padding[k]![0] + a.padding[k]![1];
      const window = dilate(kernel[k]!, a.kernelDilation[k]!);
      shape[a.out[k + 2]!] = padded < window ? 0 : Math.floor((padded - window) / a.strides[k]!) + 1;
    }
    return [{ shape, dtype: x!.dtype }];
  },
  vjp({ inputs: [x, w], attributes }, [g]) {
    if (g === undefined) return [undefined, undefined];
    if (g.size === 0) return [zerosLike(x!), zerosLike(w!)];
    return [inputCotangent(g, x!, w!, attributes), kernelCotangent(g, x!, w!, attributes)];
  },
  batch([x, w], [xBatched, wBatched], a, size) {
    if (a.batchGroups > 1) {
      const each = Array.from({ length: size }, (_, i) =>
        bind(convolutionPrimitive, [xBatched ? slice(x!, i) : x!, wBatched ? slice(w!, i) : w!], a),
      );
      return [stack(each)];
    }
    if (!wBatched) {
      // The examples join the batch.
      const y = bind(convolutionPrimitive, [mergeAxis(x!, a.lhs[0]!), w!], a);
      return [splitAxis(y, a.out[0]!, size)];
    }
    if (!xBatched && a.groups === 1) {
      // The examples' kernels are as many more outputs.
      const y = bind(convolutionPrimitive, [x!, mergeAxis(w!, a.rhs[0]!)], a);
      return [splitAxis(y, a.out[1]!, size)];
    }
    const input = xBatched ? x! : addBatchAxis(x!, size);
    const y = bind(convolutionPrimitive, [mergeAxis(input, a.lhs[1]!), mergeAxis(w!, a.rhs[0]!)], {
      ...a,
      groups: a.groups * size,
    });
    return [splitAxis(y, a.out[1]!, size)];
  },
  lower(lowering, { inputs, outputs, attributes: a }, [x, w]) {
    const layout = (axes: Axes, batch: string, feature: string): string => {
      const names = new Array<string>(axes.length);
      for (const [i, axis] of axes.entries())
        names[axis] = i === 0 ? batch : i === 1 ? feature : String(i - 2);
      return `[${names.join(", ")}]`;
    };
    const list = (values: readonly number[]): string => `[${values.join(", ")}]`;
    const pads = a.padding.map(([low, high]) => `[${low}, ${high}]`).join(", ");
    const precision = `#stablehlo<precision ${a.precision.toUpperCase()}>`;
    return lowering.emit(
      `stablehlo.convolution(${x}, ${w}) dim_numbers = ${layout(a.lhs, "b", "f")}x${layout(a.rhs, "o", "i")}->${layout(a.out, "b", "f")}, window = {stride = ${list(a.strides)}, pad = [${pads}], lhs_dilate = ${list(a.inputDilation)}, rhs_dilate = ${list(a.kernelDilation)}} {batch_group_count = ${a.batchGroups} : i64, feature_group_count = ${a.groups} : i64, precision_config = [${precision}, ${precision}]} : ${functionType(inputs, outputs)}`,
    );
  },
};

/** How many pairs of an output's place and an element of the kernel meet an element of the input, along a spatial axis. */
function products(length: number, kernel: number, a: ConvolutionAttributes, axis: number): number {
  const [low, high] = a.padding[axis]!;
  const [between, spacing] = [a.inputDilation[axis]!, a.kernelDilation[axis]!];
  const filled = dilate(length, between);
  const places = Math.floor((filled + low + high - dilate(kernel, spacing)) / a.strides[axis]!) + 1;
  let count = 0;
  for (let place = 0; place < places; place++) {
    for (let k = 0; k < kernel; k++) {
      const at = place * a.strides[axis]! + k * spacing - low;
      if (at >= 0 && at < filled && at % between === 0) count++;
    }
  }
  return count;
}

/** The leading axis of `x` merged in front of axis `axis` (counted without it). */
function mergeAxis(x: Tensor, axis: number): Tensor {
  const [size, ...rest] = x.shape as [number, ...number[]];
  return reshape(moveAxis(x, 0, axis), rest.with(axis, size * rest[axis]!));
}

/** The reverse of `mergeAxis`. */
function splitAxis(x: Tensor, axis: number, size: number): Tensor {
  const shape = [...x.shape];
  shape.splice(axis, 1, size, shape[axis]! / size);
  return moveAxis(reshape(x, shape), axis, 0);
}

/** With respect to the input: the cotangent, its gaps filled with zeros, convolved with the kernel turned around. */
function inputCotangent(g: Tensor, x: Tensor, w: Tensor, a: ConvolutionAttributes): Tensor {
  const [image, kernel, result] = [at(x.shape, a.lhs), at(w.shape, a.rhs), at(g.shape, a.out)].map((s) =>
    s.slice(2),
  ) as [number[], number[], number[]];
  const padding = image.map((length, k): [number, number] => {
    const window = dilate(kernel[k]!, a.kernelDilation[k]!);
    const before = window - a.padding[k]![0] - 1;
    const total = dilate(length, a.inputDilation[k]!) + window - 1 - dilate(result[k]!, a.strides[k]!);
    return [before, total - before];
  });
  // The groups of the outputs become groups of the inputs.
  const groups = Math.max(a.groups, a.batchGroups);
  const [o, i] = a.rhs as [number, number];
  const turned = groups > 1 ? mergeAxis(splitAxis(w, o, groups), i) : w;
  const found = bind(convolutionPrimitive, [g, flip(turned, a.rhs.slice(2))], {
    lhs: a.out,
    rhs: [i, o, ...a.rhs.slice(2)],
    out: a.lhs,
    strides: a.inputDilation,
    padding,
    inputDilation: a.strides,
    kernelDilation: a.kernelDilation,
    groups,
    batchGroups: 1,
    precision: a.precision,
  });
  return a.batchGroups > 1 ? mergeAxis(splitAxis(found, a.lhs[1]!, a.batchGroups), a.lhs[0]!) : found;
}

/** With respect to the kernel: the input convolved with the cotangent, batch and channels having changed places. */
function kernelCotangent(g: Tensor, x: Tensor, w: Tensor, a: ConvolutionAttributes): Tensor {
  const [image, kernel, result] = [at(x.shape, a.lhs), at(w.shape, a.rhs), at(g.shape, a.out)].map((s) =>
    s.slice(2),
  ) as [number[], number[], number[]];
  const padding = image.map((length, k): [number, number] => {
    const low = a.padding[k]![0];
    const fromInput = dilate(result[k]!, a.strides[k]!) - dilate(length, a.inputDilation[k]!);
    return [low, fromInput + dilate(kernel[k]!, a.kernelDilation[k]!) - low - 1];
  });
  const swap = ([first, second, ...rest]: Axes): number[] => [second!, first!, ...rest];
  return bind(convolutionPrimitive, [x, g], {
    lhs: swap(a.lhs),
    rhs: swap(a.out),
    out: swap(a.rhs),
    strides: a.kernelDilation,
    padding,
    inputDilation: a.inputDilation,
    kernelDilation: a.strides,
    groups: a.batchGroups,
    batchGroups: a.groups,
    precision: a.precision,
  });
}

export interface ConvolutionOptions {
  /** Of the spatial axes, one number for all or one for each. Default 1. */
  strides?: number | readonly number[];
  /** "valid" (none, the default), "same" (outputs = inputs / strides, rounded up), or zeros before and after each spatial axis. */
  padding?: "valid" | "same" | number | Pads;
  /** Spacing of the kernel's elements. Default 1. */
  dilation?: number | readonly number[];
  groups?: number;
  /**
   * "channelsLast" (the default): inputs [batch, …spatial, channels], kernels [...spatial, channels / groups, outputs]. "channelsFirst":
   * [batch, channels, …spatial] and [outputs, channels / groups, …spatial], as PyTorch has them.
   */
  layout?: "channelsLast" | "channelsFirst";
  precision?: Precision;
}

interface Geometry {
  readonly rank: number;
  readonly lhs: number[];
  readonly rhs: number[];
  readonly strides: number[];
  readonly dilation: number[];
}

function geometry(name: string, x: Tensor, w: Tensor, options: ConvolutionOptions): Geometry {
  const rank = x.ndim - 2;
  if (rank < 1 || rank > 3 || w.ndim !== x.ndim) {
    throw new ShapeError(
      `${name} of [${x.shape.join(", ")}] with a kernel of [${w.shape.join(", ")}]`,
      "the input has a batch, a channel and one to three spatial axes, and the kernel as many axes",
    );
  }
  const spatial = Array.from({ length: rank }, (_, i) => i);
  const last = (options.layout ?? "channelsLast") === "channelsLast";
  const each = (value: number | readonly number[] | undefined, what: string): number[] => {
    const list = typeof value === "object" ? [...value] : spatial.map(() => value ?? 1);
    if (list.length !== rank || list.some((n) => !Number.isInteger(n) || n < 1)) {
      throw new ArgumentError(
        `${name}: ${what} [${list.join(", ")}] for ${rank} spatial axes`,
        "give integers of at least 1",
      );
    }
    return list;
  };
  return {
    rank,
    lhs: last ? [0, rank + 1, ...spatial.map((i) => i + 1)] : [0, 1, ...spatial.map((i) => i + 2)],
    rhs: last ? [rank + 1, rank, ...spatial] : [0, 1, ...spatial.map((i) => i + 2)],
    strides: each(options.strides, "strides"),
    dilation: each(options.dilation, "dilation"),
  };
}

/** The padding of windows of (dilated) length `window`. */
export function resolvePadding(
  padding: "valid" | "same" | number | Pads | undefined,
  image: readonly number[],
  window: readonly number[],
  strides: readonly number[],
): [number, number][] {
  return image.map((length, k) => {
    if (padding === undefined || padding === "valid") return [0, 0];
    if (padding === "same") {
      const total = Math.max(0, (Math.ceil(length / strides[k]!) - 1) * strides[k]! + window[k]! - length);
      return [Math.floor(total / 2), Math.ceil(total / 2)];
    }
    const pair = typeof padding === "number" ? ([padding, padding] as const) : padding[k];
    const given = typeof padding === "number" ? image.length : padding.length;
    if (pair === undefined || given !== image.length || !pair.every(Number.isInteger)) {
      throw new ArgumentError(
        `padding of ${JSON.stringify(padding)} for ${image.length} spatial axes`,
        'give an integer, [before, after] for each spatial axis, "valid" or "same"',
      );
    }
    return [pair[0], pair[1]];
  });
}

function sameType(x: Tensor, w: Tensor): [Tensor, Tensor] {
  const dtype = promoteTypes(x.dtype, w.dtype);
  return [cast(x, dtype), cast(w, dtype)];
}

/** Convolution (cross-correlation, as everywhere in deep learning) over one to three spatial axes. */
export function conv(x: Tensor, w: Tensor, options: ConvolutionOptions = {}): Tensor {
  const { lhs, rhs, strides, dilation } = geometry("conv", x, w, options);
  const kernel = at(w.shape, rhs).slice(2);
  const image = at(x.shape, lhs).slice(2);
  const window = kernel.map((n, k) => dilate(n, dilation[k]!));
  return bind(convolutionPrimitive, sameType(x, w), {
    lhs,
    rhs,
    out: lhs,
    strides,
    padding: resolvePadding(options.padding, image, window, strides),
    inputDilation: image.map(() => 1),
    kernelDilation: dilation,
    groups: options.groups ?? 1,
    batchGroups: 1,
    precision: options.precision ?? "default",
  });
}

export interface TransposedConvolutionOptions extends Omit<ConvolutionOptions, "padding"> {
  /** What the convolution that this is the transpose of pads. Default 0. */
  padding?: number | Pads;
  /** Elements added at the end of the spatial axes, one number for all or one for each. Default 0. */
  outputPadding?: number | readonly number[];
}

/**
 * The transpose of a convolution, as PyTorch's ConvTranspose: each input element adds the kernel, scaled, at its place times the stride.
 * Kernels are [...spatial, outputs / groups, channels] with channels last, else [channels, outputs / groups, …spatial].
 */
export function convTranspose(x: Tensor, w: Tensor, options: TransposedConvolutionOptions = {}): Tensor {
  const { lhs, rhs, strides, dilation } = geometry("convTranspose", x, w, options as ConvolutionOptions);
  const groups = options.groups ?? 1;
  const image = at(x.shape, lhs).slice(2);
  const kernel = at(w.shape, rhs).slice(2);
  const given = resolvePadding(options.padding, image, kernel, strides);
  const { outputPadding = 0 } = options;
  const added = typeof outputPadding === "number" ? image.map(() => outputPadding) : outputPadding;
  if (added.length !== image.length || added.some((n) => !Number.isInteger(n) || n < 0)) {
    throw new ArgumentError(
      `convTranspose: outputPadding [${added.join(", ")}] for ${image.length} spatial axes`,
      "give integers of at least 0, one for all axes or one for each",
    );
  }
  const padding = given.map(([low, high], k): [number, number] => {
    const window = dilate(kernel[k]!, dilation[k]!);
    return [window - 1 - low, window - 1 - high + added[k]!];
  });
  if (x.shape[lhs[1]!] !== w.shape[rhs[0]!] || x.shape[lhs[1]!]! % groups !== 0) {
    throw new ShapeError(
      `convTranspose: an input with ${x.shape[lhs[1]!]} channels and a kernel of [${w.shape.join(", ")}] in ${groups} group${groups === 1 ? "" : "s"}`,
      `axis ${rhs[0]} of the kernel is the input's channels, which the groups divide`,
    );
  }
  const [input, weights] = sameType(x, w);
  const [o, i] = rhs as [number, number];
  const turned = groups > 1 ? mergeAxis(splitAxis(weights, o, groups), i) : weights;
  return bind(convolutionPrimitive, [input, flip(turned, rhs.slice(2))], {
    lhs,
    rhs: [i, o, ...rhs.slice(2)],
    out: lhs,
    strides: image.map(() => 1),
    padding,
    inputDilation: strides,
    kernelDilation: dilation,
    groups,
    batchGroups: 1,
    precision: options.precision ?? "default",
  });
}
