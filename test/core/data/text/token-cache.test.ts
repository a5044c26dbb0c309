import { mkdtemp, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  byteTokenizer,
  defaultTokenCache,
  jsonLines,
  packed,
  type TextInput,
  type TokenizeOptions,
  type TokenizeProgress,
  textFiles,
  tokenize,
  trainBpe,
} from "../../../../core/src/data/text/index.js";

let folder: string;
let cache: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "aronnax-cache-"));
  cache = join(folder, "cache");
});
afterEach(() => rm(folder, { recursive: true }));

const texts = ["Call me Ishmael.", "Some years ago, never mind how long precisely."];
const tokenizer = byteTokenizer();

/** The corpus, and whether its tokens came from the cache. */
async function read(input: TextInput, options: Partial<TokenizeOptions> = {}) {
  let last: TokenizeProgress | undefined;
  const corpus = await tokenize(input, {
    tokenizer,
    cache,
    onProgress: (progress) => {
      last = { ...progress };
    },
    ...options,
  });
  return { corpus, cached: last!.characters === 0 };
}

describe("the token cache", () => {
  test("gives the second time what was tokenized the first time", async () => {
    const first = await read(texts);
    const second = await read(texts);
    expect([first.cached, second.cached]).toEqual([false, true]);
    expect(second.corpus).toEqual(first.corpus);
    const wide = await trainBpe(texts, { vocabSize: 300 });
    const widened = {
      ...wide,
      vocabSize: 100_000,
      encode: wide.encode.bind(wide),
      toJSON: () => wide.toJSON(),
    };
    const big = { tokenizer: widened as never, eosId: 0 };
    const third = await read(texts, big);
    expect(third.corpus.tokens).toBeInstanceOf(Int32Array);
    expect((await read(texts, big)).corpus).toEqual(third.corpus);
  });

  test("is used only where everything that decides the tokens is equal", async () => {
    const path = join(folder, "text.txt");
    await writeFile(path, "one\n\ntwo");
    await read(path);
    expect((await read(path)).cached).toBe(true);
    expect((await read(textFiles(path, { separator: "\n\n" }))).cached).toBe(false);
    expect((await read(path, { special: "parse" })).cached).toBe(false);
    expect((await read(path, { eosId: 7 })).cached).toBe(false);
    expect((await read(path, { tokenizer: await trainBpe(texts, { vocabSize: 260 }) })).cached).toBe(false);
    // As long as before, and other text.
    await writeFile(path, "two\n\none");
    expect((await read(path)).cached).toBe(false);
    expect((await read(["ab", "c"])).cached).toBe(false);
    expect((await read(["a", "bc"])).cached).toBe(false);
  });

  test("is not used for what a function returns", async () => {
    const path = join(folder, "records.jsonl");
    await writeFile(path, '{"text":"one"}\n');
    const source = () => jsonLines(path, { text: (record) => String(record.text) });
    await read(source());
    expect((await read(source())).cached).toBe(false);
    await read(jsonLines(path));
    expect((await read(jsonLines(path))).cached).toBe(true);
  });

  test("keeps what is known of broken lines, which are said each time", async () => {
    const path = join(folder, "some.jsonl");
    await writeFile(path, '{"text": "one"}\n{"text": 2}\n{"text": "three"}\nfour\n');
    const warned = vi.spyOn(console, "warn").mockImplementation(() => {});
    for (const cached of [false, true]) {
      const source = jsonLines(path, { broken: "skip" });
      const found = await read(source);
      expect(found.cached).toBe(cached);
      expect(source.broken).toMatchObject({ count: 2, lines: [{ line: 2 }, { line: 4 }] });
      expect(found.corpus.broken).toEqual(source.broken);
      expect(warned.mock.calls.at(-1)![0]).toMatch(
        /^2 broken lines .* 2 documents:\n.*some\.jsonl, line 2: /s,
      );
    }
    expect(warned).toHaveBeenCalledTimes(2);
    warned.mockRestore();
  });

  test("is passed over when it is damaged", async () => {
    const { corpus } = await read(texts);
    const [name] = await readdir(cache);
    await truncate(join(cache, name!), 100);
    const again = await read(texts);
    expect(again).toEqual({ corpus, cached: false });
    expect((await read(texts)).cached).toBe(true);
  });

  test("warns and goes on where it cannot be written", async () => {
    await writeFile(cache, "a file, not a folder");
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    expect((await read(texts)).cached).toBe(false);
    expect(warn).toHaveBeenCalledWith(expect.stringMatching(/cannot be cached in .*cache/));
    warn.mockRestore();
  });

  test("serves packed text, and lies in the user's cache folder by default", async () => {
    const options = { tokenizer, sequenceLength: 4, batchSize: 2, cache };
    const first = await packed(texts, options).next();
    expect(await readdir(cache)).toHaveLength(1);
    expect(await packed(texts, options).next()).toEqual(first);
    vi.stubEnv("XDG_CACHE_HOME", "/elsewhere");
    expect(defaultTokenCache()).toBe("/elsewhere/aronnax/tokens");
    vi.unstubAllEnvs();
  });
});
