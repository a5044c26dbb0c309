import { refuseUnknown } from "../../graph/spelling.js";
import { DataError } from "../errors.js";
import { byteCharacters, byteLevelJson, type PreTokenization, preTokenizerJson } from "./byte-level.js";
import { endOfText } from "./byte-tokenizer.js";
import type { Part } from "./huggingface/part.js";
import { preTokenizer } from "./huggingface/pre-tokenizers.js";
import { type Pacer, pacer } from "./pacer.js";
import { PairHeap } from "./pair-heap.js";
import { trainingLine } from "./progress-line.js";
import type { TextSource } from "./sources.js";
import { type TextInput, textSource } from "./text-input.js";
import { HuggingFaceTokenizer } from "./tokenizer.js";

export interface BpeTrainingProgress {
  phase: "counting" | "merging";
  /** Characters read so far. */
  characters: number;
  /** Distinct words found so far. */
  words: number;
  vocabSize: number;
  targetVocabSize: number;
  /** True once, at the end. */
  done: boolean;
}

export interface BpeTrainingOptions {
  /** Tokens to aim for, special tokens and the 256 bytes included. The result is smaller if the text runs out of pairs. */
  vocabSize: number;
  /** A pair seen fewer times than this is not merged. Default 2. */
  minFrequency?: number;
  /** Get the first ids, in this order. The first one ends a document. Default `["<|endoftext|>"]`. */
  specialTokens?: readonly string[];
  /** How text is cut into words. Default `"gpt2"`. */
  preTokenization?: PreTokenization;
  /** Default: a line on the standard output, if it takes longer than two seconds. */
  onProgress?: (progress: BpeTrainingProgress) => void;
  signal?: AbortSignal;
}

// Two ids in one safe integer, so that comparing keys compares the pairs.
const radix = 2 ** 24;

/** What `trainBpe` reads: a source as `packed` takes it, or texts as they come. */
export type BpeTexts = TextInput | Iterable<string> | AsyncIterable<string>;

export async function* textsOf(input: BpeTexts): AsyncIterable<string> {
  // A string is the path of a file here as elsewhere, not an iterable of its characters.
  const whole =
    typeof input === "string" ||
    Array.isArray(input) ||
    typeof (input as Partial<TextSource>)?.documents === "function";
  if (whole) {
    for await (const { text } of textSource(input as TextInput).documents()) yield text;
    return;
  }
  const given = input as Partial<Iterable<string> & AsyncIterable<string>> | null | undefined;
  if (typeof (given?.[Symbol.iterator] ?? given?.[Symbol.asyncIterator]) !== "function")
    throw new DataError(
      `The texts are ${given === null ? "null" : typeof given}.`,
      "Give a path, an array of texts, or a source.",
    );
  for await (const text of input as AsyncIterable<string>) {
    if (typeof text !== "string")
      throw new DataError(
        `A text to train a tokenizer on is ${typeof text}.`,
        "Map the records to their text first.",
      );
    yield text;
  }
}

/**
 * Learns a byte-level BPE tokenizer (Sennrich et al. 2016; on bytes, Radford et al. 2019) from text. Always merges the
 * most frequent pair, of equally frequent ones that with the smaller ids: the order of Hugging Face's `BpeTrainer`, so
 * the same text gives the same merges there. Pair counts are kept up to date word by word, and a heap finds the next
 * pair, so the work grows with the distinct words and not with the text.
 */
export async function trainBpe(texts: BpeTexts, options: BpeTrainingOptions): Promise<HuggingFaceTokenizer> {
  refuseUnknown("trainBpe: there is no option", Object.keys(options ?? {}), optionNames);
  const specialTokens = options?.specialTokens ?? [endOfText];
  const smallest = specialTokens.length + 256;
  const { vocabSize, preTokenization = "gpt2", minFrequency = 2 } = options ?? {};
  if (!Number.isInteger(vocabSize) || vocabSize < smallest || vocabSize >= radix) {
    throw new DataError(
      `vocabSize must be an integer from ${smallest} (256 bytes and ${specialTokens.length} special tokens) to ${radix - 1}; it is ${vocabSize}.`,
    );
  }
  if (!Number.isInteger(minFrequency) || minFrequency < 1)
    throw new DataError(`minFrequency must be a positive integer; it is ${minFrequency}.`);
  if (new Set(specialTokens).size !== specialTokens.length || specialTokens.includes("")) {
    throw new DataError(
      `specialTokens must be distinct and not empty; got ${JSON.stringify(specialTokens)}.`,
    );
  }
  using pace = pacer("the training of a tokenizer", options.signal);
  const progress: BpeTrainingProgress = {
    phase: "counting",
    characters: 0,
    words: 0,
    vocabSize: smallest,
    targetVocabSize: vocabSize,
    done: false,
  };
  const onProgress = options.onProgress ?? trainingLine();
  const counts = await countWords(textsOf(texts), preTokenization, pace, progress, onProgress);
  if (counts.size === 0) {
    throw new DataError(
      "There is no text to train a tokenizer on.",
      "Check the source: it gave no characters.",
    );
  }
  progress.phase = "merging";

  const tokens = [...specialTokens, ...[...byteCharacters].sort()];
  const merges = await learnMerges(counts, tokens, options.vocabSize, minFrequency, pace, () => {
    progress.vocabSize = tokens.length;
    onProgress(progress);
  });
  progress.vocabSize = tokens.length;
  progress.done = true;
  onProgress(progress);
  const vocab: Record<string, number> = Object.fromEntries(tokens.map((token, id) => [token, id]));
  return new HuggingFaceTokenizer(
    byteLevelJson({
      specialTokens: specialTokens.map((content, id) => ({ content, id })),
      vocab,
      merges,
      preTokenization,
    }),
    specialTokens.length > 0 ? { eos_token: specialTokens[0] } : {},
  );
}

const optionNames: readonly (keyof BpeTrainingOptions)[] = [
  "vocabSize",
  "minFrequency",
  "specialTokens",
  "preTokenization",
  "onProgress",
  "signal",
];

async function countWords(
  texts: AsyncIterable<string>,
  preTokenization: PreTokenization,
  pace: Pacer,
  progress: BpeTrainingProgress,
  onProgress: (progress: BpeTrainingProgress) => void,
): Promise<Map<string, number>> {
  // The library cuts the words, so that training and encoding cannot disagree.
  const { cuts, last } = preTokenizer(preTokenizerJson(preTokenization) as Part);
  const counts = new Map<string, number>();
  for await (const text of texts) {
    let words = text === "" ? [] : [{ text, first: true }];
    for (const cut of cuts) words = words.flatMap(cut);
    for (const word of words) counts.set(word.text, (counts.get(word.text) ?? 0) + 1);
    progress.characters += text.length;
    if (await pace()) {
      progress.words = counts.size;
      onProgress(progress);
    }
  }
  progress.words = counts.size;
  return new Map([...counts].map(([word, count]) => [last!(word), count]));
}

/** Extends `tokens` up to `vocabSize`; returns the merges in order. */
async function learnMerges(
  counts: Map<string, number>,
  tokens: string[],
  vocabSize: number,
  minFrequency: number,
  pace: Pacer,
  report: () => void,
): Promise<[string, string][]> {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const words: number[][] = [];
  const wordCounts: number[] = [];
  const pairCounts = new Map<number, number>();
  const wordsOfPair = new Map<number, number[]>();
  const changed = new Set<number>();

  /** Adds `sign` times the word's pairs to the counts. */
  const count = (index: number, sign: 1 | -1) => {
    const word = words[index]!;
    const amount = sign * wordCounts[index]!;
    for (let i = 0; i + 1 < word.length; i++) {
      const key = word[i]! * radix + word[i + 1]!;
      pairCounts.set(key, (pairCounts.get(key) ?? 0) + amount);
      if (sign === 1) {
        changed.add(key);
        const list = wordsOfPair.get(key);
        if (list === undefined) wordsOfPair.set(key, [index]);
        else if (list[list.length - 1] !== index) list.push(index);
      }
    }
  };
  for (const [word, frequency] of counts) {
    words.push(Array.from(word, (character) => ids.get(character)!));
    wordCounts.push(frequency);
    count(words.length - 1, 1);
  }

  const heap = new PairHeap();
  const merges: [string, string][] = [];
  while (tokens.length < vocabSize) {
    for (const key of changed) heap.push(pairCounts.get(key)!, key);
    changed.clear();
    const top = heap.pop();
    if (top === undefined) break;
    const current = pairCounts.get(top.key) ?? 0;
    if (current !== top.count) {
      // The count fell after the pair was pushed: back with what it is now.
      if (current > 0) heap.push(current, top.key);
      continue;
    }
    if (current < 1 || current < minFrequency) break;
    const left = Math.floor(top.key / radix);
    const right = top.key % radix;
    const merged = tokens[left]! + tokens[right]!;
    // Two different merges can spell the same token; it keeps its first id.
    let id = ids.get(merged);
    if (id === undefined) {
      id = tokens.length;
      tokens.push(merged);
      ids.set(merged, id);
    }
    merges.push([tokens[left]!, tokens[right]!]);
    for (const index of new Set(wordsOfPair.get(top.key))) {
      const after = mergePair(words[index]!, left, right, id);
      if (after.length === words[index]!.length) continue;
      count(index, -1);
      words[index] = after;
      count(index, 1);
    }
    pairCounts.delete(top.key);
    wordsOfPair.delete(top.key);
    changed.delete(top.key);
    if (await pace()) report();
  }
  return merges;
}

function mergePair(word: readonly number[], left: number, right: number, id: number): number[] {
  const out: number[] = [];
  for (let i = 0; i < word.length; i++) {
    if (word[i] === left && word[i + 1] === right) {
      out.push(id);
      i++;
    } else {
      out.push(word[i]!);
    }
  }
  return out;
}
