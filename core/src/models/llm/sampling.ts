/** Choosing the next token from a model's logits, with the filters of transformers' logits processors, in their order. */

import { sum } from "../../array/broadcast.js";
import { iota, tensor } from "../../array/creation.js";
import {
  add,
  cast,
  div,
  equal,
  greater,
  greaterEqual,
  less,
  log,
  maximum,
  mul,
  or,
  sub,
  where,
} from "../../array/elementwise.js";
import { slice, takeAlongAxis } from "../../array/indexing.js";
import { logicalAnd } from "../../array/numpy.js";
import { categorical, foldIn, type Key } from "../../array/random.js";
import { argmax, logSoftmax, max, min, softmax } from "../../array/reductions.js";
import { expandDims } from "../../array/shaping.js";
import { topK as largest, sort } from "../../array/sorting.js";
import { Tensor } from "../../array/tensor.js";
import { cumsum } from "../../array/windows.js";
import { ArgumentError } from "../../graph/errors.js";
import { vmap } from "../../transform/vmap.js";

/** How the next token is chosen. The filters work one after another, in the order of these fields. */
export interface SamplingOptions {
  /**
   * Makes tokens of the text so far, prompt included, less likely (Keskar et al. 2019, CTRL): positive logits are divided by it, negative
   * ones multiplied. Default 1: off.
   */
  repetitionPenalty?: number;
  /** Divides the logits; 0 takes the likeliest token, and no filter below matters. Default 1. */
  temperature?: number;
  /** Leaves only the `topK` likeliest tokens, and those as likely as the last of them (Fan et al. 2018). Default: all. */
  topK?: number;
  /**
   * Leaves the fewest tokens, the likeliest ones, that together have at least this probability (Holtzman et al. 2020). Default 1: all.
   */
  topP?: number;
  /** Leaves out tokens less likely than this share of the likeliest one's probability (Nguyen et al. 2024). Default 0. */
  minP?: number;
}

/**
 * Options as a tree for compiled functions: which filters are on is its structure, how strong they are its leaves, scalars or [batch, 1]. No
 * temperature stands for the likeliest token.
 */
export interface Sampling {
  readonly repetitionPenalty?: Tensor;
  readonly temperature?: Tensor;
  /** A number for all rows alike, or int32 [batch, 1] from 1 to vocabSize. */
  readonly topK?: number | Tensor;
  readonly topP?: Tensor;
  readonly minP?: Tensor;
}

/** Checks the options and leaves out what has no effect. */
export function samplingOf(options: SamplingOptions): Sampling {
  const { repetitionPenalty = 1, temperature = 1, topK, topP = 1, minP = 0 } = options;
  const check = (name: string, value: number, ok: boolean, fix: string): void => {
    if (!ok) throw new ArgumentError(`generate: ${name} is ${value}`, fix);
  };
  const finite = Number.isFinite;
  check(
    "repetitionPenalty",
    repetitionPenalty,
    repetitionPenalty > 0 && finite(repetitionPenalty),
    "give a positive number; above 1 discourages repetition",
  );
  check("temperature", temperature, temperature >= 0 && finite(temperature), "give a number of at least 0");
  check("topP", topP, topP > 0 && topP <= 1, "give a number above 0, up to 1");
  check("minP", minP, minP >= 0 && minP <= 1, "give a number from 0 to 1");
  if (topK !== undefined) check("topK", topK, Number.isInteger(topK) && topK >= 1, "give a positive integer");
  const float = (x: number): Tensor => tensor(Float32Array.of(x), { shape: [] });
  const penalty = repetitionPenalty === 1 ? {} : { repetitionPenalty: float(repetitionPenalty) };
  if (temperature === 0) return penalty;
  return {
    ...penalty,
    temperature: float(temperature),
    ...(topK !== undefined && { topK }),
    ...(topP < 1 && { topP: float(topP) }),
    ...(minP > 0 && { minP: float(minP) }),
  };
}

/**
 * The logits that are drawn from: float32 [batch, vocabSize], -Infinity for the tokens that were left out.
 *
 * @param logits - [batch, vocabSize]
 * @param seen - bool [batch, vocabSize], the tokens of the text so far, for the repetition penalty
 */
export function filteredLogits(logits: Tensor, sampling: Sampling, seen?: Tensor): Tensor {
  const { repetitionPenalty: penalty, temperature, topK, topP, minP } = sampling;
  let x = cast(logits, "float32");
  if (penalty !== undefined && seen !== undefined) {
    x = where(seen, where(less(x, 0), mul(x, penalty), div(x, penalty)), x);
  }
  if (temperature !== undefined) x = div(x, maximum(temperature, 1e-6));
  if (topK !== undefined && (topK instanceof Tensor || topK < x.shape[1]!)) {
    const last =
      topK instanceof Tensor
        ? takeAlongAxis(sort(x, -1, { descending: true }), sub(topK, 1), 1)
        : slice(largest(x, topK)[0], null, [topK - 1, topK]);
    x = where(less(x, last), Number.NEGATIVE_INFINITY, x);
  }
  if (topP !== undefined) {
    const sorted = sort(x, -1, { descending: true });
    const probabilities = softmax(sorted, -1);
    // A token is needed where all that are likelier have together less than topP; rounding must not lose the first.
    const likelier = sub(cumsum(probabilities, -1), probabilities);
    const needed = or(less(likelier, topP), equal(iota(sorted.shape, 1), 0));
    const least = min(where(needed, sorted, Number.POSITIVE_INFINITY), -1, { keepDims: true });
    // Of tokens as likely as the last needed one only as many as are needed, as in transformers those of the highest ids.
    const tied = cast(equal(x, least), "int32");
    const room = sum(cast(logicalAnd(needed, equal(sorted, least)), "int32"), -1, { keepDims: true });
    const after = sub(sum(tied, -1, { keepDims: true }), cumsum(tied, -1));
    const left = or(greater(x, least), logicalAnd(equal(x, least), less(after, room)));
    x = where(left, x, Number.NEGATIVE_INFINITY);
  }
  if (minP !== undefined) {
    const least = add(max(x, -1, { keepDims: true }), log(minP));
    x = where(greaterEqual(x, least), x, Number.NEGATIVE_INFINITY);
  }
  return x;
}

/** One key for each row of a batch and step: int32 [batch] rows, an int32 scalar step. */
export interface Draw {
  readonly key: Key;
  readonly rows: Tensor;
  readonly step: Tensor;
}

/**
 * The next token of each row, int32 [batch]. A row's draw depends on the key, its number and the step alone, not on the rows beside it.
 *
 * @param vocabulary - tokens that may be chosen: the first ones of a padded vocabulary
 */
export function nextTokens(
  logits: Tensor,
  sampling: Sampling,
  { key, rows, step }: Draw,
  { seen, vocabulary }: { seen?: Tensor; vocabulary?: number } = {},
): Tensor {
  const usable =
    vocabulary === undefined || vocabulary >= logits.shape[1]!
      ? logits
      : where(less(iota(logits.shape, 1), vocabulary), cast(logits, "float32"), Number.NEGATIVE_INFINITY);
  const filtered = filteredLogits(usable, sampling, seen);
  if (sampling.temperature === undefined) return argmax(filtered, -1);
  const draw = (row: Tensor, x: Tensor): Tensor => categorical(foldIn(foldIn(key, row), step), x);
  return vmap(draw)(rows, filtered);
}

/** Log-probabilities of a step: float32 [batch] of the drawn tokens, and [batch, k] ids and values of the likeliest ones. */
export interface StepProbabilities {
  readonly drawn: Tensor;
  readonly likeliest?: { readonly ids: Tensor; readonly values: Tensor };
}

/**
 * Under the model's own distribution at the temperature: of all its tokens, before the repetition penalty and the filters. Without a
 * temperature (the likeliest token is taken) it counts as 1.
 *
 * @param tokens - int32 [batch], those that were drawn
 * @param count - of likeliest tokens to give too
 */
export function stepProbabilities(
  logits: Tensor,
  tokens: Tensor,
  { temperature }: Sampling,
  count: number,
): StepProbabilities {
  const wide = cast(logits, "float32");
  const all = logSoftmax(temperature === undefined ? wide : div(wide, maximum(temperature, 1e-6)), -1);
  const drawn = slice(takeAlongAxis(all, expandDims(tokens, 1), 1), null, 0);
  if (count === 0) return { drawn };
  const [values, ids] = largest(all, count);
  return { drawn, likeliest: { ids: cast(ids, "int32"), values } };
}

/** The tokens seen so far, and `tokens` int32 [batch]. */
export function withSeen(seen: Tensor, tokens: Tensor): Tensor {
  return or(seen, equal(iota(seen.shape, 1), expandDims(tokens, 1)));
}
