/** Scaled dot-product attention. */
import { softmax } from "../array/reductions.js";
import type { Tensor } from "../array/tensor.js";
import { ShapeError } from "../graph/errors.js";
import { flashAttention, flashSupports } from "./flash-attention.js";
import { attentionScores, weightedValues } from "./scores.js";

export interface AttentionOptions {
  /** A query sees no later key. Default true. */
  causal?: boolean;
  /** Factor of the scores. Default 1 / sqrt(headDim). */
  scale?: number;
  /** Position of the first query among the keys, an integer scalar; default such that the last query stands at the last key. */
  offset?: Tensor;
}

/**
 * softmax(q · kᵀ · scale) · v for each head; fewer key heads are shared by groups of query heads (Ainslie et al. 2023). The scores are
 * computed in float32.
 *
 * @param q - [batch, queries, heads, headDim]
 * @param k - [batch, keys, keyHeads, headDim]
 * @param v - [batch, keys, keyHeads, headDim]
 * @returns [batch, queries, heads, headDim]
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { causal = true, scale, offset }: AttentionOptions = {},
): Tensor {
  const [, queries, heads, headDim] = q.shape as [number, number, number, number];
  const [, keys, keyHeads] = k.shape as [number, number, number];
  if (q.ndim !== 4 || k.ndim !== 4 || v.ndim !== 4 || heads % keyHeads !== 0 || k.shape[3] !== headDim) {
    throw new ShapeError(
      `attention: q [${q.shape.join(", ")}], k [${k.shape.join(", ")}], v [${v.shape.join(", ")}]`,
      "each is [batch, time, heads, headDim]; the number of query heads is a multiple of that of key heads",
    );
  }
  const factor = scale ?? 1 / Math.sqrt(headDim);
  // The fused causal mask counts from the first key, so it is for equal lengths.
  const square = offset === undefined && (!causal || queries === keys);
  if (square && flashSupports(q.dtype, headDim) && k.dtype === q.dtype) {
    return flashAttention(q, k, v, { causal, scale: factor });
  }
  const scores = attentionScores(q, k, { causal, scale: factor, offset: offset ?? keys - queries });
  return weightedValues(softmax(scores, -1), v);
}
