/** Layers that every model uses. Weights are laid out as in Hugging Face checkpoints: [outputs, inputs]. */
import { dotGeneral } from "../array/contraction.js";
import { add, cast, mul, rsqrt, square } from "../array/elementwise.js";
import { take } from "../array/indexing.js";
import { mean, variance } from "../array/reductions.js";
import type { Tensor } from "../array/tensor.js";
import { ShapeError } from "../graph/errors.js";
import { checkpointName } from "../transform/remat.js";
import { constantInit, type Initializer } from "./initializers.js";
import { Module } from "./module.js";

export interface LinearOptions {
  /** Default false. */
  bias?: boolean;
  init?: Initializer;
  /** Logical axes of [outputs, inputs]. */
  axes?: readonly [string | null, string | null];
}

/** `x · weightᵀ + bias` over the last axis. */
export class Linear extends Module {
  weight: Tensor;
  bias: Tensor | null;

  constructor(inputs: number, outputs: number, { bias = false, init, axes }: LinearOptions = {}) {
    super();
    this.weight = this.parameter("weight", [outputs, inputs], { init, axes });
    this.bias = bias
      ? this.parameter("bias", [outputs], { init: constantInit(0), axes: [axes?.[0] ?? null] })
      : null;
  }

  /** [..., inputs] to [..., outputs]. */
  forward(x: Tensor): Tensor {
    const [, inputs] = this.weight.shape;
    if (x.shape.at(-1) !== inputs) {
      throw new ShapeError(
        `Linear of ${inputs} inputs: x has shape [${x.shape.join(", ")}]`,
        "the last axis of x must be the layer's number of inputs",
      );
    }
    const y = dotGeneral(x, this.weight, { contract: [[x.ndim - 1], [1]], batch: [[], []] });
    return checkpointName(this.bias === null ? y : add(y, this.bias), "linear");
  }
}

/** Rows of a table by integer ids. */
export class Embedding extends Module {
  weight: Tensor;

  constructor(count: number, features: number, { init, axes }: LinearOptions = {}) {
    super();
    this.weight = this.parameter("weight", [count, features], { init, axes });
  }

  /** Integer [...] to [..., features]. */
  forward(ids: Tensor): Tensor {
    return take(this.weight, ids, 0);
  }

  /** The logits of a head that shares the table: [..., features] to [..., count]. */
  attend(x: Tensor): Tensor {
    return dotGeneral(x, this.weight, { contract: [[x.ndim - 1], [1]], batch: [[], []] });
  }
}

/** A last axis of 1 would be broadcast. */
function checkFeatures(norm: string, x: Tensor, weight: Tensor): void {
  if (x.shape.at(-1) === weight.shape[0]) return;
  throw new ShapeError(
    `${norm} of ${weight.shape[0]} features: x has shape [${x.shape.join(", ")}]`,
    "the last axis of x must be the layer's number of features",
  );
}

export interface RMSNormOptions {
  epsilon?: number;
  /** Multiplies by 1 + weight, in float32, with weights that begin at 0 (Gemma). Default false. */
  plusOne?: boolean;
  /** Logical axis of the features. Default "embed". */
  axis?: string | null;
}

/** Division by the root mean square of the last axis (Zhang & Sennrich 2019), computed in float32. */
export class RMSNorm extends Module {
  weight: Tensor;
  readonly epsilon: number;
  readonly plusOne: boolean;

  constructor(features: number, { epsilon = 1e-5, plusOne = false, axis = "embed" }: RMSNormOptions = {}) {
    super();
    this.epsilon = epsilon;
    this.plusOne = plusOne;
    this.weight = this.parameter("weight", [features], { init: constantInit(plusOne ? 0 : 1), axes: [axis] });
  }

  forward(x: Tensor): Tensor {
    checkFeatures("RMSNorm", x, this.weight);
    const wide = cast(x, "float32");
    const normed = mul(wide, rsqrt(add(mean(square(wide), -1, { keepDims: true }), this.epsilon)));
    if (this.plusOne) return cast(mul(normed, add(cast(this.weight, "float32"), 1)), x.dtype);
    return mul(cast(normed, x.dtype), this.weight);
  }
}

/** Layer normalization over the last axis (Ba et al. 2016), computed in float32. */
export class LayerNorm extends Module {
  weight: Tensor;
  bias: Tensor;
  readonly epsilon: number;

  constructor(features: number, { epsilon = 1e-5 } = {}) {
    super();
    this.epsilon = epsilon;
    this.weight = this.parameter("weight", [features], { init: constantInit(1), axes: ["embed"] });
    this.bias = this.parameter("bias", [features], { init: constantInit(0), axes: ["embed"] });
  }

  forward(x: Tensor): Tensor {
    checkFeatures("LayerNorm", x, this.weight);
    const wide = cast(x, "float32");
    const centred = wide.sub(mean(wide, -1, { keepDims: true }));
    const scale = rsqrt(add(variance(wide, -1, { keepDims: true }), this.epsilon));
    return add(mul(cast(mul(centred, scale), x.dtype), this.weight), this.bias);
  }
}
