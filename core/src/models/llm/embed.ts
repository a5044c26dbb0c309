/** Texts as vectors. */
import { broadcastTo, sum } from "../../array/broadcast.js";
import { fromBytes, iota } from "../../array/creation.js";
import { cast, div, less, maximum, mul, rsqrt, square, sub } from "../../array/elementwise.js";
import { takeAlongAxis } from "../../array/indexing.js";
import { expandDims, squeeze } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import type { Tokenizer } from "../../data/text/tokenizer.js";
import { ArgumentError } from "../../graph/errors.js";
import { refuseUnknownOptions } from "../../graph/spelling.js";
import { jit } from "../../transform/jit.js";
import { checkTokenizer } from "./check-tokenizer.js";
import type { LanguageModel } from "./model.js";

/** How the states of a text's tokens become one vector: their mean, or the last one. */
export type Pooling = "mean" | "last";

/**
 * Vectors of texts: their states pooled over their own tokens, of length 1, in float32.
 *
 * @param tokens - integer [texts, time], filled up at the end
 * @param lengths - integer [texts]
 * @returns [texts, hiddenSize]
 */
export function textVectors(model: LanguageModel, tokens: Tensor, lengths: Tensor, pooling: Pooling): Tensor {
  const hidden = cast(model.hidden(tokens), "float32");
  const pooled = pooling === "mean" ? meanOver(hidden, lengths) : lastOf(hidden, lengths);
  // A text without any direction stays one.
  return mul(pooled, rsqrt(maximum(sum(square(pooled), -1, { keepDims: true }), 1e-24)));
}

function meanOver(hidden: Tensor, lengths: Tensor): Tensor {
  const [texts, time] = hidden.shape as [number, number, number];
  const own = cast(less(iota([texts, time], 1), expandDims(lengths, 1)), "float32");
  return div(sum(mul(hidden, expandDims(own, -1)), 1), expandDims(cast(lengths, "float32"), 1));
}

function lastOf(hidden: Tensor, lengths: Tensor): Tensor {
  const [texts, , features] = hidden.shape as [number, number, number];
  const places = broadcastTo(expandDims(sub(lengths, 1), [1, 2]), [texts, 1, features]);
  return squeeze(takeAlongAxis(hidden, places, 1), 1);
}

export interface EmbedOptions {
  tokenizer: Tokenizer;
  /** Tokens of a text that are read: longer ones are cut. Default all of the longest. */
  maxTokens?: number;
  /** Default `"mean"`. */
  pooling?: Pooling;
  /** Texts computed at once. Default 32. */
  batchSize?: number;
  /** Stands before each text. */
  prefix?: string;
}

const vectors = jit(
  (model: LanguageModel, tokens: Tensor, lengths: Tensor, pooling: Pooling) =>
    textVectors(model, tokens, lengths, pooling),
  { name: "embed", manyTraces: true },
);

/** A vector of length 1 for each text, by which `llm.contrastive` trains: the product of two is their cosine. */
export async function embed(
  model: LanguageModel,
  texts: readonly string[],
  options: EmbedOptions,
): Promise<Float32Array[]> {
  if (typeof (options?.tokenizer as Partial<Tokenizer> | undefined)?.encode !== "function")
    throw new ArgumentError("embed: there is no tokenizer", "pass { tokenizer }");
  refuseUnknownOptions("embed", options, ["tokenizer", "maxTokens", "pooling", "batchSize", "prefix"]);
  const { tokenizer, maxTokens, pooling = "mean", batchSize = 32, prefix = "" } = options;
  checkTokenizer("embed", model, tokenizer);
  if (!Array.isArray(texts) || texts.some((text) => typeof text !== "string"))
    throw new ArgumentError("embed: the texts are no array of texts", "give strings");
  if (pooling !== "mean" && pooling !== "last")
    throw new ArgumentError(`embed: pooling is ${JSON.stringify(pooling)}`, 'use "mean" or "last"');
  for (const [name, value] of Object.entries({ batchSize, maxTokens: maxTokens ?? 1 }))
    if (!Number.isSafeInteger(value) || value < 1)
      throw new ArgumentError(`embed: ${name} is ${value}`, "give a positive integer");
  const end = tokenizer.eosId;
  const ids = texts.map((text) => {
    const all = [...tokenizer.encode(prefix + text)];
    const room = (maxTokens ?? Number.POSITIVE_INFINITY) - (end === undefined ? 0 : 1);
    return end === undefined ? all.slice(0, room) : [...all.slice(0, room), end];
  });
  const empty = ids.findIndex((each) => each.length === 0);
  if (empty >= 0) throw new ArgumentError(`embed: text ${empty} has no token`, "leave it out");
  const found: Float32Array[] = [];
  for (let at = 0; at < ids.length; at += batchSize) {
    const some = ids.slice(at, at + batchSize);
    // Few lengths are compiled.
    const time = 16 * Math.ceil(Math.max(...some.map(({ length }) => length)) / 16);
    const tokens = new Int32Array(batchSize * time);
    const lengths = new Int32Array(batchSize).fill(1);
    for (const [i, each] of some.entries()) {
      tokens.set(each, i * time);
      lengths[i] = each.length;
    }
    const device = (view: Int32Array, shape: readonly number[]) =>
      fromBytes(new Uint8Array(view.buffer), shape, "int32");
    const flat = (await vectors(
      model,
      device(tokens, [batchSize, time]),
      device(lengths, [batchSize]),
      pooling,
    ).data()) as Float32Array;
    const width = flat.length / batchSize;
    for (const i of some.keys()) found.push(flat.slice(i * width, (i + 1) * width));
  }
  return found;
}
