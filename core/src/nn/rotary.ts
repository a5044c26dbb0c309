/** Rotary position embeddings (Su et al. 2021, RoFormer), in the half-split layout of Hugging Face's Llama. */
import { constantArray } from "../array/creation.js";
import { add, cast, cos, mul, neg, sin } from "../array/elementwise.js";
import { concatenate, split } from "../array/joining.js";
import { expandDims } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";

/** How a model's frequencies were stretched after its pretraining, with the names of Hugging Face's `rope_scaling`. */
export type RotaryScaling =
  | { type: "linear"; factor: number }
  | {
      type: "llama3";
      factor: number;
      lowFrequencyFactor: number;
      highFrequencyFactor: number;
      originalContext: number;
    };

/** Radians a position for each pair of features: headDim / 2 numbers, falling from 1. */
export function rotaryFrequencies(headDim: number, theta: number, scaling?: RotaryScaling): number[] {
  const plain = Array.from({ length: headDim / 2 }, (_, i) => theta ** ((-2 * i) / headDim));
  if (scaling === undefined) return plain;
  if (scaling.type === "linear") return plain.map((f) => f / scaling.factor);
  // Llama 3.1: long waves are stretched, short ones kept, those between blended.
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContext } = scaling;
  return plain.map((f) => {
    const turns = (originalContext * f) / (2 * Math.PI);
    if (turns < low) return f / factor;
    if (turns > high) return f;
    const kept = (turns - low) / (high - low);
    return (1 - kept) * (f / factor) + kept * f;
  });
}

/** [time, headDim] or [batch, time, headDim] each. */
export interface RotaryTables {
  readonly cosine: Tensor;
  readonly sine: Tensor;
}

/** Cosines and sines of the angles for integer `positions` [...]: each [..., headDim], float32. */
export function rotaryTables(positions: Tensor, frequencies: readonly number[]): RotaryTables {
  const angles = mul(expandDims(cast(positions, "float32"), -1), constantArray(frequencies));
  const doubled = concatenate([angles, angles], -1);
  return { cosine: cos(doubled), sine: sin(doubled) };
}

/** Rotates `x` [batch, time, heads, headDim] by tables [time, headDim] or [batch, time, headDim]. */
export function applyRotary(x: Tensor, { cosine, sine }: RotaryTables): Tensor {
  const [first, second] = split(x, 2, -1) as [Tensor, Tensor];
  const rotated = concatenate([neg(second), first], -1);
  const [c, s] = [cosine, sine].map((t) => cast(expandDims(t, -2), x.dtype)) as [Tensor, Tensor];
  return add(mul(x, c), mul(rotated, s));
}
