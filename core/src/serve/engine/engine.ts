/** Continuous batching over shared pages: texts come and go while others are computed. */
import { zeros } from "../../array/broadcast.js";
import type { Tensor } from "../../array/tensor.js";
import type { Tokenizer } from "../../data/text/tokenizer.js";
import { ArgumentError } from "../../graph/errors.js";
import { refuseUnknownOptions } from "../../graph/spelling.js";
import { checkTokenizer } from "../../models/llm/check-tokenizer.js";
import { drawnTokens } from "../../models/llm/decoding.js";
import { type Pooling, textVectors } from "../../models/llm/embed.js";
import { usualStops } from "../../models/llm/generate.js";
import type { LanguageModel } from "../../models/llm/model.js";
import type { Module } from "../../nn/module.js";
import type { Pages } from "../../nn/paged-cache.js";
import { adapterNames, remove } from "../../peft/model.js";
import { stackAdapters } from "../../peft/rows.js";
import { load as loadAdapter } from "../../peft/save.js";
import { jit } from "../../transform/jit.js";
import { flatten } from "../../transform/tree.js";
import { PageStore } from "./pages.js";
import { grammarMasks, ints, plainRow, power, rowSampling } from "./rows.js";
import { rowHead, type StepInput, type StepKind, type StepResult, step } from "./step.js";
import { checkRequest, Text } from "./text.js";
import type { Engine, EngineRequest, EngineStatistics, EngineStream, EngineToken } from "./types.js";

export interface EngineOptions {
  tokenizer: Tokenizer;
  /** Tokens a text may have, prompt included. Default what the model has positions for, at most 4096. */
  context?: number;
  /** Tokens of a page. Default 16. */
  pageSize?: number;
  /** Pages of all texts together. Default room for eight texts of the whole context. */
  pages?: number;
  /** Texts computed at once. Default 32. */
  maxBatch?: number;
  /** Tokens of a prompt that are read in one step, between which others go on. Default 512. */
  chunk?: number;
  /** Keeps the pages of prompts for later ones that begin alike. Default true. */
  prefixCache?: boolean;
  /** How `embed` pools. Default `"mean"`. */
  pooling?: Pooling;
}

type Servable = LanguageModel & Module;

/**
 * Serves a model: `submit` queues a request and gives its stream. The model's own parameters are read, not a copy: a Trainer's next step is seen by
 * the next token. What a text becomes does not depend on the texts beside it, but for the rounding of other batch sizes.
 *
 * @throws ArgumentError for options that do not fit the model
 */
export function createEngine(model: Servable, options: EngineOptions): Engine {
  return new PagedEngine(model, options);
}

const vectors = jit(
  (model: LanguageModel, tokens: Tensor, lengths: Tensor, pooling: Pooling) =>
    textVectors(model, tokens, lengths, pooling),
  { name: "serve_embed", manyTraces: true },
);

class PagedEngine implements Engine {
  readonly context: number;
  readonly vocabSize: number;
  readonly #tokenizer: Tokenizer;
  readonly #pageSize: number;
  readonly #maxBatch: number;
  readonly #chunk: number;
  readonly #prefixes: boolean;
  readonly #pooling: Pooling;
  readonly #shape: { layers: number; heads: number; headDim: number; dtype: Tensor["dtype"] };
  readonly #store: PageStore;
  #model: Servable;
  /** Of `#model` with the factors of all adapters stacked; the same model where there are none. */
  #stacked: Servable;
  /** Name of each adapter, and what sets its pages apart from those of an earlier one of that name. */
  #adapters = new Map<string, string>();
  #loads = 0;
  /** Those that are being unloaded: no request may begin with them. */
  readonly #leaving = new Set<string>();
  #pages: Pages | undefined;
  #waiting: Text[] = [];
  /** In the order of their admission. */
  #running: Text[] = [];
  /** The parameters that the pages are of. */
  #parameters: readonly unknown[] = [];
  #generation = 0;
  #loop: Promise<void> | undefined;
  #closing: "drain" | "close" | undefined;
  readonly #counts = {
    promptTokens: 0,
    generatedTokens: 0,
    prefixQueries: 0,
    prefixHits: 0,
    preemptions: 0,
    steps: 0,
    stepTokens: 0,
  };

  constructor(model: Servable, options: EngineOptions) {
    refuseUnknownOptions("createEngine", options, [
      "tokenizer",
      "context",
      "pageSize",
      "pages",
      "maxBatch",
      "chunk",
      "prefixCache",
      "pooling",
    ]);
    const {
      tokenizer,
      pageSize = 16,
      maxBatch = 32,
      chunk = 512,
      prefixCache = true,
      pooling = "mean",
    } = options;
    checkTokenizer("createEngine", model, tokenizer);
    const longest = Math.min(
      model.config.maxPositions ?? Number.POSITIVE_INFINITY,
      model.alikeLength ?? Number.POSITIVE_INFINITY,
    );
    const context = options.context ?? Math.min(longest, 4096);
    const pages = options.pages ?? 8 * Math.ceil(context / pageSize);
    for (const [name, value] of Object.entries({ context, pageSize, pages, maxBatch, chunk })) {
      if (!(Number.isInteger(value) && value >= 1))
        throw new ArgumentError(`createEngine: ${name} is ${value}`, "give a positive integer");
    }
    if (context > longest)
      throw new ArgumentError(
        `createEngine: a context of ${context}, where the model has ${longest} positions that are seen alike`,
        "give a smaller context",
      );
    const empty = model.newCache(1, 1);
    if (empty.lead > 0 || empty.keys[0]!.shape[1] !== 1)
      throw new ArgumentError(
        "createEngine: every text of this model begins with a prompt or prefix of an adapter",
        "serve the base, or merge an adapter that can be merged",
      );
    const [, , heads, headDim] = empty.keys[0]!.shape as [number, number, number, number];
    this.#shape = { layers: empty.keys.length, heads, headDim, dtype: empty.keys[0]!.dtype };
    this.context = Math.min(context, pages * pageSize);
    this.vocabSize = model.config.vocabSize;
    this.#tokenizer = tokenizer;
    this.#pageSize = pageSize;
    this.#maxBatch = maxBatch;
    this.#chunk = chunk;
    this.#prefixes = prefixCache;
    this.#pooling = pooling;
    this.#store = new PageStore(pages, pageSize);
    this.#model = model;
    this.#stacked = model;
    const names = adapterNames(model);
    if (names.length > 0) this.#restack(model, names);
  }

  submit(request: EngineRequest): EngineStream {
    if (this.#closing !== undefined)
      throw new ArgumentError("submit: the engine takes no more requests", "it drains: make another one");
    const adapters = this.adapters().filter((name) => !this.#leaving.has(name));
    checkRequest(request, { context: this.context, vocabSize: this.vocabSize, adapters });
    const own = request.ignoreEnd ? [] : usualStops(this.#model, this.#tokenizer);
    const stopIds = new Set([...own, ...(request.stopIds ?? [])]);
    const text = new Text(request, this.#tokenizer, this.context, stopIds, () => this.#start());
    text.salt = request.adapter === undefined ? "" : this.#adapters.get(request.adapter)!;
    this.#queue(text, (other) => priorityOf(other) > priorityOf(text));
    this.#start();
    return text.queue;
  }

  async embed(
    prompts: readonly (readonly number[])[],
    { dimensions }: { dimensions?: number } = {},
  ): Promise<Float32Array[]> {
    for (const prompt of prompts)
      checkRequest({ prompt }, { context: this.context + 1, vocabSize: this.vocabSize, adapters: [] });
    const all: Float32Array[] = [];
    for (let at = 0; at < prompts.length; at += this.#maxBatch) {
      const part = prompts.slice(at, at + this.#maxBatch);
      const time = power(Math.max(...part.map((ids) => ids.length)));
      const rows = power(part.length);
      const tokens = new Int32Array(rows * time);
      for (const [i, ids] of part.entries()) tokens.set(ids, i * time);
      const lengths = Int32Array.from({ length: rows }, (_, i) => part[i]?.length ?? 1);
      const found = vectors(this.#model, ints(tokens, [rows, time]), ints(lengths), this.#pooling);
      const width = found.shape[1]!;
      if (
        dimensions !== undefined &&
        !(Number.isInteger(dimensions) && dimensions >= 1 && dimensions <= width)
      )
        throw new ArgumentError(`embed: dimensions is ${dimensions}`, `give an integer from 1 to ${width}`);
      const data = (await found.data()) as Float32Array;
      for (const i of part.keys()) all.push(shortened(data.slice(i * width, (i + 1) * width), dimensions));
    }
    return all;
  }

  statistics(): EngineStatistics {
    const { count, free, pageSize } = this.#store;
    return {
      ...this.#counts,
      running: this.#running.length,
      waiting: this.#waiting.length,
      cacheUsage: (count - free) / count,
      freePages: free,
      pages: count,
      pageSize,
      drafts: 0,
      draftTokens: 0,
      acceptedTokens: 0,
    };
  }

  adapters(): readonly string[] {
    return [...this.#adapters.keys()];
  }

  async loadAdapter(name: string, folder: string): Promise<void> {
    if (this.#adapters.has(name))
      throw new ArgumentError(`loadAdapter: ${JSON.stringify(name)} is loaded already`, "unload it first");
    const loaded = await loadAdapter(this.#model, folder, { name });
    this.#restack(loaded, [...this.#adapters.keys(), name]);
  }

  async unloadAdapter(name: string): Promise<void> {
    if (!this.#adapters.has(name) || this.#leaving.has(name))
      throw new ArgumentError(
        `unloadAdapter: there is no adapter ${JSON.stringify(name)}`,
        `loaded: ${this.adapters().join(", ") || "none"}`,
      );
    this.#leaving.add(name);
    const using = (): Text[] =>
      [...this.#running, ...this.#waiting].filter(({ request }) => request.adapter === name);
    for (const text of using()) text.aborted = true;
    // They end before the next step.
    while (using().length > 0) await new Promise((resolve) => setImmediate(resolve));
    this.#leaving.delete(name);
    this.#restack(
      remove(this.#model, name),
      this.adapters().filter((each) => each !== name),
    );
  }

  async warmUp(onProgress?: (done: number, of: number) => void): Promise<void> {
    const contexts = powers(Math.ceil(this.context / this.#pageSize)).map((pages) => this.#width(pages));
    const times = powers(Math.min(this.#chunk, this.context)).map((time) => this.#time(time));
    const shapes = [...new Set(contexts)].flatMap((pages) => [
      ...powers(this.#maxBatch).map((batch) => ({ batch, time: 1, pages })),
      ...[...new Set(times)].filter((time) => time > 1).map((time) => ({ batch: 1, time, pages })),
    ]);
    for (const [i, { batch, time, pages }] of shapes.entries()) {
      for (const row of [undefined, plainRow(false), plainRow(true)]) {
        for (let run = 0; run < 3; run++) {
          await this.#loop;
          const input = this.#input([], { batch, time, pages });
          const sampling =
            row === undefined ? input.sampling : rowSampling([row], batch, this.vocabSize, undefined);
          await this.#run({ ...input, sampling }, { time }).tokens.data();
        }
      }
      onProgress?.(i + 1, shapes.length);
    }
  }

  async drain(): Promise<void> {
    this.#closing ??= "drain";
    while (this.#loop !== undefined) await this.#loop;
  }

  async close(): Promise<void> {
    this.#closing = "close";
    for (const text of [...this.#running, ...this.#waiting]) text.aborted = true;
    this.#start();
    while (this.#loop !== undefined) await this.#loop;
    this.#pages = undefined;
  }

  /** Takes other adapters. The pages of those that stay are still theirs. */
  #restack(model: Servable, names: readonly string[]): void {
    const salts = names.map(
      (name) => [name, this.#adapters.get(name) ?? `${name} ${++this.#loads}`] as const,
    );
    this.#stacked = names.length === 0 ? model : stackAdapters(model, names);
    this.#model = model;
    this.#adapters = new Map(salts);
  }

  /** Puts a text among those that wait, before the first one of which this holds. */
  #queue(text: Text, before: (other: Text) => boolean): void {
    const at = this.#waiting.findIndex(before);
    this.#waiting.splice(at < 0 ? this.#waiting.length : at, 0, text);
  }

  #start(): void {
    this.#loop ??= this.#work().finally(() => {
      this.#loop = undefined;
      // A request may have come after the last look.
      if (this.#waiting.length + this.#running.length > 0) this.#start();
    });
  }

  async #work(): Promise<void> {
    // All that are submitted at once begin together.
    await Promise.resolve();
    for (;;) {
      for (const text of [...this.#running, ...this.#waiting]) {
        if (!text.aborted) continue;
        text.abort();
        this.#end(text);
      }
      this.#lookAtParameters();
      this.#admit();
      if (this.#running.length === 0) return;
      try {
        await this.#step();
      } catch (error) {
        this.#fail(error instanceof Error ? error : new Error(String(error)));
      }
    }
  }

  /**
   * Where the model's parameters have changed, no later text finds pages of the old ones. Texts that are being written go on with the keys and
   * values that they have.
   */
  #lookAtParameters(): void {
    const now = flatten(this.#stacked).leaves.map((leaf) => leaf.buffer ?? leaf);
    const same =
      now.length === this.#parameters.length && now.every((each, i) => each === this.#parameters[i]);
    if (same) return;
    this.#parameters = now;
    this.#generation++;
    this.#store.clear();
  }

  /** Begins waiting texts as long as there is room. */
  #admit(): void {
    while (this.#running.length < this.#maxBatch) {
      const [text] = this.#waiting;
      if (text === undefined) return;
      const found = this.#prefixes && text.promptTokens === undefined;
      if (found) text.held = this.#store.match(text.ids, text.salt);
      const needed = Math.ceil(text.ids.length / this.#pageSize) - text.held.pages.length;
      if (this.#running.length > 0 && needed > this.#store.free) {
        this.#store.release(text.held);
        return;
      }
      this.#waiting.shift();
      this.#running.push(text);
      text.computed = text.held.pages.length * this.#pageSize;
      text.generation = this.#generation;
      if (text.cachedTokens !== undefined) continue;
      text.cachedTokens = text.computed;
      text.queue.times.scheduled = performance.now();
      this.#counts.promptTokens += text.ids.length;
      if (!found) continue;
      this.#counts.prefixQueries += text.ids.length;
      this.#counts.prefixHits += text.computed;
    }
  }

  /** Pages that a step reads for so many: few numbers, so that few programs are compiled. */
  #width(pages: number): number {
    return Math.min(Math.max(power(pages), 8), power(Math.ceil(this.context / this.#pageSize)));
  }

  /** Tokens of a row of a step that has so many, as for pages. */
  #time(tokens: number): number {
    return tokens === 1 ? 1 : Math.min(Math.max(power(tokens), 16), power(this.#chunk));
  }

  /** One chunk of one prompt, and a token of each text whose prompt is read. */
  async #step(): Promise<void> {
    const reading = this.#running.find((text) => text.ids.length - text.computed > 1);
    const decoding = this.#running.filter((text) => text.ids.length - text.computed === 1);
    // The oldest first: what is put back is the newest.
    for (const text of decoding) if (this.#running.includes(text)) this.#makeRoom(text, text.ids.length);
    const left = decoding.filter((text) => this.#running.includes(text));
    const groups: { texts: Text[]; time: number }[] = [];
    if (reading !== undefined && this.#running.includes(reading)) {
      const time = Math.min(this.#chunk, reading.ids.length - reading.computed);
      this.#makeRoom(reading, reading.computed + time);
      if (this.#running.includes(reading)) groups.push({ texts: [reading], time });
    }
    const still = left.filter((text) => this.#running.includes(text));
    if (still.length > 0) groups.push({ texts: still, time: 1 });
    const results: { texts: Text[]; time: number; result: StepResult }[] = [];
    for (const { texts, time } of groups) {
      const masks = await grammarMasks(texts, time, this.vocabSize);
      const pages = this.#width(Math.max(...texts.map(({ held }) => held.pages.length)));
      const shape = { batch: power(texts.length), time: this.#time(time), pages };
      const alternatives = most(
        texts.map(({ request }) => request.logProbabilities),
        this.vocabSize,
      );
      const wanted = texts.find(({ promptTokens, drawn }) => promptTokens !== undefined && drawn === 0);
      const prompt = time > 1 ? most([wanted?.request.promptLogProbabilities], this.vocabSize) : undefined;
      const result = this.#run(this.#input(texts, shape, time, masks), {
        time: shape.time,
        ...(alternatives !== undefined && { alternatives }),
        ...(prompt !== undefined && { promptAlternatives: prompt }),
      });
      results.push({ texts, time, result });
    }
    for (const { texts, time, result } of results) await this.#take(texts, time, result);
  }

  /** Gives each text what its tokens became. */
  async #take(texts: readonly Text[], time: number, result: StepResult): Promise<void> {
    const tokens = await drawnTokens(result.tokens, result.probabilities);
    const { prompt } = result;
    this.#counts.steps++;
    this.#counts.stepTokens += texts.length * time;
    for (const [i, text] of texts.entries()) {
      // A step of more than one token is of one text.
      if (prompt !== undefined && text.promptTokens !== undefined && text.drawn === 0) {
        const { promptLogProbabilities: wanted } = text.request;
        const following = Array.from(
          { length: prompt.drawn.size },
          (_, k) => text.request.prompt[text.computed + 1 + k] ?? 0,
        );
        const own = (await drawnTokens(following, prompt)).slice(
          0,
          text.request.prompt.length - text.computed - 1,
        );
        text.promptTokens.push(...own.slice(0, time).map((token) => only(token, wanted)));
      }
      text.computed += time;
      this.#fillPages(text);
      if (text.finish === "failed") {
        this.#end(text);
        continue;
      }
      if (text.computed < text.ids.length || text.aborted) continue;
      this.#counts.generatedTokens++;
      const { logProbabilities: wanted } = text.request;
      text.take(only(tokens[i]!, wanted));
      if (text.finish !== undefined) this.#end(text);
    }
  }

  #fillPages(text: Text): void {
    const size = this.#pageSize;
    if (text.generation !== this.#generation) return;
    while (this.#prefixes && (text.held.keys.length + 1) * size <= text.computed) {
      const from = text.held.keys.length * size;
      this.#store.fill(text.held, text.ids.slice(from, from + size), text.salt);
    }
  }

  /** Pages for so many tokens of a text; puts back the newest texts where there are none. */
  #makeRoom(text: Text, tokens: number): void {
    while (text.held.pages.length * this.#pageSize < tokens) {
      const page = this.#store.take();
      if (page !== undefined) {
        text.held.pages.push(page);
        continue;
      }
      const newest = this.#running.reduce((a, b) => (priorityOf(b) >= priorityOf(a) ? b : a));
      this.#running = this.#running.filter((other) => other !== newest);
      this.#store.release(newest.held);
      newest.computed = 0;
      if (newest.promptTokens !== undefined && newest.drawn === 0) newest.promptTokens.length = 1;
      // Before all that came after it.
      this.#queue(newest, (other) => priorityOf(other) >= priorityOf(newest));
      this.#counts.preemptions++;
      if (newest === text) return;
    }
  }

  #end(text: Text): void {
    this.#store.release(text.held);
    this.#running = this.#running.filter((other) => other !== text);
    this.#waiting = this.#waiting.filter((other) => other !== text);
    text.dispose();
  }

  /** A step failed: what it wrote is lost, and the pages with it. */
  #fail(error: Error): void {
    for (const text of [...this.#running]) {
      text.queue.fail(error);
      this.#end(text);
    }
    this.#store.clear();
    this.#pages = undefined;
  }

  #run(input: StepInput, kind: Pick<StepKind, "time" | "alternatives" | "promptAlternatives">): StepResult {
    const { layers, heads, headDim, dtype } = this.#shape;
    const make = (): Tensor => zeros([this.#store.count + 1, this.#pageSize, heads, headDim], { dtype });
    const fresh = (): Tensor[] => Array.from({ length: layers }, make);
    const pages = this.#pages ?? { keys: fresh(), values: fresh() };
    const result = step(pages, this.#stacked, input, {
      ...kind,
      vocabulary: this.#tokenizer.vocabSize,
      adapters: this.#adapters.size > 0,
    });
    this.#pages = result.pages;
    return result;
  }

  /** What a step reads: rows and columns without a text are filled up, and kept nowhere. */
  #input(
    texts: readonly Text[],
    { batch, time, pages }: { batch: number; time: number; pages: number },
    count = 0,
    masks?: Int32Array,
  ): StepInput {
    const size = this.#pageSize;
    const width = rowHead + 3 * time + pages;
    const packed = new Int32Array(batch * width);
    const adapters = this.adapters();
    for (let row = 0; row < batch; row++) {
      const own = packed.subarray(row * width, (row + 1) * width);
      const [tokens, places, following] = [0, 1, 2].map((i) =>
        own.subarray(rowHead + i * time, rowHead + (i + 1) * time),
      ) as [Int32Array, Int32Array, Int32Array];
      places.fill((this.#store.count + 1) * size);
      const text = texts[row];
      if (text === undefined) continue;
      const { ids, computed, held, request } = text;
      own[0] = computed;
      own[1] = count - 1;
      own[2] = request.adapter === undefined ? 0 : adapters.indexOf(request.adapter) + 1;
      own.set(held.pages, rowHead + 3 * time);
      for (let i = 0; i < count; i++) {
        const at = computed + i;
        tokens[i] = ids[at]!;
        following[i] = ids[at + 1] ?? 0;
        places[i] = held.pages[Math.floor(at / size)]! * size + (at % size);
      }
    }
    return {
      packed: ints(packed, [batch, width]),
      sampling: rowSampling(texts, batch, this.vocabSize, masks),
    };
  }
}

/** A token with as many alternatives as were asked for. */
function only({ id, logProbability, alternatives }: EngineToken, wanted: number | undefined): EngineToken {
  if (wanted === undefined) return { id };
  return { id, logProbability: logProbability!, alternatives: (alternatives ?? []).slice(0, wanted) };
}

function priorityOf({ request }: Text): number {
  return request.priority ?? 0;
}

/** Of length 1 again after the cut. */
function shortened(vector: Float32Array, dimensions: number | undefined): Float32Array {
  if (dimensions === undefined) return vector;
  const cut = vector.slice(0, dimensions);
  const length = Math.hypot(...cut);
  return length === 0 ? cut : cut.map((x) => x / length);
}

/** Likeliest tokens that serve all who ask for some: few numbers, each of which is a program. */
function most(values: readonly (number | undefined)[], vocabSize: number): number | undefined {
  const given = values.filter((value) => value !== undefined);
  if (given.length === 0) return undefined;
  const largest = Math.max(...given);
  return largest === 0 ? 0 : Math.min(power(largest), vocabSize);
}

/** 1, 2, 4, ... up to the first that is at least `n`. */
function powers(n: number): number[] {
  return Array.from({ length: Math.log2(power(n)) + 1 }, (_, i) => 2 ** i);
}
