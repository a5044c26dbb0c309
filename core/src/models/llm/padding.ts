/** Tokens that fill up the texts of a batch: no token sees them. */
import { broadcastTo, ones, onesLike } from "../../array/broadcast.js";
import { add, cast, mul, notEqual, where } from "../../array/elementwise.js";
import { slice } from "../../array/indexing.js";
import { concatenate } from "../../array/joining.js";
import { any, mean } from "../../array/reductions.js";
import { expandDims, reshape } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import { plainAttention, type ScoreOptions, visibleKeys } from "../../nn/scores.js";
import type { Padding } from "./model.js";

/** Attention that sees no padding. */
export function paddedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { segments, ...options }: Omit<ScoreOptions, "segments"> & { segments?: Tensor },
  { mask, blind }: Padding,
): Tensor {
  const [batch, time, heads, headDim] = q.shape as [number, number, number, number];
  const [keys, before] = [k.shape[1]!, k.shape[1]! - time];
  const given = cast(notEqual(mask, 0), "int32");
  // What comes before the tokens is no padding.
  const there = before === 0 ? given : concatenate([ones([batch, before], { dtype: "int32" }), given], 1);
  const own = segments === undefined ? onesLike(there) : add(segments, 1);
  const queries = before === 0 ? own : slice(own, null, [before]);
  const visibility = { ...options, offset: before, segments: [queries, mul(own, there)] as const };
  const mixed = plainAttention(q, k, v, visibility);
  const sees = expandDims(any(visibleKeys(time, keys, visibility)!, -1), [2, 3]);
  if (blind === "zero") return where(sees, mixed, 0);
  const keyHeads = v.shape[2]!;
  const average = expandDims(mean(v, 1, { keepDims: true }), 3);
  const shared = broadcastTo(average, [batch, 1, keyHeads, heads / keyHeads, headDim]);
  return where(sees, mixed, reshape(shared, [batch, 1, heads, headDim]));
}

/** A mask of padding for what is computed, of which so many positions come before the tokens. */
export function withoutPadding({ mask, blind }: Padding, before: number): Padding {
  const there = ones([mask.shape[0]!, before], { dtype: mask.dtype });
  return { mask: concatenate([there, mask], 1), blind };
}
