/**
 * The reversible byte alphabet of GPT-2 (Radford et al. 2019): each byte is a printable character, so that a vocabulary
 * of byte strings can be written as JSON. Printable Latin-1 bytes stand for themselves, the others for U+0100 onwards.
 */
export const byteCharacters: readonly string[] = (() => {
  const characters = new Array<string>(256);
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    characters[byte] = String.fromCharCode(printable ? byte : next++);
  }
  return characters;
})();

/** A rule that cuts text into words; a token never crosses the border of two words. */
export type PreTokenization = "gpt2" | "llama3";

/** Llama 3's rule (as in its published tokenizer.json): contractions in any case, and at most three digits together. */
const llama3Pattern =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" +
  "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** GPT-2's rule, which `ByteLevel` applies unless `use_regex` is false. */
export const gpt2Pattern =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const bytes = new Map(byteCharacters.map((character, byte) => [character, byte]));
const isAscii = /^[!-~]*$/;

/** The bytes of a text, written in this alphabet. */
export function asBytes(text: string): string {
  if (isAscii.test(text)) return text;
  let out = "";
  for (const byte of Buffer.from(text)) out += byteCharacters[byte];
  return out;
}

/** The bytes that a token of this alphabet stands for; those of the text itself where a character is none of the alphabet's. */
export function bytesOf(token: string): Uint8Array {
  const out = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = bytes.get(token[i]!);
    if (byte === undefined) return Buffer.from(token);
    out[i] = byte;
  }
  return out;
}

function split(pattern: string): object {
  return {
    type: "Sequence",
    pretokenizers: [
      { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false },
      { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
    ],
  };
}

/** The `pre_tokenizer` of tokenizer.json for a rule. */
export function preTokenizerJson(rule: PreTokenization): object {
  if (rule === "gpt2") {
    return { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  }
  return split(llama3Pattern);
}

/** A special token, as tokenizer.json lists it. */
export function specialToken({ content, id }: { readonly content: string; readonly id: number }) {
  return {
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  };
}

/** A whole tokenizer.json for byte-level BPE. */
export function byteLevelJson(parts: {
  specialTokens: readonly { content: string; id: number }[];
  vocab: Record<string, number>;
  merges: readonly (readonly [string, string])[];
  preTokenization: PreTokenization;
}) {
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: parts.specialTokens.map(specialToken),
    normalizer: null,
    pre_tokenizer: preTokenizerJson(parts.preTokenization),
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: parts.vocab,
      merges: parts.merges.map(([left, right]) => [left, right] as [string, string]),
    },
  };
}
