/** A linear layer on quantized weights. */
import { add } from "../array/elementwise.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import type { Linear } from "../nn/layers.js";
import { declare, Module } from "../nn/module.js";
import { checkpointName } from "../transform/remat.js";
import { Fp8Weight } from "./fp8.js";
import { Int8Weight } from "./int8.js";
import { Nf4Weight } from "./nf4.js";
import type { QuantizedWeight } from "./weight.js";

/** "nf4": 4.127 bits a weight; "int8" and "fp8": 8. */
export type Format = "nf4" | "int8" | "fp8";

export const formats: readonly Format[] = ["nf4", "int8", "fp8"];

export interface FormatOptions {
  /** Default "nf4". */
  format?: Format;
  /** Of "nf4": quantizes the blocks' magnitudes too. Default true. */
  double?: boolean;
  /** Of "fp8": keeps the transposed matrix too, at another byte a weight. Default false. */
  both?: boolean;
}

/** A matrix in a format. */
export function encodeWeight(
  weight: Tensor,
  { format = "nf4", double, both }: FormatOptions,
  axes?: readonly (string | null)[],
): QuantizedWeight {
  switch (format) {
    case "nf4":
      return Nf4Weight.of(weight, { double }, axes);
    case "int8":
      return Int8Weight.of(weight, axes);
    case "fp8":
      return Fp8Weight.of(weight, { both }, axes);
    default:
      throw new ArgumentError(
        `quantize: the format is ${JSON.stringify(format)}`,
        `give ${formats.map((each) => JSON.stringify(each)).join(", ")}`,
      );
  }
}

/** `x · weightᵀ + bias` over the last axis, as `nn.Linear`, whose weight is quantized and stays as it is. */
export class QuantizedLinear extends Module {
  quantized: QuantizedWeight;
  bias: Tensor | null;

  /** @param layer - its bias is kept as it is */
  constructor(quantized: QuantizedWeight, layer: Pick<Linear, "bias" | "ownParameters">) {
    super();
    this.quantized = quantized;
    this.bias = layer.bias;
    const spec = layer.ownParameters.bias;
    if (spec !== undefined) declare(this, "bias", spec);
  }

  /** The matrix [outputs, inputs] in the type that it had, as it is computed with. */
  get weight(): Tensor {
    return this.quantized.value();
  }

  /** [..., inputs] to [..., outputs]. */
  forward(x: Tensor): Tensor {
    const { inputs } = this.quantized;
    if (x.shape.at(-1) !== inputs) {
      throw new ShapeError(
        `Linear of ${inputs} inputs: x has shape [${x.shape.join(", ")}]`,
        "the last axis of x must be the layer's number of inputs",
      );
    }
    const y = this.quantized.product(x);
    return checkpointName(this.bias === null ? y : add(y, this.bias), "linear");
  }
}
