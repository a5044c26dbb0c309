/**
 * The compiled part of generation: a batch of prompts, filled up on the left to one length, is read into a cache, and then several
 * tokens a row are decoded in one program, so that the host is asked once for all of them.
 */

import { zeros } from "../../array/broadcast.js";
import { fromBytes, scalar, tensor } from "../../array/creation.js";
import { add, equal, less, not, or } from "../../array/elementwise.js";
import { dynamicUpdateSlice, slice } from "../../array/indexing.js";
import type { Key } from "../../array/random.js";
import { any } from "../../array/reductions.js";
import { expandDims } from "../../array/shaping.js";
import { Tensor } from "../../array/tensor.js";
import type { KeyValueCache } from "../../nn/cache.js";
import { jit } from "../../transform/jit.js";
import { map as mapTree } from "../../transform/tree.js";
import { whileLoop } from "../../transform/while.js";
import type { LanguageModel } from "./model.js";
import {
  nextTokens,
  type Sampling,
  type StepProbabilities,
  stepProbabilities,
  withSeen,
} from "./sampling.js";

/** What goes from one call to the next. */
interface State {
  readonly cache: KeyValueCache;
  /** The newest token of each row, not yet read: int32 [batch]. */
  readonly newest: Tensor;
  /** With a repetition penalty: bool [batch, vocabSize]. */
  readonly seen?: Tensor;
  /** Tokens made so far, an int32 scalar: no two draws of a row share a step. */
  readonly step: Tensor;
  /** Of the newest token, where they are asked for. */
  readonly probabilities?: StepProbabilities;
}

/** What stays the same for a whole generation. */
interface Setting {
  readonly sampling: Sampling;
  readonly key: Key;
  /** Numbers of the rows among all prompts, int32 [batch]. */
  readonly rows: Tensor;
  /** int32 [n]: a row that draws one of them is done. */
  readonly stopIds: Tensor;
  readonly vocabulary: number;
  /** Likeliest tokens to give with each drawn one's log-probability; undefined for no log-probabilities. */
  readonly alternatives?: number;
}

function choose(logits: Tensor, cache: KeyValueCache, state: State, setting: Setting): State {
  const { sampling, key, rows, vocabulary, alternatives } = setting;
  const { seen, step } = state;
  const newest = nextTokens(logits, sampling, { key, rows, step }, { seen, vocabulary });
  return {
    cache,
    newest,
    ...(seen !== undefined && { seen: withSeen(seen, newest) }),
    step: add(step, 1),
    ...(alternatives !== undefined && {
      probabilities: stepProbabilities(logits, newest, sampling, alternatives),
    }),
  };
}

/** Reads prompts [batch, time] and draws a token after each. */
const read = jit(
  (state: State, model: LanguageModel, prompts: Tensor, setting: Setting): State => {
    const { cache } = state;
    // Logits of every place of a long prompt would take more memory than all else.
    const last = slice(model.hidden(prompts, { cache }), null, [-1]);
    cache.advance(prompts.shape[1]!);
    return choose(slice(model.logits(last), null, 0), cache, state, setting);
  },
  { name: "read_prompts", donate: [0], tag: tagOf, manyTraces: true },
);

/** Draws up to `limit` tokens a row, at most `room`; fewer once every row is done. */
const decode = jit(
  (state: State, model: LanguageModel, done: Tensor, limit: Tensor, room: number, setting: Setting) => {
    const batch = done.shape[0]!;
    const drawn = zeros([batch, room], { dtype: "int32" });
    // Of every step beside one another, in the form of one step's.
    const probabilities = mapTree(
      (x) => zeros([batch, room, ...x.shape.slice(1)], { dtype: x.dtype }),
      state.probabilities,
    );
    const start = { state, done, drawn, probabilities, made: scalar(0, "int32") };
    const end = whileLoop(
      ({ done, made }) => any(not(done)).and(less(made, limit)),
      ({ state, done, drawn, probabilities, made }) => {
        const { cache } = state;
        const logits = model.forward(expandDims(state.newest, 1), { cache });
        cache.advance(1);
        const next = choose(slice(logits, null, 0), cache, state, setting);
        const put = (all: Tensor, one: Tensor): Tensor =>
          dynamicUpdateSlice(all, expandDims(one, 1), [0, made, ...one.shape.slice(1).map(() => 0)]);
        const stops = any(equal(expandDims(next.newest, 1), setting.stopIds), -1);
        return {
          state: next,
          done: or(done, stops),
          drawn: put(drawn, next.newest),
          probabilities: mapTree(put, probabilities, next.probabilities),
          made: add(made, 1),
        };
      },
      start,
    );
    return { state: end.state, drawn: end.drawn, probabilities: end.probabilities };
  },
  { name: "decode_tokens", donate: [0], tag: tagOf, manyTraces: true },
);

function tagOf(path: string): "cache" | undefined {
  return path.includes("cache.") ? "cache" : undefined;
}

export interface DecoderOptions {
  readonly sampling: Sampling;
  readonly key: Key;
  readonly rows: readonly number[];
  readonly stopIds: readonly number[];
  /** Ids below this may be drawn. */
  readonly vocabulary: number;
  /** Likeliest tokens to give with each drawn one's log-probability; undefined for no log-probabilities. */
  readonly alternatives?: number;
  /** Tokens a row that one call may decode. */
  readonly tokensPerCall: number;
}

/** A token with its log-probability (`stepProbabilities` says under what). */
export interface TokenProbability {
  readonly id: number;
  readonly logProbability: number;
}

/** A token that was drawn. */
export interface DrawnToken {
  readonly id: number;
  readonly logProbability?: number;
  /** The likeliest tokens, the likeliest first. */
  readonly alternatives?: readonly TokenProbability[];
}

/** A batch of texts that are being continued. */
export class Decoder {
  readonly #setting: Setting;
  #state: State | undefined;
  #step = 0;

  constructor(
    private readonly model: LanguageModel,
    private readonly options: DecoderOptions,
  ) {
    const { sampling, key, rows, stopIds, vocabulary, alternatives } = options;
    this.#setting = {
      sampling,
      key,
      rows: ints(rows),
      stopIds: ints(stopIds),
      vocabulary,
      ...(alternatives !== undefined && { alternatives }),
    };
  }

  /**
   * Starts again from whole texts; returns a token for each.
   *
   * @param windows - the tokens that the model is to see, of each text
   * @param texts - all tokens so far, for the repetition penalty
   * @param time - tokens that the windows are filled up to
   * @param length - of the cache
   */
  async read(
    windows: readonly (readonly number[])[],
    texts: readonly (readonly number[])[],
    time: number,
    length: number,
  ): Promise<DrawnToken[]> {
    const batch = windows.length;
    const prompts = new Int32Array(batch * time);
    for (const [i, ids] of windows.entries()) prompts.set(ids, (i + 1) * time - ids.length);
    const padding = ints(windows.map((ids) => time - ids.length));
    const cache = this.model.newCache(batch, length, padding);
    const state: State = {
      cache,
      newest: zeros([batch], { dtype: "int32" }),
      ...(this.options.sampling.repetitionPenalty !== undefined && { seen: this.#seen(texts) }),
      step: scalar(this.#step, "int32"),
    };
    this.#state = read(state, this.model, tensor(prompts, { shape: [batch, time] }), this.#setting);
    this.#step++;
    return drawnTokens(this.#state.newest, this.#state.probabilities);
  }

  /** Goes on; returns `count` tokens of each row, what follows a stop id in a row being of no use. */
  async decode(count: number, done: readonly boolean[]): Promise<DrawnToken[][]> {
    const room = this.options.tokensPerCall;
    const flags = fromBytes(Uint8Array.from(done, Number), [done.length], "bool");
    const limit = tensor(Int32Array.of(count), { shape: [] });
    const { state, drawn, probabilities } = decode(
      this.#state!,
      this.model,
      flags,
      limit,
      room,
      this.#setting,
    );
    this.#state = state;
    this.#step += count;
    const flat = await drawnTokens(drawn, probabilities);
    return done.map((_, row) => flat.slice(row * room, row * room + count));
  }

  #seen(texts: readonly (readonly number[])[]): Tensor {
    const { vocabSize } = this.model.config;
    const flags = new Uint8Array(texts.length * vocabSize);
    for (const [row, ids] of texts.entries()) for (const id of ids) flags[row * vocabSize + id] = 1;
    return fromBytes(flags, [texts.length, vocabSize], "bool");
  }
}

/** The tokens of [...] ids, one after another, with their probabilities. */
export async function drawnTokens(
  ids: Tensor | readonly number[],
  probabilities?: StepProbabilities,
): Promise<DrawnToken[]> {
  const numbers = async (x: Tensor): Promise<number[]> => Array.from(await x.data(), Number);
  const drawn = ids instanceof Tensor ? await numbers(ids) : ids;
  if (probabilities === undefined) return drawn.map((id) => ({ id }));
  const logs = await numbers(probabilities.drawn);
  const { likeliest } = probabilities;
  if (likeliest === undefined) return drawn.map((id, i) => ({ id, logProbability: logs[i]! }));
  const [others, values] = [await numbers(likeliest.ids), await numbers(likeliest.values)];
  const count = others.length / drawn.length;
  return drawn.map((id, i) => ({
    id,
    logProbability: logs[i]!,
    alternatives: others
      .slice(i * count, (i + 1) * count)
      .map((other, k) => ({ id: other, logProbability: values[i * count + k]! })),
  }));
}

function ints(values: readonly number[]): Tensor {
  return tensor(Int32Array.from(values), { shape: [values.length] });
}
