import { DataError } from "../../errors.js";
import { bpe } from "./bpe.js";
import type { Part } from "./part.js";
import { unigram } from "./unigram.js";

/** Turns words into tokens. */
export interface Model {
  /** Ids of the tokens of a word. @throws {DataError} where a part of it has no token, and there is no unknown token */
  tokenize(word: string): number[];
  idOf(token: string): number | undefined;
  tokenOf(id: number): string | undefined;
  readonly largestId: number;
}

/** A vocabulary both ways. */
export class Vocabulary {
  readonly ids: ReadonlyMap<string, number>;
  private readonly tokens = new Map<number, string>();
  readonly largestId: number;

  constructor(entries: Iterable<readonly [string, number]>) {
    const ids = new Map<string, number>();
    let largest = -1;
    for (const [token, id] of entries) {
      ids.set(token, id);
      this.tokens.set(id, token);
      if (id > largest) largest = id;
    }
    this.ids = ids;
    this.largestId = largest;
  }

  /** Of a model's `vocab`, an object. */
  static of({ type, vocab }: Part): Vocabulary {
    if (typeof vocab !== "object" || vocab === null || Array.isArray(vocab))
      throw new DataError(`the vocabulary of a ${type} model is no object of tokens and ids`);
    return new Vocabulary(Object.entries(vocab as Record<string, number>));
  }

  idOf(token: string): number | undefined {
    return this.ids.get(token);
  }

  tokenOf(id: number): string | undefined {
    return this.tokens.get(id);
  }

  /** The ids of a text's bytes, each a token `<0x..>`; undefined where one is not there. */
  bytesOf(text: string): number[] | undefined {
    const out: number[] = [];
    for (const byte of Buffer.from(text)) {
      const id = this.ids.get(byteToken(byte));
      if (id === undefined) return undefined;
      out.push(id);
    }
    return out;
  }
}

function byteToken(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

export function missing(word: string): DataError {
  const shown = word.length > 60 ? `${word.slice(0, 60)}...` : word;
  return new DataError(
    `The tokenizer has no token for a part of ${JSON.stringify(shown)}, and no unknown token.`,
    "Use a byte-level tokenizer, or one with an unknown token.",
  );
}

/** A tokenizer.json's `model`. Old files do not name its type. */
export function model(part: Part): Model {
  switch (part.type ?? guessed(part)) {
    case "BPE":
      return bpe(part);
    case "Unigram":
      return unigram(part);
    case "WordPiece":
      return wordPiece(part);
    case "WordLevel":
      return wordLevel(part);
    default:
      throw new DataError(`the model "${part.type}" is not known`);
  }
}

function guessed(part: Part): string {
  if ("merges" in part) return "BPE";
  if (Array.isArray(part.vocab)) return "Unigram";
  return "continuing_subword_prefix" in part ? "WordPiece" : "WordLevel";
}

function wordLevel(part: Part): Model {
  const vocabulary = Vocabulary.of(part);
  const unknown = vocabulary.idOf(String(part.unk_token));
  return whole(vocabulary, (word) => {
    const id = vocabulary.idOf(word) ?? unknown;
    if (id === undefined) throw missing(word);
    return [id];
  });
}

/** The longest token that a word begins with, and so on (Schuster and Nakajima 2012; BERT, Devlin et al. 2019). */
function wordPiece(part: Part): Model {
  const vocabulary = Vocabulary.of(part);
  const unknown = vocabulary.idOf(String(part.unk_token));
  const prefix = String(part.continuing_subword_prefix ?? "##");
  const longest = Number(part.max_input_chars_per_word ?? 100);
  return whole(vocabulary, (word) => {
    const ids = tokens(word);
    if (ids !== undefined) return ids;
    if (unknown === undefined) throw missing(word);
    return [unknown];
  });

  function tokens(word: string): number[] | undefined {
    const characters = Array.from(word);
    if (characters.length > longest) return undefined;
    const ids: number[] = [];
    for (let start = 0; start < characters.length; ) {
      let end = characters.length;
      let id: number | undefined;
      for (; end > start; end--) {
        const text = characters.slice(start, end).join("");
        id = vocabulary.idOf(start === 0 ? text : prefix + text);
        if (id !== undefined) break;
      }
      if (id === undefined) return undefined;
      ids.push(id);
      start = end;
    }
    return ids;
  }
}

function whole(vocabulary: Vocabulary, tokenize: (word: string) => number[]): Model {
  return {
    tokenize,
    idOf: (token) => vocabulary.idOf(token),
    tokenOf: (id) => vocabulary.tokenOf(id),
    largestId: vocabulary.largestId,
  };
}
