/** Attention with its projections, whose queries, keys and values may come from different sources. */
import { reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { type AttentionOptions, attention } from "./attention.js";
import { fanInUniform, type Initializer } from "./initializers.js";
import { Linear } from "./layers.js";
import { Module } from "./module.js";

export interface MultiheadCrossAttentionOptions {
  /** Features of the source of the keys. Default those of the queries. */
  keyFeatures?: number;
  /** Features of the source of the values. Default those of the keys' source. */
  valueFeatures?: number;
  /** Default features / heads. */
  headDim?: number;
  /** Heads of keys and values, each shared by a group of query heads. Default `heads`. */
  keyHeads?: number;
  /** Whether the projections have biases. Default true. */
  bias?: boolean;
  /** Of the projections. Default uniform in ±1/sqrt(fan in). */
  init?: Initializer;
}

/** What `forward` hands to `attention`; `causal` is false by default. */
export type CrossAttentionInputs = Pick<
  AttentionOptions,
  "causal" | "mask" | "bias" | "scale" | "offset" | "softCap" | "keyStart"
>;

/**
 * Multi-head attention of queries over another source (Vaswani et al. 2017, section 3.2). Fields are named as by Hugging Face: `qProj`, `kProj`,
 * `vProj`, `outProj`.
 */
export class MultiheadCrossAttention extends Module {
  qProj: Linear;
  kProj: Linear;
  vProj: Linear;
  outProj: Linear;
  readonly heads: number;
  readonly keyHeads: number;

  constructor(features: number, heads: number, options: MultiheadCrossAttentionOptions = {}) {
    super();
    const { keyFeatures = features, valueFeatures = keyFeatures, keyHeads = heads, bias = true } = options;
    const { headDim = features / heads, init = fanInUniform } = options;
    if (!Number.isInteger(headDim) || !Number.isInteger(heads / keyHeads)) {
      throw new ArgumentError(
        `MultiheadCrossAttention: ${features} features, ${heads} heads, ${keyHeads} keyHeads`,
        "features are a multiple of the heads (or give headDim), heads one of keyHeads",
      );
    }
    this.heads = heads;
    this.keyHeads = keyHeads;
    this.qProj = new Linear(features, heads * headDim, { bias, init, axes: ["heads", "embed"] });
    this.kProj = new Linear(keyFeatures, keyHeads * headDim, { bias, init, axes: ["heads", "embed"] });
    this.vProj = new Linear(valueFeatures, keyHeads * headDim, { bias, init, axes: ["heads", "embed"] });
    this.outProj = new Linear(heads * headDim, features, { bias, init, axes: ["embed", "heads"] });
  }

  /**
   * @param query - [batch, queries, features]
   * @param key - [batch, keys, keyFeatures]
   * @param value - [batch, keys, valueFeatures]; default `key`
   * @param options - `mask` bool [batch, keys] leaves out padding; see `attention`
   * @returns [batch, queries, features]
   */
  forward(query: Tensor, key: Tensor, value: Tensor = key, options: CrossAttentionInputs = {}): Tensor {
    const fits = [query, key, value].every((x) => x.ndim === 3 && x.shape[0] === query.shape[0]);
    if (!fits || key.shape[1] !== value.shape[1]) {
      throw new ShapeError(
        `MultiheadCrossAttention: query [${query.shape.join(", ")}], key [${key.shape.join(", ")}], value [${value.shape.join(", ")}]`,
        "each is [batch, time, features]; keys and values have one time",
      );
    }
    const heads = (x: Tensor, count: number): Tensor => reshape(x, [...x.shape.slice(0, 2), count, -1]);
    const mixed = attention(
      heads(this.qProj.forward(query), this.heads),
      heads(this.kProj.forward(key), this.keyHeads),
      heads(this.vProj.forward(value), this.keyHeads),
      { causal: false, ...options },
    );
    return this.outProj.forward(reshape(mixed, [...query.shape.slice(0, 2), -1]));
  }
}
