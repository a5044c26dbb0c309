import { Tokenizer } from "@huggingface/tokenizers";
import type { AddedToken, TokenizerConfig, TokenizerJson } from "./tokenizer.js";

/** Cuts text into words, or words into smaller ones. */
export interface PreTokenizer {
  pre_tokenize(text: string | string[]): string[];
  /** The parts of a `Sequence`. */
  tokenizers?: (PreTokenizer | null)[];
}

/** Turns tokens into text, or is a sequence of such. */
interface DecoderPart {
  config: { type: string };
  decoders?: DecoderPart[];
  text_decoder?: { decode(bytes: Uint8Array): string };
}

/** By what marks them in a text that was cut. */
type AddedTokens = Map<string, { id: number; single_word: boolean; lstrip: boolean; rstrip: boolean }>;

interface Splitter {
  split(text: string): string[];
}

/** What is used of `@huggingface/tokenizers`, whose own declarations Node's module resolution does not find. */
export interface Library {
  readonly normalizer: ((text: string) => string) | null;
  readonly pre_tokenizer: PreTokenizer | null;
  readonly decoder: DecoderPart | null;
  readonly model: {
    encode(words: string[]): string[];
    fuse_unk: boolean;
    tokens_to_ids: Map<string, number>;
    _call(words: string[]): string[];
  };
  /** By their texts, as they are and as the normalizer makes them. */
  readonly added_tokens_map: AddedTokens;
  /** Cut texts at added tokens. */
  readonly splitter_unnormalized: Splitter;
  readonly splitter_normalized: Splitter;
  encode(
    text: string,
    options: { add_special_tokens: boolean },
  ): { ids: (number | undefined)[]; tokens: string[] };
  decode(
    ids: number[],
    options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean },
  ): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  get_vocab(): Map<string, number>;
}

export function libraryTokenizer(json: TokenizerJson, config: TokenizerConfig): Library {
  const library = new Tokenizer(json, config) as Library;
  if (library.decoder !== null) mendByteFallback(library.decoder);
  mendFusing(library.model);
  mendAddedTokens(library, json.added_tokens);
  mendVocabulary(library.model, json);
  return library;
}

/** The library makes one unknown token of neighbouring words; Hugging Face's only of what stands within one. */
function mendFusing(model: Library["model"]): void {
  if (!model.fuse_unk) return;
  const fused = model._call.bind(model);
  model._call = (words) => words.flatMap((word) => fused([word]));
}

/**
 * The library finds added tokens within words, and takes JavaScript's white space from their neighbours, also where another token has it
 * already. Here texts are cut as Hugging Face's `AddedVocabulary::find_matches` cuts them; what was found is marked, since a piece of text may
 * read like a token that must not be found there.
 */
function mendAddedTokens(library: Library, tokens: readonly AddedToken[]): void {
  if (tokens.length === 0) return;
  const { normalizer, added_tokens_map: map } = library;
  const found = tokens.map((token) => {
    const normal = token.normalized === true && normalizer !== null;
    return { token, normal, content: normal ? normalizer(token.content) : token.content };
  });
  map.clear();
  for (const { token } of found)
    map.set(mark(token), { id: token.id, single_word: false, lstrip: false, rstrip: false });
  for (const [splitter, normal] of [
    [library.splitter_unnormalized, false],
    [library.splitter_normalized, true],
  ] as const) {
    const own = found.filter((each) => each.normal === normal && each.content !== "");
    splitter.split = (text) => (text === "" ? [] : cut(text, own));
  }
}

/** The library's models know the added tokens too, and find them in words; Hugging Face's know their own vocabulary alone. */
function mendVocabulary(
  model: Library["model"],
  { added_tokens: added, model: { vocab } }: TokenizerJson,
): void {
  if (typeof vocab !== "object" || vocab === null || Array.isArray(vocab)) return;
  const foreign = added.filter(({ content }) => !Object.hasOwn(vocab, content));
  if (foreign.length === 0) return;
  const all = model.tokens_to_ids;
  const own = new Map(all);
  for (const { content } of foreign) own.delete(content);
  const call = model._call.bind(model);
  model._call = (words) => {
    model.tokens_to_ids = own;
    try {
      return call(words);
    } finally {
      model.tokens_to_ids = all;
    }
  };
}

/** No text of anybody's. */
function mark({ id }: AddedToken): string {
  return `\u0000added token ${id}\u0000`;
}

interface Wanted {
  readonly token: AddedToken;
  readonly content: string;
}

/** The pieces of a text between tokens, and the marks of these. */
function cut(text: string, wanted: readonly Wanted[]): string[] {
  const pieces: string[] = [];
  let start = 0;
  for (let at = 0; at < text.length; ) {
    const here = longest(text, at, wanted);
    if (here === undefined) {
      at++;
      continue;
    }
    const { token, content } = here;
    let [from, to] = [at, at + content.length];
    at = to;
    // What is refused is not looked at again: a shorter token within it is not found either.
    if (token.single_word && (endsInWord.test(text.slice(0, from)) || beginsInWord.test(text.slice(to))))
      continue;
    if (token.lstrip) from = Math.max(start, from - spacesAtEnd(text.slice(0, from)));
    if (token.rstrip) to += spacesAtStart.exec(text.slice(to))![0].length;
    if (start < from) pieces.push(text.slice(start, from));
    pieces.push(mark(token));
    start = to;
  }
  if (start < text.length) pieces.push(text.slice(start));
  return pieces;
}

function longest(text: string, at: number, wanted: readonly Wanted[]): Wanted | undefined {
  let best: Wanted | undefined;
  for (const each of wanted)
    if (each.content.length > (best?.content.length ?? 0) && text.startsWith(each.content, at)) best = each;
  return best;
}

function spacesAtEnd(text: string): number {
  let count = 0;
  while (count < text.length && space.test(text[text.length - 1 - count]!)) count++;
  return count;
}

const space = /\p{White_Space}/u;
const spacesAtStart = /^\p{White_Space}*/u;
const endsInWord = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const beginsInWord = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The library's byte fallback loses U+FEFF; and of bytes that are no text Hugging Face's makes a U+FFFD each. */
function mendByteFallback(decoder: DecoderPart): void {
  for (const part of decoder.decoders ?? []) mendByteFallback(part);
  if (decoder.config.type !== "ByteFallback") return;
  decoder.text_decoder = {
    decode(bytes) {
      try {
        return utf8.decode(bytes);
      } catch {
        return "\uFFFD".repeat(bytes.length);
      }
    },
  };
}
