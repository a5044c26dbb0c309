import { DataError } from "../errors.js";
import { type BpeTexts, textsOf } from "./bpe-trainer.js";
import { specialToken } from "./byte-level.js";
import { endOfText } from "./byte-tokenizer.js";
import { HuggingFaceTokenizer } from "./tokenizer.js";

/** The token of characters that were not in the texts. */
const unknown = "<|unknown|>";

/**
 * A tokenizer of one token a character (Unicode code point) of some texts, in their order, with `<|endoftext|>` and, for all other characters,
 * `<|unknown|>` after them: for small models of small alphabets. Its tokenizer.json opens everywhere.
 *
 * @param texts - as `trainBpe` takes them: an array of texts, a file's path, or any source of texts
 */
export async function characterTokenizer(texts: BpeTexts): Promise<HuggingFaceTokenizer> {
  const found = new Set<string>();
  for await (const text of textsOf(texts)) for (const character of text) found.add(character);
  if (found.size === 0)
    throw new DataError("the texts for a tokenizer of characters are empty", "give some text");
  const characters = [...found].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!);
  const vocab = Object.fromEntries([...characters, endOfText, unknown].map((token, id) => [token, id]));
  const added = [endOfText, unknown].map((content) => specialToken({ content, id: vocab[content]! }));
  return new HuggingFaceTokenizer(
    {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: { type: "Fuse" },
      model: {
        type: "BPE",
        dropout: null,
        unk_token: unknown,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab,
        merges: [],
      },
    },
    { eos_token: endOfText, unk_token: unknown },
  );
}
