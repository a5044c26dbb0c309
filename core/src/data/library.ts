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

/** What is used of `@huggingface/tokenizers`, whose own declarations Node's module resolution does not find. */
export interface Library {
  readonly pre_tokenizer: PreTokenizer | null;
  readonly decoder: DecoderPart | null;
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
  const library = new Tokenizer(json, config) as Library;
  if (library.decoder !== null) mendByteFallback(library.decoder);
  return library;
}

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
