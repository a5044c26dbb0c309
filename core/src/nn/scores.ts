/** The two products of attention in plain operations, with heads that share keys in groups. */
import { dotGeneral } from "../array/contraction.js";
import { iota } from "../array/creation.js";
import { cast, greaterEqual, mul, where } from "../array/elementwise.js";
import { reshape, transpose } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";

export interface ScoreOptions {
  readonly causal: boolean;
  readonly scale: number;
  /** Position of the first query among the keys. */
  readonly offset?: Tensor | number;
}

/** [batch, time, heads, headDim] with the heads that share a key head apart: [batch, time, keyHeads, groups, headDim]. */
export function groupHeads(x: Tensor, keyHeads: number): Tensor {
  const [batch, time, heads, headDim] = x.shape as [number, number, number, number];
  return reshape(x, [batch, time, keyHeads, heads / keyHeads, headDim]);
}

/** Scaled scores, float32 [batch, keyHeads, queries, groups, keys]; what a query must not see is very low. */
export function attentionScores(q: Tensor, k: Tensor, { causal, scale, offset = 0 }: ScoreOptions): Tensor {
  const [, keys, keyHeads] = k.shape as [number, number, number];
  const overFeatures = {
    contract: [[4], [3]],
    batch: [
      [0, 2],
      [0, 2],
    ],
  } as const;
  const scores = mul(dotGeneral(groupHeads(q, keyHeads), k, overFeatures, { dtype: "float32" }), scale);
  if (!causal) return scores;
  const shape = [q.shape[1]!, 1, keys];
  return where(greaterEqual(iota(shape, 0).add(offset), iota(shape, 2)), scores, -1e30);
}

/** Sums of values by weights [batch, keyHeads, queries, groups, keys]: [batch, queries, heads, headDim]. */
export function weightedValues(weights: Tensor, v: Tensor): Tensor {
  const [batch, keyHeads, queries, groups] = weights.shape as [number, number, number, number];
  const overKeys = {
    contract: [[4], [1]],
    batch: [
      [0, 1],
      [0, 2],
    ],
  } as const;
  const mixed = dotGeneral(cast(weights, v.dtype), v, overKeys);
  return reshape(transpose(mixed, [0, 2, 1, 3, 4]), [batch, queries, keyHeads * groups, v.shape[3]!]);
}
