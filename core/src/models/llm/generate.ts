/** Writing text with a language model. */
import { key as makeKey } from "../../array/random.js";
import { type ChatMessage, type ChatOptions, renderChat } from "../../data/text/chat-template.js";
import type { DecodeStream } from "../../data/text/decode-stream.js";
import type { HuggingFaceTokenizer, Tokenizer } from "../../data/text/tokenizer.js";
import { ArgumentError } from "../../graph/errors.js";
import { refuseUnknown } from "../../graph/spelling.js";
import { Interrupted, Interruption } from "../../host/interrupt.js";
import { checkTokenizer } from "./check-tokenizer.js";
import { Decoder, type DrawnToken, type TokenProbability } from "./decoding.js";
import type { LanguageModel } from "./model.js";
import { type SamplingOptions, samplingOf } from "./sampling.js";
import { StopStrings } from "./stop-strings.js";

export interface CompletionOptions extends SamplingOptions {
  tokenizer: Tokenizer;
  /** Tokens to add at most. Default 100. */
  maxTokens?: number;
  /** Of the draws: the same seed, prompts and options give the same text. Default 0. */
  seed?: number;
  /**
   * Tokens the model sees at most, usually the length it was trained on. A text that outgrows it goes on from its last half. Default: room
   * for all, or what a model with learned positions has.
   */
  context?: number;
  /** Strings that end a text; they are not part of it. */
  stop?: string | readonly string[];
  /** Tokens that end a text. Default the tokenizer's end of text, and those that the model's checkpoint names. */
  stopIds?: readonly number[];
  /** Adds what the tokenizer puts before a text, such as a beginning-of-text token. Default true. */
  addSpecialTokens?: boolean;
  /** Prompts computed together; more are taken one batch after another. Default 16. */
  batchSize?: number;
  /** Tokens decoded between two looks at what has come, and so between two pieces of streamed text. Default 8. */
  tokensPerCall?: number;
  /**
   * Gives the log-probability of each drawn token, and of so many likeliest tokens beside it. It is that of the model's own distribution at
   * the temperature, over all its tokens: log softmax(logits / temperature), which a recomputation by `model.forward` gives again.
   * `repetitionPenalty`, `topK`, `topP` and `minP` draw from another distribution, of which it says nothing; at temperature 0 it is that of
   * temperature 1. Default false.
   */
  logProbabilities?: boolean | number;
  /** Called with each piece of text as it comes, and the number of its prompt. */
  onText?: (text: string, prompt: number) => void;
  /** Ends the writing after the tokens now being decoded; what was written is returned. */
  signal?: AbortSignal;
}

/** What was written after a prompt. */
export interface Completion {
  /** The prompt is not part of it, nor is a stop string. */
  readonly text: string;
  /** The tokens that were drawn, stop tokens and those of a stop string included. */
  readonly ids: readonly number[];
  /** With `logProbabilities`: of each token of `ids`, in nats. */
  readonly logProbabilities?: readonly number[];
  /** With a number as `logProbabilities`: for each token of `ids` the likeliest tokens in its place, the likeliest first. */
  readonly alternatives?: readonly (readonly TokenProbability[])[];
  /** Why it ended: a token of `stopIds`, a string of `stop`, `maxTokens`, or `signal`. */
  readonly ended: "stop-id" | "stop-string" | "length" | "aborted";
}

/** A text that is being continued. */
interface Row {
  /** Its number among the prompts. */
  readonly prompt: number;
  /** All tokens so far. */
  readonly ids: number[];
  /** Those after the prompt. */
  readonly drawn: DrawnToken[];
  readonly promptLength: number;
  /** Where the part begins that the model sees. */
  from: number;
  /** Whether that part was longer than the model's `switchLength` when it was read. */
  switched: boolean;
  readonly decoding: DecodeStream;
  readonly stops: StopStrings;
  text: string;
  ended: Completion["ended"] | undefined;
}

/**
 * Continues prompts, texts or tokens, of any lengths, a batch at a time. The keys and values of earlier tokens are kept, so that a token
 * costs one position. What is written after a prompt does not depend on the prompts beside it, but for rounding.
 *
 * @throws Interrupted when the notebook interrupts the cell
 */
export async function complete(
  model: LanguageModel,
  prompts: readonly (string | ArrayLike<number>)[],
  options: CompletionOptions,
): Promise<Completion[]> {
  checkArguments(model, prompts, options);
  const { tokenizer, batchSize = 16, stop = [] } = options;
  checkTokenizer("generate", model, tokenizer);
  if (options.context !== undefined && options.context > longestText(model)) {
    throw new ArgumentError(
      `generate: context is ${options.context}, the model has ${longestText(model)} positions`,
      "give a smaller context",
    );
  }
  const stops = typeof stop === "string" ? [stop] : stop;
  const rows = prompts.map((prompt, i): Row => {
    const ids = promptIds(prompt, options);
    return {
      prompt: i,
      ids,
      drawn: [],
      promptLength: ids.length,
      from: 0,
      switched: false,
      decoding: tokenizer.stream({ skipSpecialTokens: true }).after(ids),
      stops: new StopStrings(stops),
      text: "",
      ended: undefined,
    };
  });
  using interruption = new Interruption(options.signal);
  for (let at = 0; at < rows.length; at += batchSize) {
    await continueRows(model, rows.slice(at, at + batchSize), options, interruption);
  }
  const alternatives = alternativesOf(options);
  return rows.map(({ text, drawn, ended }) => ({
    text,
    ids: drawn.map(({ id }) => id),
    ...(alternatives !== undefined && { logProbabilities: drawn.map((token) => token.logProbability!) }),
    ...(alternatives !== undefined &&
      alternatives > 0 && { alternatives: drawn.map((token) => token.alternatives!) }),
    ended: ended ?? "aborted",
  }));
}

/** Likeliest tokens to give beside each drawn one; undefined for no log-probabilities. */
function alternativesOf({ logProbabilities = false }: CompletionOptions): number | undefined {
  if (logProbabilities === false) return undefined;
  return logProbabilities === true ? 0 : logProbabilities;
}

async function continueRows(
  model: LanguageModel,
  rows: readonly Row[],
  options: CompletionOptions,
  interruption: Interruption,
): Promise<void> {
  const { tokenizer, maxTokens = 100, seed = 0, tokensPerCall = 8 } = options;
  const context = options.context ?? Math.min(longestSeen(rows) + maxTokens, longestText(model));
  const stopIds = options.stopIds ?? usualStops(model, tokenizer);
  const decoder = new Decoder(model, {
    sampling: samplingOf(options),
    key: makeKey(seed),
    rows: rows.map(({ prompt }) => prompt),
    // No token is -1: a program for no stop token would be another one.
    stopIds: stopIds.length === 0 ? [-1] : stopIds,
    vocabulary: tokenizer.vocabSize,
    alternatives: alternativesOf(options),
    tokensPerCall,
  });
  const half = Math.ceil(context / 2);
  const { switchLength = Number.POSITIVE_INFINITY } = model;
  let fresh = true;
  for (let made = 0; made < maxTokens; ) {
    const active = rows.filter((row) => row.ended === undefined);
    if (active.length === 0 || interruption.requested) break;
    const room = context + 1 - longestSeen(active);
    const before = active.filter(({ switched }) => !switched);
    const unswitched = switchLength + 1 - Math.max(0, ...before.map(seen));
    if (fresh || room < 1 || unswitched < 1) {
      for (const row of active) {
        if (seen(row) > context) row.from = row.ids.length - (fresh ? context : half);
        row.switched = seen(row) > switchLength;
      }
      // Few lengths are compiled: one for the prompts, and two for what begins anew after a full context.
      const longest = longestSeen(active);
      const full = !fresh && room < 1;
      const time = full ? (longest > half ? context : half) : bucket(longest);
      const more = full ? context - half : Math.min(maxTokens - made - 1, context - longest);
      // A text that has ended stays in the batch, with as little as possible to read.
      const windows = rows.map((row) => row.ids.slice(row.ended === undefined ? row.from : -1));
      const texts = rows.map((row) => row.ids);
      const ids = await decoder.read(windows, texts, time, bucket(time + more));
      for (const [i, row] of rows.entries()) take(row, [ids[i]!], stopIds, options);
      made++;
      fresh = false;
      continue;
    }
    const count = Math.min(tokensPerCall, maxTokens - made, room, unswitched);
    const ids = await decoder.decode(
      count,
      rows.map((row) => row.ended !== undefined),
    );
    for (const [i, row] of rows.entries()) take(row, ids[i]!, stopIds, options);
    made += count;
  }
  for (const row of rows) {
    if (row.ended !== undefined) continue;
    row.ended = row.ids.length - row.promptLength === maxTokens ? "length" : "aborted";
    emit(row, rest(row), options);
  }
  if (interruption.byKernel) {
    throw new Interrupted(`generate: stopped after ${rows[0]!.ids.length - rows[0]!.promptLength} tokens`);
  }
}

/** Tokens that end a text where nothing else is said. */
export function usualStops(model: Pick<LanguageModel, "stopIds">, { eosId }: Tokenizer): readonly number[] {
  const named = model.stopIds ?? [];
  return eosId === undefined || named.includes(eosId) ? named : [eosId, ...named];
}

/** Tokens that a model with learned positions can see. */
function longestText({ config }: LanguageModel): number {
  return config.maxPositions ?? Number.POSITIVE_INFINITY;
}

/** Tokens that the model sees of a text, the newest one included. */
function seen({ ids, from }: Row): number {
  return ids.length - from;
}

function longestSeen(rows: readonly Row[]): number {
  return Math.max(...rows.map(seen));
}

/** The next of 1, 2, 3, 4, 6, 8, 12, 16, ...: few lengths are compiled, and a third of one is unused at most. */
function bucket(length: number): number {
  const power = 2 ** Math.ceil(Math.log2(length));
  return length <= 0.75 * power && power >= 4 ? 0.75 * power : power;
}

/** Adds drawn tokens to a text, up to what ends it. */
function take(
  row: Row,
  drawn: readonly DrawnToken[],
  stopIds: readonly number[],
  options: CompletionOptions,
): void {
  let text = "";
  for (const token of drawn) {
    if (row.ended !== undefined) break;
    const { id } = token;
    row.ids.push(id);
    row.drawn.push(token);
    if (stopIds.includes(id)) row.ended = "stop-id";
    else text += row.stops.push(row.decoding.push(id));
    if (row.stops.stopped) row.ended = "stop-string";
  }
  emit(row, row.ended === "stop-id" ? text + rest(row) : text, options);
}

/** What was held back, when nothing more comes. */
function rest(row: Row): string {
  const text = row.stops.push(row.decoding.end());
  if (row.stops.stopped) row.ended = "stop-string";
  return text + row.stops.end();
}

function emit(row: Row, text: string, { onText }: CompletionOptions): void {
  if (text === "") return;
  row.text += text;
  onText?.(text, row.prompt);
}

function promptIds(prompt: string | ArrayLike<number>, options: CompletionOptions): number[] {
  const { tokenizer, addSpecialTokens = true } = options;
  const ids = Array.from(
    typeof prompt === "string" ? tokenizer.encode(prompt, { addSpecialTokens }) : prompt,
  );
  const odd = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= tokenizer.vocabSize);
  if (odd !== undefined) {
    throw new ArgumentError(
      `generate: a prompt holds the token ${odd}`,
      `tokens are integers from 0 to ${tokenizer.vocabSize - 1}`,
    );
  }
  if (ids.length > 0) return ids;
  const start = tokenizer.bosId ?? tokenizer.eosId;
  if (start === undefined) {
    throw new ArgumentError(
      "generate: an empty prompt, and the tokenizer has no token that begins a text",
      "give a prompt",
    );
  }
  return [start];
}

const optionNames: readonly (keyof CompletionOptions)[] = [
  "tokenizer",
  "maxTokens",
  "seed",
  "context",
  "stop",
  "stopIds",
  "addSpecialTokens",
  "batchSize",
  "tokensPerCall",
  "logProbabilities",
  "onText",
  "signal",
  "repetitionPenalty",
  "temperature",
  "topK",
  "topP",
  "minP",
];

function checkArguments(
  model: LanguageModel,
  prompts: readonly (string | ArrayLike<number>)[],
  options: CompletionOptions,
): void {
  const refuse = (what: string, fix: string): never => {
    throw new ArgumentError(`generate: ${what}`, fix);
  };
  if (typeof (model as Partial<LanguageModel> | undefined)?.newCache !== "function")
    refuse("the first argument is no language model", "give a model that llm.load or llm.llama returned");
  refuseUnknown("generate: there is no option", Object.keys(options), optionNames);
  if (typeof (options.tokenizer as Partial<Tokenizer> | undefined)?.stream !== "function")
    refuse("there is no tokenizer", "pass tokenizer, such as that of text.loadTokenizer(folder)");
  if (!Array.isArray(prompts)) refuse(`the prompts are ${typeof prompts}`, "give an array of prompts");
  const odd = prompts.find((prompt) => typeof prompt !== "string" && typeof prompt?.length !== "number");
  if (odd !== undefined) refuse(`a prompt is ${typeof odd}`, "a prompt is a text or an array of tokens");
  const { stop = [], stopIds = [], onText } = options;
  if (typeof stop !== "string" && !Array.isArray(stop))
    refuse(`stop is ${typeof stop}`, "give a string or an array of strings");
  const id = stopIds.find((x) => !Number.isInteger(x) || x < 0);
  if (id !== undefined) refuse(`stopIds holds ${String(id)}`, "give tokens, integers from 0");
  const count = alternativesOf(options);
  if (count !== undefined && !(Number.isInteger(count) && count >= 0 && count <= model.config.vocabSize))
    refuse(`logProbabilities is ${String(count)}`, "give true, or a number of likeliest tokens");
  if (onText !== undefined && typeof onText !== "function")
    refuse(`onText is ${typeof onText}`, "give a function of the text that comes");
  checkCounts(options);
}

function checkCounts(options: CompletionOptions): void {
  const { maxTokens = 100, context = 2, batchSize = 16, tokensPerCall = 8 } = options;
  const least = { maxTokens: 0, context: 2, batchSize: 1, tokensPerCall: 1 };
  for (const [name, value] of Object.entries({ maxTokens, context, batchSize, tokensPerCall })) {
    const from = least[name as keyof typeof least];
    if (!Number.isInteger(value) || value < from)
      throw new ArgumentError(`generate: ${name} is ${value}`, `give an integer of at least ${from}`);
  }
  samplingOf(options);
}

/**
 * Continues a prompt, or several at once; returns each prompt with what was added.
 *
 * @throws Interrupted when the notebook interrupts the cell
 */
export async function generate(
  model: LanguageModel,
  options: CompletionOptions & { prompt: string },
): Promise<string>;
export async function generate(
  model: LanguageModel,
  options: CompletionOptions & { prompt: readonly string[] },
): Promise<string[]>;
export async function generate(
  model: LanguageModel,
  options: CompletionOptions & { prompt: string | readonly string[] },
): Promise<string | string[]> {
  const { prompt, ...rest } = options ?? {};
  if (typeof prompt !== "string" && !(Array.isArray(prompt) && prompt.every((x) => typeof x === "string"))) {
    throw new ArgumentError(
      `generate: prompt is ${Array.isArray(prompt) ? "an array of other things than texts" : typeof prompt}`,
      "give a text or an array of texts; llm.complete takes tokens",
    );
  }
  const prompts = typeof prompt === "string" ? [prompt] : prompt;
  const written = await complete(model, prompts, rest);
  const texts = prompts.map((start, i) => start + written[i]!.text);
  return typeof prompt === "string" ? texts[0]! : texts;
}

export interface ReplyOptions extends CompletionOptions {
  tokenizer: HuggingFaceTokenizer;
  /** How the tokenizer's chat template is filled in. */
  chat?: Omit<ChatOptions, "addGenerationPrompt">;
}

/** The model's next message in a conversation, which is written out by the tokenizer's chat template. */
export async function reply(
  model: LanguageModel,
  messages: readonly ChatMessage[],
  options: ReplyOptions,
): Promise<string> {
  const { chat, ...rest } = options;
  const { tokenizer } = rest;
  const prompt = renderChat(tokenizer, messages, { ...chat, addGenerationPrompt: true });
  // The template writes all special tokens itself.
  const [completion] = await complete(model, [prompt], { ...rest, addSpecialTokens: false });
  return completion!.text;
}
