/** Scaled dot-product attention. */
import { expandDims } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError, DTypeError, ShapeError } from "../graph/errors.js";
import type { Shape } from "../graph/node.js";
import { flashAttention, flashSupports } from "./flash-attention.js";
import { plainAttention } from "./scores.js";

export interface AttentionOptions {
  /** A query sees no later key. Default true. */
  causal?: boolean;
  /** Factor of the scores. Default 1 / sqrt(headDim). */
  scale?: number;
  /**
   * Position of the first query among the keys, an integer scalar or one for each row [batch]; default such that the last query stands at
   * the last key.
   */
  offset?: Tensor;
  /** A query sees only the last so many keys up to its own position (Beltagy et al. 2020, "Longformer"); needs `causal`. */
  window?: number;
  /** Bounds the scores: softCap · tanh(scores / softCap) (Gemma 2, section 2). */
  softCap?: number;
  /** Integer [batch, time], for as many queries as keys: a query sees only keys of its own number. */
  segments?: Tensor;
  /** Integer [batch]: keys before it are padding, which no query sees. */
  keyStart?: Tensor;
  /** With `keyStart`: so many keys before the padding, which every query sees. Default 0. */
  lead?: number;
  /** bool [batch, keys], [batch, queries, keys] or [batch, heads, queries, keys], sizes of 1 for all alike: a query sees only keys of true. */
  mask?: Tensor;
  /** Is added to the scaled scores: [batch, heads, queries, keys], sizes of 1 for all alike. */
  bias?: Tensor;
}

/**
 * softmax(q · kᵀ · scale) · v for each head; fewer key heads are shared by groups of query heads (Ainslie et al. 2023). The scores are
 * computed in float32. A query that sees no key gets the mean of all values in plain operations; of fused
 * kernels it is not defined, but finite.
 *
 * On NVIDIA GPUs, cuDNN's fused kernels compute bfloat16 and float16 without `offset`, `softCap`, `mask` and `bias`; `segments` and `keyStart` reach them
 * as a mask of batch x queries x keys elements, as long as that is at most 1 GiB. Everything else is computed in plain operations, for some
 * queries at a time where the scores of all would be large.
 *
 * @param q - [batch, queries, heads, headDim]
 * @param k - [batch, keys, keyHeads, headDim]
 * @param v - [batch, keys, keyHeads, headDim]
 * @returns [batch, queries, heads, headDim]
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  check(q, k, v, options);
  const { causal = true, offset, window, softCap, segments, keyStart, lead = 0, mask, bias } = options;
  const [queries, keys, headDim] = [q.shape[1]!, k.shape[1]!, q.shape[3]!];
  const scale = options.scale ?? 1 / Math.sqrt(headDim);
  // The fused causal mask counts from the first key, so it is for equal lengths.
  const square = offset === undefined && (!causal || queries === keys);
  if (
    square &&
    lead === 0 &&
    softCap === undefined &&
    mask === undefined &&
    bias === undefined &&
    flashSupports(q, k, segments !== undefined || keyStart !== undefined)
  ) {
    return flashAttention(q, k, v, { causal, scale, window, segments, keyStart });
  }
  return plainAttention(q, k, v, {
    causal,
    scale,
    window,
    softCap,
    keyStart,
    lead,
    mask: mask && expandMask(mask),
    bias,
    offset: offset ?? keys - queries,
    segments: segments && [segments, segments],
  });
}

/** [batch, heads, queries, keys] of fewer axes. */
function expandMask(mask: Tensor): Tensor {
  if (mask.ndim === 4) return mask;
  return expandDims(mask, mask.ndim === 3 ? 1 : [1, 2]);
}

/** Throws where an array over pairs of queries and keys does not broadcast to [batch, heads, queries, keys]. */
function checkPairs(what: string, given: Tensor, axes: Shape, sizes: Shape, forms: string): void {
  const fits = axes.length === 4 && axes.every((size, i) => size === 1 || size === sizes[i]);
  if (fits) return;
  throw new ShapeError(
    `attention: ${what} [${given.shape.join(", ")}] for ${sizes[0]} rows, ${sizes[1]} heads, ${sizes[2]} queries and ${sizes[3]} keys`,
    `give ${forms}, with sizes of 1 where all are alike`,
  );
}

function check(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): void {
  const { causal = true, window, softCap, segments, keyStart, offset } = options;
  const [batch, queries, heads, headDim] = q.shape;
  const fits = k.shape.length === 4 && k.shape[0] === batch && k.shape[3] === headDim;
  if (q.ndim !== 4 || !fits || v.shape.join() !== k.shape.join() || heads! % k.shape[2]! !== 0) {
    throw new ShapeError(
      `attention: q [${q.shape.join(", ")}], k [${k.shape.join(", ")}], v [${v.shape.join(", ")}]`,
      "each is [batch, time, heads, headDim]; the number of query heads is a multiple of that of key heads",
    );
  }
  if (window !== undefined && !(Number.isInteger(window) && window > 0 && causal)) {
    throw new ArgumentError(
      `attention: a window of ${window}${causal ? "" : " without the causal mask"}`,
      "give a positive number of keys, and causal: true",
    );
  }
  if (softCap !== undefined && !(softCap > 0))
    throw new ArgumentError(`attention: softCap is ${softCap}`, "give a positive number");
  const shape = (x: Tensor): string => x.shape.join(", ");
  if (
    (segments !== undefined && shape(segments) !== `${batch}, ${queries}`) ||
    (segments && k.shape[1] !== queries)
  ) {
    throw new ShapeError(
      `attention: segments [${shape(segments!)}] for ${queries} queries and ${k.shape[1]} keys of ${batch} rows`,
      "give one number for each position, and as many queries as keys (segments do not go with a cache)",
    );
  }
  if (keyStart !== undefined && shape(keyStart) !== `${batch}`)
    throw new ShapeError(
      `attention: keyStart [${shape(keyStart)}] for ${batch} rows`,
      "give one position for each row",
    );
  const sizes = [batch!, heads!, queries!, k.shape[1]!];
  if (options.mask !== undefined) {
    const { mask } = options;
    if (mask.dtype !== "bool")
      throw new DTypeError(
        `attention: the mask is ${mask.dtype}`,
        "give bool, true where a query sees a key",
      );
    const axes = mask.ndim >= 2 && mask.ndim <= 4 ? expandMask(mask).shape : [];
    const forms = "[batch, keys], [batch, queries, keys] or [batch, heads, queries, keys]";
    checkPairs("mask", mask, axes, sizes, forms);
  }
  if (options.bias !== undefined)
    checkPairs("bias", options.bias, options.bias.shape, sizes, "[batch, heads, queries, keys]");
  if (offset !== undefined && offset.ndim > 0 && shape(offset) !== `${batch}`)
    throw new ShapeError(
      `attention: offset [${shape(offset)}] for ${batch} rows`,
      "give a scalar or one position for each row",
    );
}
