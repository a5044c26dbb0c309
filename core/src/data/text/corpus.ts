import { DataError } from "../errors.js";
import { pacer } from "./pacer.js";
import { tokenizingLine } from "./progress-line.js";
import type { BrokenLines, TextSource } from "./sources.js";
import { type TextInput, textSource } from "./text-input.js";
import { cacheFile, defaultTokenCache, readCache, writeCache } from "./token-cache.js";
import type { SpecialTokenPolicy, Tokenizer } from "./tokenizer.js";

/** Token ids; 16 bits when the vocabulary fits. */
export type TokenArray = Uint16Array | Int32Array;

/** A tokenized text: the documents one after another, each followed by the end-of-document token. */
export interface Corpus {
  readonly name: string;
  readonly tokens: TokenArray;
  /** Where each document ends in `tokens` (after its end token), ascending. */
  readonly documentEnds: Float64Array;
  readonly vocabSize: number;
  /** Of a source that leaves broken lines out. */
  readonly broken?: BrokenLines;
}

export interface TokenizeProgress {
  /** The name of the source. */
  source: string;
  documents: number;
  /** Characters tokenized; 0 when the tokens came from the cache. */
  characters: number;
  tokens: number;
  /** The part of the source that is done, 0 to 1; undefined if its size is unknown. */
  fraction: number | undefined;
  /** Seconds since the start. */
  seconds: number;
  /** True once, at the end. */
  done: boolean;
}

export interface TokenizeOptions {
  tokenizer: Tokenizer;
  /** Follows each document. Default: the tokenizer's own. */
  eosId?: number;
  /** Whether special tokens written in a document count as such. Default `"text"`: a document cannot end itself. */
  special?: SpecialTokenPolicy;
  /**
   * Keeps the tokens on disk, and takes them from there when text, tokenizer and options are the same: in the given
   * folder, or with `true` in `$XDG_CACHE_HOME/aronnax/tokens` (`~/.cache`...). Default: no cache. Nothing is deleted.
   */
  cache?: boolean | string;
  /** Default: a line on the standard output, if it takes longer than two seconds. */
  onProgress?: (progress: TokenizeProgress) => void;
  signal?: AbortSignal;
}

/** Tokenizes all documents of a source. Progress is reported at most ten times a second and once at the end. */
export async function tokenize(input: TextInput, options: TokenizeOptions): Promise<Corpus> {
  const source = textSource(input);
  const { tokenizer, special = "text" } = options;
  const eosId = endOfDocument(tokenizer, options.eosId);
  options.signal?.throwIfAborted();
  const folder = options.cache === true ? defaultTokenCache() : options.cache;
  const fingerprint = folder ? await source.fingerprint?.() : undefined;
  if (!folder || fingerprint === undefined) return tokenizeAll(source, eosId, special, options);
  const path = cacheFile(folder, fingerprint, tokenizer, { eosId, special });
  const cached = await readCache(path, source.name, tokenizer.vocabSize);
  if (cached !== undefined) {
    options.onProgress?.({
      source: source.name,
      documents: cached.documentEnds.length,
      characters: 0,
      tokens: cached.tokens.length,
      fraction: 1,
      seconds: 0,
      done: true,
    });
    if (cached.broken !== undefined) {
      if (source.broken !== undefined) Object.assign(source.broken, cached.broken);
      warnOfBroken(cached);
    }
    return cached;
  }
  const corpus = await tokenizeAll(source, eosId, special, options);
  await writeCache(path, folder, corpus);
  return corpus;
}

/** The id that follows each document; refuses a tokenizer without one. */
export function endOfDocument(tokenizer: Tokenizer, eosId = tokenizer.eosId): number {
  if (eosId === undefined) {
    throw new DataError("The tokenizer names no token that ends a document.", "Pass `eosId`.");
  }
  if (!Number.isInteger(eosId) || eosId < 0 || eosId >= tokenizer.vocabSize) {
    throw new DataError(`eosId ${eosId} is outside the vocabulary of ${tokenizer.vocabSize} tokens.`);
  }
  return eosId;
}

async function tokenizeAll(
  source: TextSource,
  eosId: number,
  special: SpecialTokenPolicy,
  options: TokenizeOptions,
): Promise<Corpus> {
  const { tokenizer } = options;
  using pace = pacer(`tokenizing ${source.name}`, options.signal);
  const started = performance.now();
  const tokens = new GrowingTokens(tokenizer.vocabSize);
  const ends: number[] = [];
  let characters = 0;
  const onProgress = options.onProgress ?? tokenizingLine();
  const report = (consumed: number, done: boolean) =>
    onProgress({
      source: source.name,
      documents: ends.length,
      characters,
      tokens: tokens.length,
      fraction: source.size ? Math.min(1, consumed / source.size) : undefined,
      seconds: (performance.now() - started) / 1000,
      done,
    });
  for await (const document of source.documents()) {
    if (document.text.length === 0) continue;
    for (const piece of pieces(document.text)) {
      tokens.append(tokenizer.encode(piece, { special }));
      characters += piece.length;
      if (await pace()) report(document.consumed, false);
    }
    tokens.append([eosId]);
    ends.push(tokens.length);
  }
  if (ends.length === 0) {
    throw new DataError(`The corpus ${source.name} is empty: it has no document with text.`);
  }
  report(source.size ?? 0, true);
  const corpus: Corpus = {
    name: source.name,
    tokens: tokens.take(),
    documentEnds: Float64Array.from(ends),
    vocabSize: tokenizer.vocabSize,
    ...(source.broken?.count && { broken: { ...source.broken } }),
  };
  warnOfBroken(corpus);
  return corpus;
}

/** Lines that were left out are said, with the first numbers: a corpus must not shrink unseen. */
function warnOfBroken({ broken, documentEnds }: Corpus): void {
  if (broken === undefined) return;
  const shown = broken.lines
    .slice(0, 5)
    .map(({ path, line, reason }) => `  ${path}, line ${line}: ${reason}`);
  const more = broken.count > shown.length ? `\n  and ${broken.count - shown.length} more` : "";
  console.warn(
    `${broken.count} broken lines were left out beside ${documentEnds.length} documents:\n${shown.join("\n")}${more}`,
  );
}

// Some tokenizers take a piece as one word, whose cost grows faster than its length.
const pieceCharacters = 1 << 15;

/**
 * A very long document in pieces, so that work on it can be watched and stopped. The cut is before a line break that
 * follows a letter or a digit, where no pre-tokenization in use makes one word of both sides.
 */
export function* pieces(text: string): Iterable<string> {
  let start = 0;
  while (text.length - start > 2 * pieceCharacters) {
    let cut = start + pieceCharacters;
    const limit = cut + pieceCharacters / 2;
    while (cut < limit && !(text[cut] === "\n" && /[\p{L}\p{N}]/u.test(text[cut - 1]!))) cut++;
    if (cut === limit) {
      // No such place: before any white space, else anywhere but inside a surrogate pair.
      cut = start + pieceCharacters;
      while (cut < limit && !/\s/.test(text[cut]!)) cut++;
      if (isLowSurrogate(text.charCodeAt(cut))) cut++;
    }
    yield text.slice(start, cut);
    start = cut;
  }
  yield text.slice(start);
}

function isLowSurrogate(unit: number): boolean {
  return unit >= 0xdc00 && unit <= 0xdfff;
}

/** A list of token ids that grows. */
export class GrowingTokens {
  private data: TokenArray;
  length = 0;

  constructor(vocabSize: number) {
    this.data = vocabSize <= 0x10000 ? new Uint16Array(1 << 16) : new Int32Array(1 << 16);
  }

  append(ids: ArrayLike<number>): void {
    const needed = this.length + ids.length;
    if (needed > this.data.length) {
      const Type = this.data.constructor as new (length: number) => TokenArray;
      const grown = new Type(Math.max(needed, Math.ceil(this.data.length * 1.5)));
      grown.set(this.data.subarray(0, this.length));
      this.data = grown;
    }
    this.data.set(ids, this.length);
    this.length = needed;
  }

  /** A copy of the first ids. */
  take(count = this.length): TokenArray {
    return this.data.slice(0, count);
  }

  dropFirst(count: number): void {
    this.data.copyWithin(0, count, this.length);
    this.length -= count;
  }
}
