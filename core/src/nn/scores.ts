/** Attention in plain operations, with heads that share keys in groups: what each query sees, its scores, and the sum of the values. */
import { dotGeneral } from "../array/contraction.js";
import { iota } from "../array/creation.js";
import {
  add,
  cast,
  div,
  equal,
  greater,
  greaterEqual,
  less,
  lessEqual,
  mul,
  sub,
  tanh,
  where,
} from "../array/elementwise.js";
import { slice } from "../array/indexing.js";
import { logicalAnd, logicalOr } from "../array/numpy.js";
import { softmax } from "../array/reductions.js";
import { expandDims, moveAxis, pad, reshape, swapAxes, transpose } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { remat } from "../transform/remat.js";
import { scan } from "../transform/scan.js";

/** Which keys a query sees. */
export interface Visibility {
  /** No later key. */
  readonly causal: boolean;
  /** Only the last so many keys up to its own position. */
  readonly window?: number;
  /** Position of the first query among the keys: an integer, scalar or [batch]. Default 0. */
  readonly offset?: Tensor | number;
  /** Integer [batch]: keys before it are padding. */
  readonly keyStart?: Tensor;
  /** With `keyStart`: so many keys before the padding, which are seen. Default 0. */
  readonly lead?: number;
  /** Integer [batch, queries] and [batch, keys]: only keys of equal number. */
  readonly segments?: readonly [queries: Tensor, keys: Tensor];
}

export interface ScoreOptions extends Visibility {
  readonly scale: number;
  /** Bounds the scores: softCap · tanh(scores / softCap). */
  readonly softCap?: number;
  /** bool [batch, heads, queries, keys], or 1 of each. */
  readonly mask?: Tensor;
  /** Is added to the scores: of the form of the mask. */
  readonly bias?: Tensor;
}

/** bool [1 or batch, queries, keys]; undefined where every query sees every key. */
export function visibleKeys(queries: number, keys: number, what: Visibility): Tensor | undefined {
  const { causal, window, offset = 0, keyStart, lead = 0, segments } = what;
  const shape = [1, queries, keys];
  const key = iota(shape, 2);
  const perRow = (x: Tensor): Tensor => (x.ndim === 0 ? x : reshape(x, [-1, 1, 1]));
  const query = add(iota(shape, 1), typeof offset === "number" ? offset : perRow(offset));
  const conditions: Tensor[] = [];
  if (causal) conditions.push(lessEqual(key, query));
  if (window !== undefined) conditions.push(greater(key, sub(query, window)));
  if (keyStart !== undefined) {
    const begun = greaterEqual(key, perRow(lead === 0 ? keyStart : add(keyStart, lead)));
    conditions.push(lead === 0 ? begun : logicalOr(begun, less(key, lead)));
  }
  if (segments !== undefined) conditions.push(equal(expandDims(segments[0], 2), expandDims(segments[1], 1)));
  return conditions.length === 0 ? undefined : conditions.reduce(logicalAnd);
}

/** [batch, time, heads, headDim] with the heads that share a key head apart: [batch, time, keyHeads, groups, headDim]. */
function groupHeads(x: Tensor, keyHeads: number): Tensor {
  const [batch, time, heads, headDim] = x.shape as [number, number, number, number];
  return reshape(x, [batch, time, keyHeads, heads / keyHeads, headDim]);
}

/** Scaled scores, float32 [batch, keyHeads, queries, groups, keys]; what a query must not see is very low. */
function attentionScores(q: Tensor, k: Tensor, options: ScoreOptions): Tensor {
  const [, keys, keyHeads] = k.shape as [number, number, number];
  const overFeatures = {
    contract: [[4], [3]],
    batch: [
      [0, 2],
      [0, 2],
    ],
  } as const;
  const { scale, softCap, mask, bias } = options;
  const scaled = mul(dotGeneral(groupHeads(q, keyHeads), k, overFeatures, { dtype: "float32" }), scale);
  const biased = bias === undefined ? scaled : add(scaled, groupPairs(cast(bias, "float32"), keyHeads));
  const scores = softCap === undefined ? biased : mul(tanh(div(biased, softCap)), softCap);
  const visible = visibleKeys(q.shape[1]!, keys, options);
  const shown = [visible && expandDims(visible, [1, 3]), mask && groupPairs(mask, keyHeads)];
  return shown.reduce<Tensor>((s, sees) => (sees === undefined ? s : where(sees, s, -1e30)), scores);
}

/** [batch, heads, queries, keys] laid out as the scores are: [batch, keyHeads, queries, groups, keys]. */
function groupPairs(x: Tensor, keyHeads: number): Tensor {
  const [batch, heads, queries, keys] = x.shape as [number, number, number, number];
  const split = heads === 1 ? [1, 1] : [keyHeads, heads / keyHeads];
  return swapAxes(reshape(x, [batch, ...split, queries, keys]), 2, 3);
}

/** Sums of values by weights [batch, keyHeads, queries, groups, keys]: [batch, queries, heads, headDim]. */
function weightedValues(weights: Tensor, v: Tensor): Tensor {
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

/** softmax(scores) · v; a query that sees no key gets the mean of all values. */
function attend(q: Tensor, k: Tensor, v: Tensor, options: ScoreOptions): Tensor {
  const scores = attentionScores(q, k, options);
  // Not by the logarithm of the sum: beside -1e30 it rounds away, and such a query would get the sum.
  return weightedValues(softmax(scores), v);
}

/** Scores that are held at a time, in bytes: beyond this, queries are taken in chunks. */
const scoreBytes = 2 ** 28;

/**
 * softmax(q · kᵀ · scale) · v in plain operations, the scores in float32. Where the scores of all queries would be large, they are computed
 * for some queries at a time, and again in the derivative (Rabe & Staats 2021, "Self-attention does not need O(n²) memory").
 *
 * @param q - [batch, queries, heads, headDim]
 * @param k - [batch, keys, keyHeads, headDim]
 * @param v - as k
 */
export function plainAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: ScoreOptions,
  bytes = scoreBytes,
): Tensor {
  const [batch, queries, heads, headDim] = q.shape as [number, number, number, number];
  const keys = k.shape[1]!;
  const chunks = Math.min(queries, Math.ceil((4 * batch * heads * queries * keys) / bytes));
  if (chunks <= 1) return attend(q, k, v, options);
  const size = Math.ceil(queries / chunks);
  const missing = chunks * size - queries;
  /** [batch, queries, ...] to [chunks, batch, size, ...]. */
  const cut = (x: Tensor): Tensor => {
    const tail = x.shape.slice(2);
    const whole = pad(x, [[0, 0], [0, missing], ...tail.map(() => [0, 0] as const)]);
    return moveAxis(reshape(whole, [x.shape[0]!, chunks, size, ...tail]), 1, 0);
  };
  /** [batch, heads, queries, keys] to [chunks, batch, heads, size, keys], if it has queries. */
  const cutPairs = (x: Tensor | undefined): Tensor | null =>
    x === undefined || x.shape[2] === 1 ? null : swapAxes(cut(swapAxes(x, 1, 2)), 2, 3);
  const { offset = 0, segments, mask, bias } = options;
  // Wide outside the loop, so that the chunks' shares of their gradients are summed in float32.
  const [wideK, wideV] = [cast(k, "float32"), cast(v, "float32")];
  const chunk = remat((x: Chunk) =>
    attend(x.q, cast(wideK, k.dtype), cast(wideV, v.dtype), {
      ...options,
      offset: add(x.start, offset),
      segments: segments && [x.segments!, segments[1]],
      mask: x.mask ?? mask,
      bias: x.bias ?? bias,
    }),
  );
  const sequences: Chunk = {
    q: cut(q),
    start: mul(iota([chunks], 0), size),
    segments: segments === undefined ? null : cut(segments[0]),
    mask: cutPairs(mask),
    bias: cutPairs(bias),
  };
  const [, parts] = scan((_: null, x: Chunk) => [null, chunk(x)] as readonly [null, Tensor], null, sequences);
  const joined = reshape(moveAxis(parts, 0, 1), [batch, chunks * size, heads, headDim]);
  return missing === 0 ? joined : slice(joined, null, [0, queries]);
}

interface Chunk {
  readonly q: Tensor;
  /** Position of its first query among all. */
  readonly start: Tensor;
  readonly segments: Tensor | null;
  readonly mask: Tensor | null;
  readonly bias: Tensor | null;
}
