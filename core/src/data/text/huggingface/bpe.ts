import { DataError } from "../../errors.js";
import { type Model, missing, Vocabulary } from "./models.js";
import type { Part } from "./part.js";

// Two ids in one safe integer.
const radix = 2 ** 24;

interface Merge {
  /** The earlier was learned first. */
  readonly rank: number;
  readonly id: number;
}

/**
 * Byte-pair encoding (Sennrich et al. 2016): the neighbours that were merged first are merged first, of equal ones the leftmost.
 * Dropout (Provilkov et al. 2020) is for training, and left out.
 */
export function bpe(part: Part): Model {
  const vocabulary = Vocabulary.of(part);
  const prefix = (part.continuing_subword_prefix as string | null | undefined) ?? "";
  const suffix = (part.end_of_word_suffix as string | null | undefined) ?? "";
  const merges = readMerges(part.merges, vocabulary, prefix);
  const unknownToken = part.unk_token as string | null | undefined;
  const unknown = unknownToken == null ? undefined : vocabulary.idOf(unknownToken);

  /** The ids of a word's characters. */
  function symbols(word: string): number[] {
    const ids: number[] = [];
    let fusing = false;
    let at = 0;
    for (const character of word) {
      let token = at === 0 ? character : prefix + character;
      at += character.length;
      if (at === word.length) token += suffix;
      const id = vocabulary.idOf(token);
      if (id !== undefined) {
        ids.push(id);
        fusing = false;
        continue;
      }
      const bytes = part.byte_fallback === true ? vocabulary.bytesOf(token) : undefined;
      if (bytes !== undefined) {
        // An unknown character that is held back comes after the bytes.
        if (fusing) ids.splice(ids.length - 1, 0, ...bytes);
        else ids.push(...bytes);
        continue;
      }
      // Without an unknown token such a character is left out.
      if (unknownToken == null) continue;
      if (unknown === undefined) throw missing(word);
      if (!fusing || part.fuse_unk !== true) ids.push(unknown);
      fusing = true;
    }
    return ids;
  }

  return {
    tokenize(word) {
      if (word === "") return [];
      if (part.ignore_merges === true) {
        const id = vocabulary.idOf(word);
        if (id !== undefined) return [id];
      }
      return merged(symbols(word), merges);
    },
    idOf: (token) => vocabulary.idOf(token),
    tokenOf: (id) => vocabulary.tokenOf(id),
    largestId: vocabulary.largestId,
  };
}

function readMerges(given: unknown, vocabulary: Vocabulary, prefix: string): Map<number, Merge> {
  if (!Array.isArray(given)) throw new DataError("a BPE model has no merges");
  const merges = new Map<number, Merge>();
  given.forEach((merge: unknown, rank) => {
    const [left, right] = (typeof merge === "string" ? merge.split(" ") : merge) as [string, string];
    const [a, b] = [vocabulary.idOf(left), vocabulary.idOf(right)];
    const id = vocabulary.idOf(left + String(right).slice(prefix.length));
    if (a === undefined || b === undefined || id === undefined)
      throw new DataError(`the merge ${JSON.stringify(merge)} has a token that is not in the vocabulary`);
    merges.set(a * radix + b, { rank, id });
  });
  return merges;
}

/** Up to so many symbols looking at all of them is quicker than a heap. */
const few = 24;

function merged(symbols: number[], merges: ReadonlyMap<number, Merge>): number[] {
  return symbols.length <= few ? mergedFew(symbols, merges) : mergedMany(symbols, merges);
}

/** Changes `symbols`. */
function mergedFew(symbols: number[], merges: ReadonlyMap<number, Merge>): number[] {
  for (;;) {
    let best: Merge | undefined;
    let place = 0;
    for (let i = 0; i + 1 < symbols.length; i++) {
      const merge = merges.get(symbols[i]! * radix + symbols[i + 1]!);
      if (merge !== undefined && (best === undefined || merge.rank < best.rank)) {
        best = merge;
        place = i;
      }
    }
    if (best === undefined) return symbols;
    symbols.splice(place, 2, best.id);
  }
}

function mergedMany(symbols: number[], merges: ReadonlyMap<number, Merge>): number[] {
  const count = symbols.length;
  const next = Int32Array.from(symbols, (_, i) => (i + 1 < count ? i + 1 : -1));
  const previous = Int32Array.from(symbols, (_, i) => i - 1);
  const gone = new Uint8Array(count);
  const waiting = new Heap();
  const offer = (at: number) => {
    if (at < 0 || next[at]! < 0) return;
    const merge = merges.get(symbols[at]! * radix + symbols[next[at]!]!);
    if (merge !== undefined) waiting.push(merge.rank * count + at);
  };
  for (let i = 0; i + 1 < count; i++) offer(i);
  for (let key = waiting.pop(); key !== undefined; key = waiting.pop()) {
    const at = key % count;
    const right = next[at]!;
    if (gone[at] === 1 || right < 0) continue;
    const merge = merges.get(symbols[at]! * radix + symbols[right]!);
    // The neighbours are others by now.
    if (merge === undefined || merge.rank !== Math.floor(key / count)) continue;
    symbols[at] = merge.id;
    gone[right] = 1;
    next[at] = next[right]!;
    if (next[at]! >= 0) previous[next[at]!] = at;
    offer(previous[at]!);
    offer(at);
  }
  return symbols.filter((_, i) => gone[i] === 0);
}

/** Numbers, the smallest first. */
class Heap {
  private readonly keys: number[] = [];

  push(key: number): void {
    const { keys } = this;
    let at = keys.length;
    keys.push(key);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (keys[parent]! <= key) break;
      keys[at] = keys[parent]!;
      at = parent;
    }
    keys[at] = key;
  }

  pop(): number | undefined {
    const { keys } = this;
    const top = keys[0];
    const key = keys.pop();
    if (top === undefined || key === undefined || keys.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= keys.length) break;
      if (child + 1 < keys.length && keys[child + 1]! < keys[child]!) child++;
      if (keys[child]! >= key) break;
      keys[at] = keys[child]!;
      at = child;
    }
    keys[at] = key;
    return top;
  }
}
