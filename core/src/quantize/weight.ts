/** Weights in few bits that compute: what every format of them offers. */
import { dotGeneral } from "../array/contraction.js";
import { cast } from "../array/elementwise.js";
import type { Tensor } from "../array/tensor.js";
import type { DType } from "../graph/dtype.js";
import { Module } from "../nn/module.js";
import { customVjp } from "../transform/custom.js";
import { barrier } from "../transform/remat.js";
import { flatten } from "../transform/tree.js";

/**
 * A quantized matrix [outputs, inputs]. Its Tensors are "fixed": nothing trains, draws or converts them, and of the matrix there is no other copy
 * than the one that a product makes for itself.
 */
export abstract class QuantizedWeight extends Module {
  abstract readonly format: string;
  readonly outputs: number;
  readonly inputs: number;
  /** Element type of the matrix before it was quantized. */
  readonly dtype: DType;

  constructor(outputs: number, inputs: number, dtype: DType) {
    super();
    this.outputs = outputs;
    this.inputs = inputs;
    this.dtype = dtype;
  }

  get shape(): readonly [number, number] {
    return [this.outputs, this.inputs];
  }

  /** The matrix, in `dtype` or another type; computed in float32. */
  abstract value(dtype?: DType): Tensor;

  /** x · weightᵀ, [..., inputs] to [..., outputs], in the type of `x`. Differentiable by `x`. */
  product(x: Tensor): Tensor {
    return product(x, this);
  }

  /** `y · weight`, [..., outputs] to [..., inputs]: the derivative of `product`. */
  transposedProduct(y: Tensor): Tensor {
    return dotGeneral(y, this.value(y.dtype), { contract: [[y.ndim - 1], [0]], batch: [[], []] });
  }

  /** The product as it is computed, without its derivative. */
  plainProduct(x: Tensor): Tensor {
    return dotGeneral(x, this.value(x.dtype), { contract: [[x.ndim - 1], [1]], batch: [[], []] });
  }
}

/** The matrix is made twice, for the product and for its derivative: what is kept in between are the few bits. */
const product = customVjp(
  (x: Tensor, weight: QuantizedWeight): Tensor => weight.plainProduct(x),
  (x: Tensor, weight: QuantizedWeight) => [weight.plainProduct(x), weight] as const,
  (weight, g) => {
    const flat = flatten(weight);
    const held = barrier([...flat.leaves, g]);
    const again = flat.rebuild(held.slice(0, -1)) as QuantizedWeight;
    return [cast(again.transposedProduct(held.at(-1)!), g.dtype), null];
  },
);
