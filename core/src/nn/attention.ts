/** Scaled dot-product attention. */
import { dotGeneral } from "../array/contraction.js";
import { iota } from "../array/creation.js";
import { cast, greaterEqual, mul, where } from "../array/elementwise.js";
import { softmax } from "../array/reductions.js";
import { reshape, transpose } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ShapeError } from "../graph/errors.js";
import { flashAttention, flashSupports } from "./flash-attention.js";

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
  const [batch, queries, heads, headDim] = q.shape as [number, number, number, number];
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
  const groups = heads / keyHeads;
  const grouped = reshape(q, [batch, queries, keyHeads, groups, headDim]);
  // [batch, keyHeads, queries, groups, keys]
  const scores = dotGeneral(
    grouped,
    k,
    {
      contract: [[4], [3]],
      batch: [
        [0, 2],
        [0, 2],
      ],
    },
    { dtype: "float32" },
  );
  let weights = mul(scores, factor);
  if (causal) {
    const shape = [queries, 1, keys];
    const visible = greaterEqual(iota(shape, 0).add(offset ?? keys - queries), iota(shape, 2));
    weights = where(visible, weights, -1e30);
  }
  const probabilities = cast(softmax(weights, -1), v.dtype);
  // [batch, keyHeads, queries, groups, headDim]
  const mixed = dotGeneral(probabilities, v, {
    contract: [[4], [1]],
    batch: [
      [0, 1],
      [0, 2],
    ],
  });
  return reshape(transpose(mixed, [0, 2, 1, 3, 4]), [batch, queries, heads, headDim]);
}
