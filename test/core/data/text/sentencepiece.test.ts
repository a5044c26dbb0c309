import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { loadSentencePiece, loadTokenizer } from "../../../../core/src/data/text/index.js";
import { parseSentencePieceModel } from "../../../../core/src/data/text/sentencepiece-model.js";

const folder = fileURLToPath(new URL("../../../fixtures/sentencepiece/", import.meta.url));
// Made by test/fixtures/sentencepiece/make.py with SentencePiece.
const reference = JSON.parse(readFileSync(join(folder, "reference.json"), "utf8")) as Record<
  string,
  [text: string, ids: number[], decoded: string][]
>;

describe("SentencePiece models", () => {
  test.each(Object.entries(reference))(
    "encode and decode as SentencePiece does: %s",
    async (name, samples) => {
      const tokenizer = await loadSentencePiece(join(folder, `${name}.model`));
      for (const [text, ids, decoded] of samples) {
        expect(Array.from(tokenizer.encode(text)), JSON.stringify(text)).toEqual(ids);
        const unknown = tokenizer.idOf("<unk>")!;
        // SentencePiece decodes the unknown token to a mark of its own.
        if (!ids.includes(unknown)) expect(tokenizer.decode(ids)).toBe(decoded);
      }
    },
  );

  test("know their special tokens, and are saved as tokenizer.json", async () => {
    const tokenizer = await loadSentencePiece(join(folder, "unigram-bytes.model"));
    expect([tokenizer.bosId, tokenizer.eosId, tokenizer.padId, tokenizer.vocabSize]).toEqual([1, 2, 3, 700]);
    const user = await loadSentencePiece(join(folder, "bpe-user.model"));
    expect(user.bosId).toBeUndefined();
    const out = await mkdtemp(join(tmpdir(), "aronnax-sentencepiece-"));
    try {
      await tokenizer.save(out);
      const text = reference["unigram-bytes"]![0]![0];
      expect((await loadTokenizer(out)).encode(text)).toEqual(tokenizer.encode(text));
    } finally {
      await rm(out, { recursive: true });
    }
  });

  test("that are damaged are refused or read, never hung upon", () => {
    const whole = readFileSync(join(folder, "bpe-user.model"));
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.nat(whole.length), (at, byte, length) => {
        const bytes = Buffer.from(whole);
        bytes[at] = byte;
        try {
          parseSentencePieceModel(bytes.subarray(0, length));
        } catch (error) {
          expect(String(error)).toMatch(/DataError|TypeError.*(encoded|valid)/);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("are named when they cannot be used", async () => {
    await expect(loadSentencePiece(join(folder, "none.model"))).rejects.toThrow(/none\.model cannot be read/);
    const out = await mkdtemp(join(tmpdir(), "aronnax-sentencepiece-"));
    try {
      const path = join(out, "odd.model");
      await writeFile(path, "no protocol buffer");
      await expect(loadSentencePiece(path)).rejects.toThrow(
        /odd\.model cannot be used as a SentencePiece model/,
      );
    } finally {
      await rm(out, { recursive: true });
    }
  });
});
