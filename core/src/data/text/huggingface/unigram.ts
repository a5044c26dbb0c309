import { DataError } from "../../errors.js";
import { type Model, missing, Vocabulary } from "./models.js";
import type { Part } from "./part.js";

/** By how much an unknown character is worse than the worst token. */
const unknownPenalty = 10;

/** The most probable tokens of a word, each by its own probability (Kudo 2018), found by Viterbi's algorithm. */
export function unigram(part: Part): Model {
  const { vocab } = part;
  if (!Array.isArray(vocab)) throw new DataError("the vocabulary of a Unigram model is no list");
  const list = vocab as [string, number][];
  const vocabulary = new Vocabulary(list.map(([token], id) => [token, id]));
  const scores = Float64Array.from(list, ([, score]) => score);
  const unknown = (part.unk_id as number | null | undefined) ?? undefined;
  const unknownScore = scores.reduce((least, score) => Math.min(least, score), Infinity) - unknownPenalty;
  const prefixes = new Prefixes(list.map(([token]) => token));

  /** Where the word is cut; unknown characters beside each other are one piece. */
  function pieces(word: string): string[] {
    const size = word.length;
    const best = new Float64Array(size + 1);
    const from = new Int32Array(size + 1).fill(-1);
    const ids = new Int32Array(size + 1);
    const offer = (end: number, start: number, id: number, score: number) => {
      if (from[end] !== -1 && score <= best[end]!) return;
      best[end] = score;
      from[end] = start;
      ids[end] = id;
    };
    for (let start = 0; start < size; ) {
      const step = word.codePointAt(start)! > 0xffff ? 2 : 1;
      const till = best[start]!;
      let single = false;
      prefixes.each(word, start, (end, token) => {
        const id = vocabulary.idOf(token)!;
        offer(end, start, id, till + scores[id]!);
        single ||= end === start + step;
      });
      if (!single) {
        if (unknown === undefined) throw missing(word);
        offer(start + step, start, unknown, till + unknownScore);
      }
      start += step;
    }
    const out: string[] = [];
    let held = "";
    const release = () => {
      if (held !== "") out.push(held);
      held = "";
    };
    for (let end = size; end > 0; end = from[end]!) {
      const piece = word.slice(from[end]!, end);
      if (ids[end] === unknown) held = piece + held;
      else {
        release();
        out.push(piece);
      }
    }
    release();
    return out.reverse();
  }

  return {
    tokenize: (word) =>
      pieces(word).flatMap((piece) => {
        const id = vocabulary.idOf(piece);
        if (id !== undefined) return [id];
        const bytes = part.byte_fallback === true ? vocabulary.bytesOf(piece) : undefined;
        if (bytes !== undefined) return bytes;
        if (unknown === undefined) throw missing(piece);
        return [unknown];
      }),
    idOf: (token) => vocabulary.idOf(token),
    tokenOf: (id) => vocabulary.tokenOf(id),
    largestId: vocabulary.largestId,
  };
}

/** The tokens that a place in a text begins with, found in their sorted list, which takes far less memory than a tree. */
class Prefixes {
  private readonly sorted: readonly string[];
  /** Where tokens of a first character begin and end in the list. */
  private readonly begins = new Map<number, [number, number]>();

  constructor(tokens: readonly string[]) {
    // By code units, as they are compared below.
    this.sorted = [...new Set(tokens)].filter((token) => token !== "").sort();
    this.sorted.forEach((token, i) => {
      const first = token.charCodeAt(0);
      const range = this.begins.get(first);
      if (range === undefined) this.begins.set(first, [i, i + 1]);
      else range[1] = i + 1;
    });
  }

  /** Calls back for each token, the shortest first. */
  each(text: string, start: number, found: (end: number, token: string) => void): void {
    let [low, high] = this.begins.get(text.charCodeAt(start)) ?? [0, 0];
    for (let length = 1; low < high; length++) {
      if (this.sorted[low]!.length === length) found(start + length, this.sorted[low++]!);
      if (start + length >= text.length) return;
      const unit = text.charCodeAt(start + length);
      low = this.bound(low, high, length, unit);
      high = this.bound(low, high, length, unit + 1);
    }
  }

  /** The first of the tokens, alike before `at`, whose unit there is not below `unit`. */
  private bound(low: number, high: number, at: number, unit: number): number {
    let [from, to] = [low, high];
    while (from < to) {
      const middle = (from + to) >> 1;
      if (this.sorted[middle]!.charCodeAt(at) < unit) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}
