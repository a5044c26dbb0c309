/** What every language model here offers. */
import type { Tensor } from "../../array/tensor.js";
import type { KeyValueCache, TokenCache } from "../../nn/cache.js";
import type { EmbeddingNoise } from "./supervised.js";

export interface ForwardOptions {
  /** Of the tokens before these; their keys and values are added to it, its position is not moved. */
  cache?: TokenCache;
  /** Integer [batch, time]: a token sees only tokens of its own number (packed documents). */
  segments?: Tensor;
  /** Integer [time] or [batch, time]: positions within the document. Default counted from 0, or from the cache's position. */
  positions?: Tensor;
  /** Tokens that fill up the texts: no token sees them. Not with a cache, whose `keyStart` says it. */
  padding?: Padding;
  /** What comes before the first tokens, with its own positions before theirs. Not with a cache, which holds it. */
  lead?: Lead;
  /** Gives the states of the lead's `states` too, before those of the tokens. Default false. */
  withLead?: boolean;
  /** Noise on the embeddings (NEFTune). */
  noise?: EmbeddingNoise;
  /** A token whose embedding is not learned where it is read (torch's `padding_idx`). */
  fixedToken?: number;
}

/** What every text begins with that is no token: states in place of embeddings, or keys and values that all layers' tokens see. */
export interface Lead {
  /** [count, hiddenSize]. */
  readonly states?: Tensor;
  /** By layer, keys and values [count, keyHeads, headDim] each: as attention sees them, without rotation. */
  readonly keyValues?: readonly { readonly keys: Tensor; readonly values: Tensor }[];
}

export interface Padding {
  /** Integer [batch, time], 0 for padding. */
  readonly mask: Tensor;
  /** What attention gives a token that sees none: zeros, as torch's fused kernels, or the mean of all values. */
  readonly blind: "zero" | "mean";
}

/** A batch of token sequences to learn. */
export interface TokenBatch {
  /** Integer [batch, time]. */
  readonly inputs: Tensor;
  /** Integer [batch, time]: the token after each. */
  readonly targets: Tensor;
  /** [batch, time]: the share of each position in the loss; default 1 each. */
  readonly weights?: Tensor;
  readonly segments?: Tensor;
  readonly positions?: Tensor;
  /**
   * Integer [batch, capacity]: the places of all targets that count, and of others so that there are as many in each row; each once. Logits are
   * computed for those only; without it for all.
   */
  readonly supervised?: Tensor;
}

/** A model of the next token. */
export interface LanguageModel {
  /** `maxPositions`: tokens that a model with learned positions can see. */
  readonly config: { readonly vocabSize: number; readonly maxPositions?: number };
  /** Tokens that end a text, beside the tokenizer's end of text. */
  readonly stopIds?: readonly number[];
  /**
   * Tokens beyond which a text is seen otherwise from its first token on (LongRoPE has two sets of frequencies): a cache that was begun
   * below is of no use above.
   */
  readonly switchLength?: number;
  /** Tokens up to which keys and values do not depend on the length of their text (LongRoPE and dynamic scaling look at it). Default all. */
  readonly alikeLength?: number;
  /** Logits of the next token at each position: integer [batch, time] to [batch, time, vocabSize]. */
  forward(tokens: Tensor, options?: ForwardOptions): Tensor;
  /** The states that the output layer reads: integer [batch, time] to [batch, time, hiddenSize]. */
  hidden(tokens: Tensor, options?: ForwardOptions): Tensor;
  /** The output layer: [batch, time, hiddenSize] to logits [batch, time, vocabSize]. */
  logits(hidden: Tensor): Tensor;
  /** An empty cache for `batch` texts of up to `length` tokens; `keyStart`: int32 [batch], the padding tokens that each begins with. */
  newCache(batch: number, length: number, keyStart?: Tensor): KeyValueCache;
}
