/**
 * Weights in FP8 (E4M3) whose products are computed in FP8 too (Micikevicius et al. 2022, "FP8 formats for deep learning"): inputs in E4M3,
 * gradients in E5M2, each with one scale from its largest magnitude at the moment. Scales are powers of two, exact in every type.
 */
import { dotGeneral } from "../array/contraction.js";
import { scalar } from "../array/creation.js";
import { abs, and, bitcast, cast, clip, div, greater, minimum, mul, where } from "../array/elementwise.js";
import { max } from "../array/reductions.js";
import { transpose } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import type { DType } from "../graph/dtype.js";
import { jit } from "../transform/jit.js";
import { QuantizedWeight } from "./weight.js";

type Fp8 = "float8_e4m3fn" | "float8_e5m2";

const largest: Readonly<Record<Fp8, number>> = { float8_e4m3fn: 448, float8_e5m2: 57344 };

/** The greatest power of two that is not greater than a positive float32. */
function powerBelow(x: Tensor): Tensor {
  return bitcast(and(bitcast(x, "uint32"), scalar(0x7f800000, "uint32")), "float32");
}

/** In FP8, and the float32 scalar that takes it back: x is about codes · scale. */
function toFp8(x: Tensor, type: Fp8): { codes: Tensor; scale: Tensor } {
  const wide = cast(x, "float32");
  const most = max(abs(wide));
  // Of zeros, any; 2^100 keeps products of scales finite.
  const up = minimum(powerBelow(where(greater(most, 0), div(largest[type], most), 1)), 2 ** 100);
  const limit = largest[type];
  return { codes: cast(clip(mul(wide, up), -limit, limit), type), scale: div(1, up) };
}

/** The product of codes, and then the scales: what XLA's rewriter makes a product of FP8 by cuBLASLt of. */
function scaled(x: Tensor, w: Tensor, scale: Tensor, dtype: DType): Tensor {
  const y = dotGeneral(x, w, { contract: [[x.ndim - 1], [1]], batch: [[], []] }, { dtype });
  return mul(y, cast(scale, dtype));
}

const encode = jit(
  (weight: Tensor, both: boolean): { codes: Tensor; scale: Tensor; turned: Tensor | null } => {
    const { codes, scale } = toFp8(weight, "float8_e4m3fn");
    return { codes, scale, turned: both ? transpose(codes) : null };
  },
  { name: "quantize_fp8", tag: () => "parameter", manyTraces: true },
);

export interface Fp8Options {
  /**
   * Keeps the transposed matrix too, at another byte a weight: the derivative's product needs it, and has it made in every step otherwise. Default
   * false.
   */
  both?: boolean;
}

export class Fp8Weight extends QuantizedWeight {
  readonly format = "fp8";
  codes: Tensor;
  /** float32 scalar, a power of two. */
  scale: Tensor;
  /** [inputs, outputs], or null. */
  turned: Tensor | null;

  constructor(
    { codes, scale, turned }: { codes: Tensor; scale: Tensor; turned: Tensor | null },
    dtype: DType,
    axes: readonly (string | null)[] = [null, null],
  ) {
    const [outputs, inputs] = codes.shape as [number, number];
    super(outputs, inputs, dtype);
    this.codes = this.fixed("codes", codes, { axes, weights: outputs * inputs });
    this.scale = this.fixed("scale", scale);
    this.turned = turned && this.fixed("turned", turned, { axes: [...axes].reverse() });
  }

  static of(weight: Tensor, { both = false }: Fp8Options = {}, axes?: readonly (string | null)[]): Fp8Weight {
    return new Fp8Weight(encode(weight, both), weight.dtype, axes);
  }

  value(dtype: DType = this.dtype): Tensor {
    return cast(mul(cast(this.codes, "float32"), this.scale), dtype);
  }

  override plainProduct(x: Tensor): Tensor {
    const given = toFp8(x, "float8_e4m3fn");
    return scaled(given.codes, this.codes, mul(given.scale, this.scale), x.dtype);
  }

  override transposedProduct(y: Tensor): Tensor {
    const given = toFp8(y, "float8_e5m2");
    return scaled(given.codes, this.turned ?? transpose(this.codes), mul(given.scale, this.scale), y.dtype);
  }
}
