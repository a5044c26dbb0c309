/** Sampling text from a language model. */

import { tensor } from "../../array/creation.js";
import { cast, div, equal, maximum, where } from "../../array/elementwise.js";
import { dynamicSlice } from "../../array/indexing.js";
import { categorical, foldIn, key as makeKey } from "../../array/random.js";
import { argmax } from "../../array/reductions.js";
import { reshape } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import type { Tokenizer } from "../../data/tokenizer.js";
import { ArgumentError } from "../../graph/errors.js";
import { jit } from "../../transform/jit.js";

/** A model of the next token: integer [batch, time] to logits [batch, time, vocabSize]. */
export interface LanguageModel {
  forward(tokens: Tensor): Tensor;
}

export interface GenerateOptions {
  tokenizer: Tokenizer;
  prompt: string;
  /** Default 100. */
  maxTokens?: number;
  /** Divides the logits before sampling; 0 takes the likeliest token. Default 1. */
  temperature?: number;
  /** Default 0. */
  seed?: number;
  /** Tokens the model sees: the length it was trained on. Default 128. */
  context?: number;
  /** Stop at this token. Default the tokenizer's end of text. */
  stopId?: number;
  /** Called with each piece of text as it comes. */
  onText?: (text: string) => void;
  signal?: AbortSignal;
}

const nextToken = jit(
  (model: LanguageModel, window: Tensor, last: Tensor, temperature: Tensor, base: Tensor, count: Tensor) => {
    const logits = model.forward(window);
    const row = reshape(dynamicSlice(logits, [0, last, 0], [1, 1, logits.shape[2]!]), [-1]);
    const wide = cast(row, "float32");
    const sampled = categorical(foldIn(base, count), div(wide, maximum(temperature, 1e-6)));
    return where(equal(temperature, 0), argmax(wide), sampled);
  },
  { name: "next_token" },
);

/**
 * Continues `prompt`, one token at a time; returns the prompt and what was added. Beyond `context` tokens the model sees the last ones.
 */
export async function generate(model: LanguageModel, options: GenerateOptions): Promise<string> {
  const {
    tokenizer,
    prompt,
    maxTokens = 100,
    temperature = 1,
    context = 128,
    seed = 0,
    onText,
    signal,
  } = options;
  if (!(temperature >= 0))
    throw new ArgumentError(`generate: temperature is ${temperature}`, "give a number of at least 0");
  const stopId = options.stopId ?? tokenizer.eosId;
  const ids = [...tokenizer.encode(prompt)];
  if (ids.length === 0) ids.push(stopId ?? 0);
  const stream = tokenizer.stream({ skipSpecialTokens: true });
  const base = makeKey(seed);
  const heat = tensor(temperature, { dtype: "float32" });
  let text = prompt;
  const emit = (piece: string): void => {
    if (piece === "") return;
    text += piece;
    onText?.(piece);
  };
  for (let count = 0; count < maxTokens && signal?.aborted !== true; count++) {
    const visible = ids.slice(-context);
    const window = new Int32Array(context);
    window.set(visible);
    const next = nextToken(
      model,
      tensor(window, { shape: [1, context] }),
      tensor(Int32Array.of(visible.length - 1), { shape: [] }),
      heat,
      base,
      tensor(Int32Array.of(count), { shape: [] }),
    );
    const id = await next.item();
    if (id === stopId) break;
    ids.push(id);
    emit(stream.push(id));
  }
  emit(stream.end());
  return text;
}
