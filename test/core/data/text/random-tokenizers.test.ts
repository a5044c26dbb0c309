import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { HuggingFaceTokenizer, type TokenizerJson } from "../../../../core/src/data/text/index.js";

interface Case {
  seed: number;
  file: TokenizerJson;
  encodings: [text: string, plain: number[], special: number[]][];
  decoded: [ids: number[], whole: string, skipped: string][];
}

// Made by test/fixtures/tokenizers/make_random.py with Hugging Face's `tokenizers`.
const cases = JSON.parse(
  gunzipSync(
    readFileSync(new URL("../../../fixtures/tokenizers/random.json.gz", import.meta.url)),
  ).toString(),
) as Case[];

function types(part: object | null): string[] {
  const given = (part ?? {}) as Record<string, unknown>;
  if (given.type === undefined) return [];
  const inner = given.normalizers ?? given.pretokenizers ?? given.decoders ?? given.processors;
  return Array.isArray(inner) ? inner.flatMap(types) : [String(given.type)];
}

describe("tokenizers of random parts", () => {
  test.each(cases)("$seed encode and decode as Hugging Face's library", ({ file, encodings, decoded }) => {
    const tokenizer = new HuggingFaceTokenizer(file);
    for (const [text, plain, special] of encodings) {
      expect(Array.from(tokenizer.encode(text)), JSON.stringify(text)).toEqual(plain);
      expect(Array.from(tokenizer.encode(text, { addSpecialTokens: true }))).toEqual(special);
    }
    for (const [ids, whole, skipped] of decoded) {
      expect(tokenizer.decode(ids)).toBe(whole);
      expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(skipped);
    }
  });

  test("have every part that there is", () => {
    const parts = cases.flatMap(({ file }) =>
      [file.normalizer, file.pre_tokenizer, file.decoder, file.post_processor].flatMap(types),
    );
    expect([...new Set(parts)].sort()).toEqual([
      "BPEDecoder",
      "BertNormalizer",
      "BertPreTokenizer",
      "BertProcessing",
      "ByteFallback",
      "ByteLevel",
      "CTC",
      "CharDelimiterSplit",
      "Digits",
      "FixedLength",
      "Fuse",
      "Lowercase",
      "Metaspace",
      "NFC",
      "NFD",
      "NFKC",
      "NFKD",
      "Nmt",
      "Prepend",
      "Punctuation",
      "Replace",
      "RobertaProcessing",
      "Split",
      "Strip",
      "StripAccents",
      "TemplateProcessing",
      "UnicodeScripts",
      "Whitespace",
      "WhitespaceSplit",
      "WordPiece",
    ]);
  });
});
