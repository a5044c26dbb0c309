/** How well a language model predicts texts. */
import { sum } from "../../array/broadcast.js";
import { fromBytes } from "../../array/creation.js";
import { cast, mul, sub } from "../../array/elementwise.js";
import { takeAlongAxis } from "../../array/indexing.js";
import { logsumexp } from "../../array/reductions.js";
import { expandDims, squeeze } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import type { Tokenizer } from "../../data/text/tokenizer.js";
import { ArgumentError } from "../../graph/errors.js";
import { refuseUnknown } from "../../graph/spelling.js";
import { Interrupted, Interruption } from "../../host/interrupt.js";
import { jit } from "../../transform/jit.js";
import { checkTokenizer } from "./check-tokenizer.js";
import type { LanguageModel } from "./model.js";

export interface PerplexityOptions {
  tokenizer: Tokenizer;
  /** Tokens the model sees at most: usually the length it was trained on. */
  context: number;
  /** Tokens by which the window moves on; what a window shares with the one before is context only. Default half of `context`. */
  stride?: number;
  /** A token before each text, so that its first token is predicted too. Default none: the first token of a text is not counted. */
  startId?: number;
  /** Windows computed at once. Default 8. */
  batchSize?: number;
  signal?: AbortSignal;
}

const optionNames: readonly (keyof PerplexityOptions)[] = [
  "tokenizer",
  "context",
  "stride",
  "startId",
  "batchSize",
  "signal",
];

export interface Perplexity {
  /** exp(nats / tokens): the number of equally likely tokens that would be as hard to guess. It depends on the tokenizer. */
  readonly perplexity: number;
  /** exp(nats / bytes) of the texts in UTF-8: comparable between tokenizers. */
  readonly bytePerplexity: number;
  /** exp(nats / words), words being what white space separates. */
  readonly wordPerplexity: number;
  readonly bitsPerByte: number;
  /** Negative log-likelihood of all predicted tokens together. */
  readonly nats: number;
  /** Tokens that were predicted. */
  readonly tokens: number;
  readonly bytes: number;
  readonly words: number;
}

/** Negative log-likelihoods, float32 [batch]: the sums over the targets with weight 1. */
const windowNats = jit(
  (model: LanguageModel, inputs: Tensor, targets: Tensor, weights: Tensor): Tensor => {
    const logits = cast(model.forward(inputs), "float32");
    const picked = squeeze(takeAlongAxis(logits, expandDims(targets, -1), -1), -1);
    return sum(mul(sub(logsumexp(logits, -1), picked), weights), -1);
  },
  { name: "window_nats", manyTraces: true },
);

/** A window of a text: its tokens, and how many of them, at its end, are predicted. */
interface Window {
  readonly ids: Int32Array;
  readonly predicted: number;
}

/**
 * Perplexity of texts under a model by a sliding window: each token is predicted once, from at least `context - stride` tokens before it
 * where the text has them. These are the windows of "Perplexity of fixed-length models" in the documentation of transformers; here each
 * token counts equally, where that page weights windows by one token less than they predict. Texts are independent of each other.
 */
export async function perplexity(
  model: LanguageModel,
  texts: string | readonly string[],
  options: PerplexityOptions,
): Promise<Perplexity> {
  if (typeof (options?.tokenizer as Partial<Tokenizer> | undefined)?.encode !== "function")
    throw new ArgumentError("perplexity: there is no tokenizer", "pass { tokenizer, context }");
  refuseUnknown("perplexity: there is no option", Object.keys(options), optionNames);
  const { tokenizer, context, stride = Math.ceil(context / 2), startId, batchSize = 8 } = options;
  const list = typeof texts === "string" ? [texts] : texts;
  if (!Array.isArray(list))
    throw new ArgumentError(`perplexity: the texts are ${typeof texts}`, "give a text or an array of texts");
  for (const [name, value] of Object.entries({ context, stride, batchSize })) {
    if (!Number.isInteger(value) || value < 1)
      throw new ArgumentError(`perplexity: ${name} is ${value}`, "give a positive integer");
  }
  if (context < 2) throw new ArgumentError(`perplexity: context is ${context}`, "give at least 2");
  if (stride > context) {
    throw new ArgumentError(
      `perplexity: stride is ${stride} with a context of ${context}: tokens would be left out`,
      "give a stride of at most the context",
    );
  }
  checkTokenizer("perplexity", model, tokenizer);
  using interruption = new Interruption(options.signal);
  const windows = list.flatMap((text) => {
    const ids = tokenizer.encode(text);
    return windowsOf(startId === undefined ? ids : Int32Array.of(startId, ...ids), context, stride);
  });
  if (windows.length === 0) {
    throw new ArgumentError(
      `perplexity: ${list.length} texts have no token to predict`,
      "give texts of at least two tokens, or one with startId",
    );
  }
  let nats = 0;
  let tokens = 0;
  const pending: Promise<ArrayLike<number | bigint>>[] = [];
  const add = (values: ArrayLike<number | bigint>): void => {
    for (const value of Array.from(values)) nats += Number(value);
  };
  for (let at = 0; at < windows.length; at += batchSize) {
    if (interruption.requested)
      throw new Interrupted(`perplexity: stopped after ${at} of ${windows.length} windows`);
    const group = windows.slice(at, at + batchSize);
    tokens += group.reduce((n, { predicted }) => n + predicted, 0);
    pending.push(natsOf(model, group, context, Math.min(batchSize, windows.length)));
    // Two in flight, so that the device does not wait for the host.
    if (pending.length > 2) add(await pending.shift()!);
  }
  for (const values of pending) add(await values);
  const bytes = list.reduce((n, text) => n + Buffer.byteLength(text), 0);
  const words = list.reduce((n, text) => n + (text.match(/\S+/g)?.length ?? 0), 0);
  return {
    perplexity: Math.exp(nats / tokens),
    bytePerplexity: Math.exp(nats / bytes),
    wordPerplexity: Math.exp(nats / words),
    bitsPerByte: nats / bytes / Math.LN2,
    nats,
    tokens,
    bytes,
    words,
  };
}

function windowsOf(ids: Int32Array, context: number, stride: number): Window[] {
  const windows: Window[] = [];
  let done = 1;
  for (let begin = 0; done < ids.length; begin += stride) {
    const end = Math.min(begin + context, ids.length);
    // The first token of a window has nothing before it.
    const predicted = Math.min(end - done, end - begin - 1);
    if (predicted > 0) windows.push({ ids: ids.subarray(begin, end), predicted });
    done = end;
  }
  return windows;
}

/** Windows filled up to [batch, context]: a causal model does not see what comes after. */
function natsOf(
  model: LanguageModel,
  windows: readonly Window[],
  context: number,
  batch: number,
): Promise<ArrayLike<number | bigint>> {
  const time = context - 1;
  const inputs = new Int32Array(batch * time);
  const targets = new Int32Array(batch * time);
  const weights = new Float32Array(batch * time);
  for (const [i, { ids, predicted }] of windows.entries()) {
    inputs.set(ids.subarray(0, ids.length - 1), i * time);
    targets.set(ids.subarray(1), i * time);
    weights.fill(1, i * time + ids.length - 1 - predicted, i * time + ids.length - 1);
  }
  const device = (view: Int32Array | Float32Array, dtype: "int32" | "float32"): Tensor =>
    fromBytes(new Uint8Array(view.buffer), [batch, time], dtype);
  return windowNats(
    model,
    device(inputs, "int32"),
    device(targets, "int32"),
    device(weights, "float32"),
  ).data();
}
