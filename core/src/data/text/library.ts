import { Tokenizer } from "@huggingface/tokenizers";
import type { TokenizerConfig, TokenizerJson } from "./tokenizer.js";

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

type AddedTokens = ReadonlyMap<string, { readonly single_word: boolean }>;

interface Splitter {
  split(text: string): string[];
}

/** What is used of `@huggingface/tokenizers`, whose own declarations Node's module resolution does not find. */
export interface Library {
  readonly pre_tokenizer: PreTokenizer | null;
  readonly decoder: DecoderPart | null;
  readonly model: { encode(words: string[]): string[]; fuse_unk: boolean; _call(words: string[]): string[] };
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
  if (json.added_tokens.some((token) => token.single_word)) {
    mendSingleWords(library.splitter_unnormalized, library.added_tokens_map);
    mendSingleWords(library.splitter_normalized, library.added_tokens_map);
  }
  return library;
}

/** The library makes one unknown token of neighbouring words; Hugging Face's only of what stands within one. */
function mendFusing(model: Library["model"]): void {
  if (!model.fuse_unk) return;
  const fused = model._call.bind(model);
  model._call = (words) => words.flatMap((word) => fused([word]));
}

/** The library finds an added token also inside a word where it is to be found as a word alone. */
function mendSingleWords(splitter: Splitter, added: AddedTokens): void {
  const split = splitter.split.bind(splitter);
  splitter.split = (text) => {
    const sections = split(text);
    const out: string[] = [];
    let open = false;
    for (const [i, section] of sections.entries()) {
      const [before, after] = [sections[i - 1] ?? "", sections[i + 1] ?? ""];
      const inside = endsInWord.test(before) || beginsInWord.test(after);
      const token = added.has(section) && !(inside && added.get(section)!.single_word);
      if (open && !token) out[out.length - 1] += section;
      else out.push(section);
      open = !token;
    }
    return out;
  };
}

const endsInWord = /[\p{L}\p{M}\p{N}_]$/u;
const beginsInWord = /^[\p{L}\p{M}\p{N}_]/u;

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
