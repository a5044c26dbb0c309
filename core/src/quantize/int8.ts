/** 8-bit integers with a scale for each row (Dettmers et al. 2022, "LLM.int8()", section 2.1): the weights only, activations as they are. */
import { dotGeneral } from "../array/contraction.js";
import { abs, cast, div, equal, mul, round, where } from "../array/elementwise.js";
import { max } from "../array/reductions.js";
import { expandDims } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import type { DType } from "../graph/dtype.js";
import { jit } from "../transform/jit.js";
import { QuantizedWeight } from "./weight.js";

const encode = jit(
  (weight: Tensor): { codes: Tensor; scale: Tensor } => {
    const wide = cast(weight, "float32");
    const largest = max(abs(wide), 1);
    const scale = div(where(equal(largest, 0), 1, largest), 127);
    return { codes: cast(round(div(wide, expandDims(scale, 1))), "int8"), scale };
  },
  { name: "quantize_int8", tag: () => "parameter", manyTraces: true },
);

export class Int8Weight extends QuantizedWeight {
  readonly format = "int8";
  codes: Tensor;
  /** float32 [outputs]. */
  scale: Tensor;

  constructor(codes: Tensor, scale: Tensor, dtype: DType, axes: readonly (string | null)[] = [null, null]) {
    const [outputs, inputs] = codes.shape as [number, number];
    super(outputs, inputs, dtype);
    this.codes = this.fixed("codes", codes, { axes, weights: outputs * inputs });
    this.scale = this.fixed("scale", scale, { axes: [axes[0]!] });
  }

  static of(weight: Tensor, axes?: readonly (string | null)[]): Int8Weight {
    const { codes, scale } = encode(weight);
    return new Int8Weight(codes, scale, weight.dtype, axes);
  }

  value(dtype: DType = this.dtype): Tensor {
    return cast(mul(cast(this.codes, "float32"), expandDims(this.scale, 1)), dtype);
  }

  // Integers up to 127 are exact in every floating-point type: the rows' scales are applied to what comes of the product.
  override plainProduct(x: Tensor): Tensor {
    const y = dotGeneral(x, cast(this.codes, x.dtype), { contract: [[x.ndim - 1], [1]], batch: [[], []] });
    return cast(mul(cast(y, "float32"), this.scale), x.dtype);
  }

  override transposedProduct(y: Tensor): Tensor {
    const scaled = cast(mul(cast(y, "float32"), this.scale), y.dtype);
    return dotGeneral(scaled, cast(this.codes, y.dtype), { contract: [[y.ndim - 1], [0]], batch: [[], []] });
  }
}
