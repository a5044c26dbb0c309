/** Attention that knows how far apart a query and a key are: biases for `attention`, of T5's buckets and of Transformer-XL's form. */
import { dotGeneral } from "../array/contraction.js";
import { iota } from "../array/creation.js";
import { abs, add, cast, less, log, maximum, minimum, mul, neg, sub, where } from "../array/elementwise.js";
import { slice, take } from "../array/indexing.js";
import { moveAxis, pad, reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import type { Initializer } from "./initializers.js";
import { Module } from "./module.js";
import { type SinusoidalOptions, sinusoidalPositions } from "./positions.js";

export interface RelativeBuckets {
  /** Default 32. */
  buckets?: number;
  /** From this distance on all are in the last bucket. Default 128. */
  maxDistance?: number;
  /** Whether later keys have buckets of their own (half of them); else they share that of distance 0. Default true. */
  bidirectional?: boolean;
}

function checkBuckets({ buckets = 32, maxDistance = 128, bidirectional = true }: RelativeBuckets): void {
  const each = bidirectional ? buckets / 2 : buckets;
  if (!(Number.isInteger(each) && each >= 2) || !(maxDistance > Math.floor(each / 2))) {
    throw new ArgumentError(
      `relative positions: ${buckets} buckets${bidirectional ? " in two directions" : ""} up to a distance of ${maxDistance}`,
      `give ${bidirectional ? "an even number of at least 4" : "2 or more"} buckets, and a distance above half of a direction's`,
    );
  }
}

/**
 * T5's bucket of a key's position less the query's (Raffel et al. 2020, section 2.1): each small distance has one, larger ones share them,
 * on a logarithmic scale. int32, of the shape of `relative`.
 */
export function relativeBucket(relative: Tensor, options: RelativeBuckets = {}): Tensor {
  checkBuckets(options);
  const { buckets = 32, maxDistance = 128, bidirectional = true } = options;
  const each = bidirectional ? buckets / 2 : buckets;
  const distance = bidirectional ? abs(relative) : maximum(neg(relative), 0);
  const exact = Math.floor(each / 2);
  // Below `exact` the logarithm is not used, and 0 has none.
  const ratio = mul(cast(maximum(distance, 1), "float32"), 1 / exact);
  const steps = mul(log(ratio), (each - exact) / Math.log(maxDistance / exact));
  const far = minimum(add(cast(steps, "int32"), exact), each - 1);
  const bucket = where(less(distance, exact), cast(distance, "int32"), far);
  return bidirectional ? add(bucket, mul(cast(less(0, relative), "int32"), each)) : bucket;
}

export interface RelativeBiasOptions extends RelativeBuckets {
  init?: Initializer;
}

/**
 * A learned number for each head and bucket of distances, to be the `bias` of `attention` (T5's `relative_attention_bias`): weight
 * [buckets, heads]. T5's attention does not scale its scores: `scale: 1`.
 */
export class RelativeBias extends Module {
  weight: Tensor;
  readonly buckets: number;
  readonly maxDistance: number;
  readonly bidirectional: boolean;

  constructor(heads: number, options: RelativeBiasOptions = {}) {
    super();
    checkBuckets(options);
    const { buckets = 32, maxDistance = 128, bidirectional = true, init } = options;
    this.buckets = buckets;
    this.maxDistance = maxDistance;
    this.bidirectional = bidirectional;
    this.weight = this.parameter("weight", [buckets, heads], { init });
  }

  /**
   * [1, heads, queries, keys].
   *
   * @param offset - position of the first query among the keys, a number or an integer scalar. Default such that the last query stands at the
   * last key
   */
  forward(queries: number, keys = queries, offset: Tensor | number = keys - queries): Tensor {
    const [buckets, heads] = this.weight.shape as [number, number];
    const relative = sub(iota([queries, keys], 1), add(iota([queries, keys], 0), offset));
    const { maxDistance, bidirectional } = this;
    const picked = take(this.weight, relativeBucket(relative, { buckets, maxDistance, bidirectional }), 0);
    return reshape(moveAxis(picked, -1, 0), [1, heads, queries, keys]);
  }
}

/**
 * Encodings of the distances time - 1 to -(time - 1), a query's position less the key's, in that order: float32 [2 · time - 1, features]. What
 * the relative attention of Transformer-XL and Conformer projects to its keys of positions.
 */
export function relativePositions(time: number, features: number, options: SinusoidalOptions = {}): Tensor {
  if (!(Number.isInteger(time) && time > 0))
    throw new ArgumentError(`relativePositions: ${time} times`, "give a positive integer");
  return sinusoidalPositions(sub(time - 1, iota([2 * time - 1], 0)), features, options);
}

/**
 * [..., queries, distances] to [..., queries, keys]: of each query the scores of its distances to the keys (Dai et al. 2019, appendix B).
 * Distances are as of `relativePositions`, 2 · time - 1 of them for as many queries as keys.
 */
export function relativeShift(scores: Tensor): Tensor {
  const [queries, distances] = scores.shape.slice(-2) as [number, number];
  if (scores.ndim < 2 || distances !== 2 * queries - 1) {
    throw new ShapeError(
      `relativeShift of [${scores.shape.join(", ")}]`,
      "give [..., queries, distances] with 2 · queries - 1 distances",
    );
  }
  const lead = scores.shape.slice(0, -2);
  const none = scores.shape.map((): [number, number] => [0, 0]);
  // With a column more, each row of the flat array begins one place earlier than the one before.
  const padded = pad(scores, none.with(-1, [1, 0]));
  const skewed = reshape(padded, [...lead, distances + 1, queries]);
  const whole = lead.map(() => null);
  const rows = reshape(slice(skewed, ...whole, [1, null]), [...lead, queries, distances]);
  return slice(rows, ...whole, null, [0, queries]);
}

/**
 * The scores of distances, to be the `bias` of `attention` (Dai et al. 2019, "Transformer-XL", section 3.3; Gulati et al. 2020, "Conformer"):
 * `attention(q.add(u), k, v, { causal: false, bias: relativeScores(q.add(w), r) })` with the learned `u` and `w` [heads, headDim].
 *
 * @param q - [batch, time, heads, headDim]
 * @param r - the projected `relativePositions`, [2 · time - 1, heads, headDim]
 * @param scale - factor of the scores, that of the attention. Default 1 / sqrt(headDim)
 * @returns float32 [batch, heads, time, time]
 */
export function relativeScores(q: Tensor, r: Tensor, scale?: number): Tensor {
  const [, time, heads, headDim] = q.shape as [number, number, number, number];
  if (q.ndim !== 4 || r.shape.join() !== [2 * time - 1, heads, headDim].join()) {
    throw new ShapeError(
      `relativeScores: q [${q.shape.join(", ")}], r [${r.shape.join(", ")}]`,
      "q is [batch, time, heads, headDim], r [2 · time - 1, heads, headDim]",
    );
  }
  // [heads, batch, time, distances]
  const scores = dotGeneral(q, r, { contract: [[3], [2]], batch: [[2], [1]] }, { dtype: "float32" });
  return mul(relativeShift(moveAxis(scores, 0, 1)), scale ?? 1 / Math.sqrt(headDim));
}
