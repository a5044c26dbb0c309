/** Rotary position embeddings (Su et al. 2021, RoFormer), in the half-split layout of Hugging Face's Llama. */
import { constantArray } from "../array/creation.js";
import {
  add,
  cast,
  cos,
  exp,
  greater,
  maximum,
  mul,
  neg,
  pow,
  sin,
  sub,
  where,
} from "../array/elementwise.js";
import { concatenate, split } from "../array/joining.js";
import { max } from "../array/reductions.js";
import { expandDims } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";

/** How a model's frequencies are stretched for contexts longer than those of its pretraining; the types are named as by Hugging Face. */
export type RotaryScaling =
  | { type: "linear"; factor: number }
  /** "NTK-aware" scaling, by the length of the present text. */
  | { type: "dynamic"; factor: number; originalContext: number }
  /** Llama 3.1: long waves are stretched, short ones kept, those between blended. */
  | {
      type: "llama3";
      factor: number;
      lowFrequencyFactor: number;
      highFrequencyFactor: number;
      originalContext: number;
    }
  /** Peng et al. 2023, "YaRN". */
  | {
      type: "yarn";
      factor: number;
      originalContext: number;
      /** Turns within the original context above which a wave is kept (default 32) and below which it is stretched (default 1). */
      betaFast?: number;
      betaSlow?: number;
      /** Factor of the rotated vectors; default 0.1 ln(factor) + 1, or the ratio of that with the two coefficients for 0.1. */
      attentionFactor?: number;
      mscale?: number;
      mscaleAllDim?: number;
      /** Whether the bounds are rounded to whole pairs of features. Default true. */
      truncate?: boolean;
    }
  /** Ding et al. 2024, "LongRoPE": a factor for each pair of features, one list for texts within the original context, one for longer. */
  | {
      type: "longrope";
      shortFactor: readonly number[];
      longFactor: readonly number[];
      /** The present context over the original one. */
      factor: number;
      originalContext: number;
      /** Default sqrt(1 + ln(factor) / ln(originalContext)). */
      attentionFactor?: number;
    };

export interface RotaryOptions {
  /** Features of a head that are rotated, an even number. */
  readonly features: number;
  /** Base of the wavelengths. */
  readonly theta: number;
  readonly scaling?: RotaryScaling;
}

/** [time, features] or [batch, time, features] each. */
export interface RotaryTables {
  readonly cosine: Tensor;
  readonly sine: Tensor;
}

/**
 * Cosines and sines of the angles for integer `positions` [time] or [batch, time]: each [..., features], float32. Scalings that depend on the
 * length of the text take that of each row, so that a row does not depend on those beside it.
 */
export function rotaryTables(positions: Tensor, options: RotaryOptions): RotaryTables {
  const { frequencies, factor } = scaled(positions, options);
  const angles = mul(expandDims(cast(positions, "float32"), -1), frequencies);
  const doubled = concatenate([angles, angles], -1);
  const table = (x: Tensor): Tensor => (factor === 1 ? x : mul(x, factor));
  return { cosine: table(cos(doubled)), sine: table(sin(doubled)) };
}

/** Rotates the first features of `x` [batch, time, heads, headDim] by tables [time, features] or [batch, time, features]. */
export function applyRotary(x: Tensor, { cosine, sine }: RotaryTables): Tensor {
  const features = cosine.shape.at(-1)!;
  if (features < x.shape.at(-1)!) {
    const [turned, kept] = split(x, [features, x.shape.at(-1)! - features], -1) as [Tensor, Tensor];
    return concatenate([applyRotary(turned, { cosine, sine }), kept], -1);
  }
  const [first, second] = split(x, 2, -1) as [Tensor, Tensor];
  const rotated = concatenate([neg(second), first], -1);
  const [c, s] = [cosine, sine].map((t) => cast(expandDims(t, -2), x.dtype)) as [Tensor, Tensor];
  return add(mul(x, c), mul(rotated, s));
}

/** Radians a position for each pair of features, [pairs] or [..., 1, pairs], and the factor of the rotated vectors. */
function scaled(
  positions: Tensor,
  { features, theta, scaling }: RotaryOptions,
): { frequencies: Tensor; factor: number } {
  const plain = Array.from({ length: features / 2 }, (_, i) => theta ** ((-2 * i) / features));
  const fixed = (list: readonly number[], factor = 1) => ({ frequencies: constantArray(list), factor });
  /** Tokens of the text, [..., 1, 1]. */
  const lengths = (): Tensor => expandDims(add(max(positions, -1, { keepDims: true }), 1), -1);
  switch (scaling?.type) {
    case undefined:
      return fixed(plain);
    case "linear":
      return fixed(plain.map((f) => f / scaling.factor));
    case "llama3":
      return fixed(plain.map((f) => llama3Frequency(f, scaling)));
    case "yarn":
      return fixed(yarnFrequencies(plain, theta, scaling), yarnFactor(scaling));
    case "dynamic": {
      const length = maximum(lengths(), scaling.originalContext);
      const stretch = sub(
        mul(cast(length, "float32"), scaling.factor / scaling.originalContext),
        scaling.factor - 1,
      );
      const base = mul(pow(stretch, features / (features - 2)), theta);
      const exponents = constantArray(plain.map((_, i) => (-2 * i) / features));
      return { frequencies: exp(mul(exponents, base.log())), factor: 1 };
    }
    case "longrope": {
      const { shortFactor, longFactor, factor, originalContext: original } = scaling;
      const usual = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
      const [short, long] = [shortFactor, longFactor].map((list) =>
        constantArray(plain.map((f, i) => f / list[i]!)),
      );
      const longer = greater(lengths(), original);
      return { frequencies: where(longer, long!, short!), factor: scaling.attentionFactor ?? usual };
    }
  }
}

function llama3Frequency(f: number, scaling: Extract<RotaryScaling, { type: "llama3" }>): number {
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContext } = scaling;
  const turns = (originalContext * f) / (2 * Math.PI);
  if (turns < low) return f / factor;
  if (turns > high) return f;
  const kept = (turns - low) / (high - low);
  return (1 - kept) * (f / factor) + kept * f;
}

type Yarn = Extract<RotaryScaling, { type: "yarn" }>;

function yarnFrequencies(plain: readonly number[], theta: number, scaling: Yarn): number[] {
  const { factor, originalContext, betaFast = 32, betaSlow = 1, truncate = true } = scaling;
  const features = 2 * plain.length;
  /** The pair of features that turns so often within the original context. */
  const pairOf = (turns: number): number =>
    (features * Math.log(originalContext / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const round = (x: number, to: (n: number) => number): number => (truncate ? to(x) : x);
  const low = Math.max(round(pairOf(betaFast), Math.floor), 0);
  const bound = Math.min(round(pairOf(betaSlow), Math.ceil), features - 1);
  const high = bound === low ? bound + 0.001 : bound;
  return plain.map((f, i) => {
    const stretched = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return stretched * (f / factor) + (1 - stretched) * f;
  });
}

function yarnFactor({ factor, attentionFactor, mscale, mscaleAllDim }: Yarn): number {
  const of = (coefficient: number): number => (factor <= 1 ? 1 : 0.1 * coefficient * Math.log(factor) + 1);
  return attentionFactor ?? (mscale && mscaleAllDim ? of(mscale) / of(mscaleAllDim) : of(1));
}
