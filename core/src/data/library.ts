import { Tokenizer } from "@huggingface/tokenizers";
import type { TokenizerConfig, TokenizerJson } from "./tokenizer.js";

/** Cuts text into words, or words into smaller ones. */
export interface PreTokenizer {
  pre_tokenize(text: string | string[]): string[];
  /** The parts of a `Sequence`. */
  tokenizers?: (PreTokenizer | null)[];
}

/** What is used of `@huggingface/tokenizers`, whose own declarations Node's module resolution does not find. */
export interface Library {
  readonly pre_tokenizer: PreTokenizer | null;
  readonly model: { encode(words: string[]): string[] };
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
  return new Tokenizer(json, config) as Library;
}
