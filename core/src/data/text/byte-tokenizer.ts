import { byteCharacters, byteLevelJson } from "./byte-level.js";
import { HuggingFaceTokenizer } from "./tokenizer.js";

export const endOfText = "<|endoftext|>";

/**
 * A tokenizer without training: one token a UTF-8 byte, whose id is the byte, and `<|endoftext|>` as id 256. It is
 * byte-level BPE with no merges, so its tokenizer.json opens everywhere. Lone surrogates, which UTF-8 cannot hold,
 * become U+FFFD.
 */
export function byteTokenizer(): HuggingFaceTokenizer {
  const vocab: Record<string, number> = {};
  byteCharacters.forEach((character, byte) => {
    vocab[character] = byte;
  });
  return new HuggingFaceTokenizer(
    byteLevelJson({
      specialTokens: [{ content: endOfText, id: 256 }],
      vocab,
      merges: [],
      preTokenization: "gpt2",
    }),
    { eos_token: endOfText },
  );
}
