/** Rotary position embeddings (Su et al. 2021, RoFormer), in the half-split layout of Hugging Face's Llama. */
import { iota } from "../array/creation.js";
import { add, cast, cos, exp, mul, neg, sin } from "../array/elementwise.js";
import { concatenate, split } from "../array/joining.js";
import { expandDims } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";

/** Cosines and sines of the angles for integer `positions` [...]: each [..., headDim], float32. */
export function rotaryTables(
  positions: Tensor,
  headDim: number,
  theta: number,
): { cosine: Tensor; sine: Tensor } {
  const half = headDim / 2;
  const exponents = mul(iota([half], 0, { dtype: "float32" }), (-2 / headDim) * Math.log(theta));
  const angles = mul(expandDims(cast(positions, "float32"), -1), exp(exponents));
  const doubled = concatenate([angles, angles], -1);
  return { cosine: cos(doubled), sine: sin(doubled) };
}

/** Rotates `x` [batch, time, heads, headDim] by tables [time, headDim] or [batch, time, headDim]. */
export function applyRotary(x: Tensor, { cosine, sine }: { cosine: Tensor; sine: Tensor }): Tensor {
  const [first, second] = split(x, 2, -1) as [Tensor, Tensor];
  const rotated = concatenate([neg(second), first], -1);
  const [c, s] = [cosine, sine].map((t) => cast(expandDims(t, -2), x.dtype)) as [Tensor, Tensor];
  return add(mul(x, c), mul(rotated, s));
}
