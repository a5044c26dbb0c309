/** In which types a training computes and keeps its parameters. */

import { scalar } from "../array/creation.js";
import { add, and, bitcast, cast, isfinite, shiftRightLogical, where } from "../array/elementwise.js";
import { bits, foldIn, type Key } from "../array/random.js";
import type { Tensor } from "../array/tensor.js";
import { isFloat, itemSize } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknown } from "../graph/spelling.js";
import type { Leaves } from "../optim/groups.js";

export interface PrecisionOptions {
  /** What losses and gradients are computed in. `float16` scales the loss. Default `float32`. */
  compute?: "float32" | "bfloat16" | "float16";
  /**
   * What the trained parameters are kept in between updates, whatever their checkpoint's type. In `bfloat16` most small updates would be rounded
   * away: `rounding` is `stochastic` then by default. Default `float32`.
   */
  parameters?: "float32" | "bfloat16";
  /** How updated parameters are rounded to `bfloat16`. */
  rounding?: "nearest" | "stochastic";
}

/** `float32`; `bf16` and `float16` compute in 16 bits with float32 parameters; or each choice by itself. */
export type Precision = "float32" | "bf16" | "float16" | "fp8" | PrecisionOptions;

/** With all defaults filled in. */
export interface ResolvedPrecision {
  readonly compute: "float32" | "bfloat16" | "float16";
  readonly parameters: "float32" | "bfloat16";
  readonly rounding: "nearest" | "stochastic";
}

const presets: Readonly<Record<string, ResolvedPrecision>> = {
  float32: { compute: "float32", parameters: "float32", rounding: "nearest" },
  bf16: { compute: "bfloat16", parameters: "float32", rounding: "nearest" },
  float16: { compute: "float16", parameters: "float32", rounding: "nearest" },
};

/** @throws ArgumentError for what is none */
export function resolvePrecision(precision: Precision = "float32"): ResolvedPrecision {
  if (precision === "fp8") {
    throw new ArgumentError(
      'Trainer: precision is "fp8", and no matrix product is computed in FP8 yet',
      'use "bf16"',
    );
  }
  if (typeof precision === "string") {
    const preset = presets[precision];
    if (preset !== undefined) return preset;
  }
  if (typeof precision !== "object" || precision === null) {
    throw new ArgumentError(
      `Trainer: precision is ${JSON.stringify(precision)}`,
      'use "float32", "bf16", "float16" or { compute, parameters, rounding }',
    );
  }
  refuseUnknown("Trainer: precision has no field", Object.keys(precision), [
    "compute",
    "parameters",
    "rounding",
  ]);
  const { compute = "float32", parameters = "float32" } = precision;
  const { rounding = parameters === "float32" ? "nearest" : "stochastic" } = precision;
  const check = (field: string, value: string, known: readonly string[]): void => {
    if (!known.includes(value))
      throw new ArgumentError(
        `Trainer: precision.${field} is ${JSON.stringify(value)}`,
        `use ${known.map((k) => `"${k}"`).join(" or ")}`,
      );
  };
  check("compute", compute, ["float32", "bfloat16", "float16"]);
  check("parameters", parameters, ["float32", "bfloat16"]);
  check("rounding", rounding, ["nearest", "stochastic"]);
  if (rounding === "stochastic" && parameters === "float32") {
    throw new ArgumentError(
      'Trainer: precision.rounding is "stochastic", and float32 parameters are not rounded',
      'leave rounding out, or set parameters: "bfloat16"',
    );
  }
  return { compute, parameters, rounding };
}

/** A trained parameter in the type that it is kept in; types of more bits and others than floats stay. */
export function asKept(x: Tensor, { parameters }: ResolvedPrecision): Tensor {
  return isFloat(x.dtype) && itemSize(x.dtype) <= 4 ? cast(x, parameters) : x;
}

/** Updated parameters, float32, rounded to what they are kept in. */
export function rounded(updated: Leaves, like: Leaves, { rounding }: ResolvedPrecision, key: Key): Leaves {
  return Object.fromEntries(
    Object.entries(updated).map(([path, x], i) => {
      const { dtype } = like[path]!;
      const stochastic = rounding === "stochastic" && dtype === "bfloat16" && x.dtype === "float32";
      return [path, stochastic ? stochasticRound(x, foldIn(key, i)) : cast(x, dtype)];
    }),
  );
}

/**
 * float32 to bfloat16, to one of the two neighbours, each with the probability that makes the mean right (Gupta et al. 2015, "Deep learning with
 * limited numerical precision"): random bits are added below the last bit that is kept.
 */
export function stochasticRound(x: Tensor, key: Key): Tensor {
  const word = bitcast(x, "uint32");
  const noise = shiftRightLogical(bits(key, x.shape), scalar(16, "uint32"));
  const raised = and(add(word, noise), scalar(0xffff0000, "uint32"));
  return cast(where(isfinite(x), bitcast(raised, "float32"), x), "bfloat16");
}
