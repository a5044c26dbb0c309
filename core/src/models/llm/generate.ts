/** Sampling text from a language model. */
import { tensor } from "../../array/creation.js";
import { cast, div, equal, greaterEqual, log, maximum, where } from "../../array/elementwise.js";
import { dynamicSlice } from "../../array/indexing.js";
import { categorical, foldIn, type Key, key as makeKey } from "../../array/random.js";
import { argmax, max } from "../../array/reductions.js";
import { reshape } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import type { Tokenizer } from "../../data/tokenizer.js";
import { ArgumentError } from "../../graph/errors.js";
import type { KeyValueCache } from "../../nn/cache.js";
import { jit } from "../../transform/jit.js";
import type { LanguageModel } from "./model.js";

export interface GenerateOptions {
  tokenizer: Tokenizer;
  prompt: string;
  /** Default 100. */
  maxTokens?: number;
  /** Divides the logits before sampling; 0 takes the likeliest token. Default 1. */
  temperature?: number;
  /** Leaves out tokens less likely than this share of the likeliest one's probability (Nguyen et al. 2024). Default 0. */
  minP?: number;
  /** Default 0. */
  seed?: number;
  /** Tokens the model sees at most: the length it was trained on. Default 128. */
  context?: number;
  /** Stop at this token. Default the tokenizer's end of text. */
  stopId?: number;
  /** Called with each piece of text as it comes. */
  onText?: (text: string) => void;
  signal?: AbortSignal;
}

interface Sampling {
  readonly temperature: Tensor;
  readonly minP: Tensor;
  readonly key: Key;
}

/** Reads `count` tokens of `chunk` [1, time] into the cache and draws the next one. */
const nextToken = jit(
  (
    cache: KeyValueCache,
    model: LanguageModel,
    chunk: Tensor,
    count: Tensor,
    { temperature, minP, key }: Sampling,
  ) => {
    const logits = model.forward(chunk, { cache });
    cache.advance(count);
    const row = cast(
      reshape(dynamicSlice(logits, [0, count.sub(1), 0], [1, 1, logits.shape[2]!]), [-1]),
      "float32",
    );
    const heated = div(row, maximum(temperature, 1e-6));
    const likely = greaterEqual(heated, max(heated).add(log(maximum(minP, 1e-30))));
    const drawn = categorical(foldIn(key, cache.position), where(likely, heated, -1e30));
    return { next: where(equal(temperature, 0), argmax(row), drawn), cache };
  },
  { name: "next_token", donate: [0], tag: () => "cache" },
);

/**
 * Continues `prompt`, one token at a time; returns the prompt and what was added. The keys and values of earlier tokens are kept, so that
 * a token costs one position. When `context` is full, the model goes on from the last half of it.
 */
export async function generate(model: LanguageModel, options: GenerateOptions): Promise<string> {
  const { tokenizer, prompt, maxTokens = 100, temperature = 1, minP = 0, context = 128, seed = 0 } = options;
  if (!(temperature >= 0))
    throw new ArgumentError(`generate: temperature is ${temperature}`, "give a number of at least 0");
  if (!(minP >= 0 && minP <= 1))
    throw new ArgumentError(`generate: minP is ${minP}`, "give a number from 0 to 1");
  if (!Number.isInteger(context) || context < 2)
    throw new ArgumentError(`generate: context is ${context}`, "give at least 2");
  const stopId = options.stopId ?? tokenizer.eosId;
  const ids = [...tokenizer.encode(prompt)];
  if (ids.length === 0) ids.push(stopId ?? 0);
  const stream = tokenizer.stream({ skipSpecialTokens: true });
  const float = (x: number): Tensor => tensor(Float32Array.of(x), { shape: [] });
  const sampling: Sampling = { temperature: float(temperature), minP: float(minP), key: makeKey(seed) };
  let text = prompt;
  const emit = (piece: string): void => {
    if (piece === "") return;
    text += piece;
    options.onText?.(piece);
  };
  let cache = model.newCache(1, context);
  let held = 0;
  let unread = ids.slice(-context);
  for (let made = 0; made < maxTokens && options.signal?.aborted !== true; made++) {
    if (held + unread.length > context) {
      cache = model.newCache(1, context);
      held = 0;
      unread = ids.slice(-Math.ceil(context / 2));
    }
    // Prompts are padded to a power of two, so that few lengths are compiled.
    const room = unread.length === 1 ? 1 : Math.min(2 ** Math.ceil(Math.log2(unread.length)), context);
    const chunk = new Int32Array(room);
    chunk.set(unread);
    const count = tensor(Int32Array.of(unread.length), { shape: [] });
    const read = nextToken(cache, model, tensor(chunk, { shape: [1, room] }), count, sampling);
    cache = read.cache;
    held += unread.length;
    const id = await read.next.item();
    if (id === stopId) break;
    ids.push(id);
    unread = [id];
    emit(stream.push(id));
  }
  emit(stream.end());
  return text;
}
