import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  byteTokenizer,
  documents,
  jsonLines,
  packed,
  type TextSource,
  type TokenizeProgress,
  textFiles,
  tokenize,
} from "../../../../core/src/data/text/index.js";
import { textSource } from "../../../../core/src/data/text/text-input.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "aronnax-sources-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function file(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

async function texts(source: TextSource): Promise<string[]> {
  const out: string[] = [];
  for await (const { text } of source.documents()) out.push(text);
  return out;
}

describe("text files", () => {
  test("are one document each, or cut at a separator", async () => {
    const a = await file("a.txt", "one\n\ntwo\n\n\n\nthree");
    const b = await file("b.txt", "four");
    expect(await texts(textFiles([a, b]))).toEqual(["one\n\ntwo\n\n\n\nthree", "four"]);
    expect(await texts(textFiles([a, b], { separator: "\n\n" }))).toEqual(["one", "two", "three", "four"]);
  });

  test("are read right when a character or a separator lies across two reads", async () => {
    // The files are read a megabyte at a time.
    const head = "x".repeat((1 << 20) - 1);
    expect(await texts(textFiles(await file("cut.txt", `${head}鯨鯨`)))).toEqual([`${head}鯨鯨`]);
    const parts = await texts(textFiles(await file("cut2.txt", `${head}--y`), { separator: "--" }));
    expect(parts).toEqual([head, "y"]);
  });

  test("that are not UTF-8 are refused by name, or mended when asked", async () => {
    const path = await file("latin1.txt", new Uint8Array([0x66, 0xfc, 0x72]));
    await expect(texts(textFiles(path))).rejects.toThrow(/latin1\.txt is not UTF-8/);
    expect(await texts(textFiles(path, { invalidUtf8: "replace" }))).toEqual(["f\uFFFDr"]);
  });

  test("that are missing are named with the folder that paths are relative to", () => {
    expect(() => textFiles("no-such.txt")).toThrow(/no-such\.txt cannot be read/);
    expect(() => textFiles(folder)).toThrow(/it is a folder/);
  });
});

describe("JSON lines", () => {
  const lines = [
    '{"text":"one"}',
    "",
    "{oops",
    '{"body":"x"}',
    "[1]",
    '{"text":7}',
    '{"text":"two"}',
    '{"text":"thr',
  ];

  test("with a broken line are refused with the line's number", async () => {
    const source = jsonLines(await file("broken.jsonl", lines.join("\n")));
    await expect(texts(source)).rejects.toThrow(/broken\.jsonl, line 3: not valid JSON/);
  });

  test("give the good lines and count the broken ones when asked to skip", async () => {
    const path = await file("skip.jsonl", lines.join("\n"));
    const seen: number[] = [];
    const source = jsonLines(path, { broken: "skip", onBroken: ({ line }) => seen.push(line) });
    expect(await texts(source)).toEqual(["one", "two"]);
    expect(seen).toEqual([3, 4, 5, 6, 8]);
    expect(source.broken.count).toBe(5);
    expect(source.broken.lines.map(({ reason }) => reason)).toEqual([
      expect.stringMatching(/not valid JSON/),
      'the record has no field "text" (it has: body)',
      "the record is an array, not an object",
      'the field "text" is number, not a string',
      expect.stringMatching(/not valid JSON/),
    ]);
    // Counts are of one reading, not of all.
    expect(await texts(source)).toEqual(["one", "two"]);
    expect(source.broken.count).toBe(5);
  });

  test("take the text from another field or from a function", async () => {
    const path = await file("fields.jsonl", '{"q":"2+2","a":"4"}\r\n{"q":"x","a":"y"}\n');
    expect(await texts(jsonLines(path, { text: "q" }))).toEqual(["2+2", "x"]);
    expect(await texts(jsonLines(path, { text: (record) => `${record.q}=${record.a}` }))).toEqual([
      "2+2=4",
      "x=y",
    ]);
  });

  test("may be longer than a read, and hold broken UTF-8", async () => {
    const long = "y".repeat(3_000_000);
    const path = await file(
      "long.jsonl",
      Buffer.concat([
        Buffer.from(`${JSON.stringify({ text: long })}\n{"text":"`),
        new Uint8Array([0xff]),
        Buffer.from(`"}\n{"text":"end"}`),
      ]),
    );
    const source = jsonLines(path, { broken: "skip" });
    expect(await texts(source)).toEqual([long, "end"]);
    expect(source.broken.lines).toEqual([{ path, line: 2, reason: "the line is not UTF-8" }]);
  });
});

describe("compressed files", () => {
  test("are read as what they hold, with progress in bytes of the file", async () => {
    const whole = Array.from({ length: 3000 }, (_, i) => `line ${i} ${Math.sin(i)}`);
    const lines = await file(
      "lines.jsonl.gz",
      gzipSync(whole.map((text) => JSON.stringify({ text })).join("\n")),
    );
    const source = textSource(lines);
    expect(await texts(source)).toEqual(whole);
    let last = 0;
    for await (const { consumed } of source.documents()) {
      expect(consumed).toBeGreaterThanOrEqual(last);
      last = consumed;
    }
    expect(last).toBe(source.size);
    expect(await texts(textSource(await file("plain.txt.gz", gzipSync("naïve 鯨"))))).toEqual(["naïve 鯨"]);
  });

  test("that are cut off or no such files are refused", async () => {
    const cut = await file("cut.txt.gz", gzipSync("text ".repeat(1000)).subarray(0, 30));
    await expect(texts(textFiles(cut))).rejects.toThrow(
      /cut\.txt\.gz cannot be read: unexpected end of file/,
    );
    const odd = await file("odd.jsonl.gz", "not compressed");
    await expect(texts(jsonLines(odd))).rejects.toThrow(/odd\.jsonl\.gz cannot be read: incorrect header/);
  });
});

describe("tokenizing", () => {
  const tokenizer = byteTokenizer();

  test("puts the end token after each document and remembers where each ends", async () => {
    const corpus = await tokenize(["ab", "", "c"], { tokenizer });
    expect(Array.from(corpus.tokens)).toEqual([97, 98, 256, 99, 256]);
    expect(Array.from(corpus.documentEnds)).toEqual([3, 5]);
  });

  test("does not let a document end itself, unless told so", async () => {
    const inText = await tokenize(["a<|endoftext|>b"], { tokenizer });
    expect(inText.tokens.filter((id) => id === 256)).toHaveLength(1);
    const parsed = await tokenize(["a<|endoftext|>b"], { tokenizer, special: "parse" });
    expect(Array.from(parsed.tokens)).toEqual([97, 256, 98, 256]);
  });

  test("works through a very long document in pieces without changing its tokens", async () => {
    const text = "The whale, naïve 鯨 123.\n\n  And so\n".repeat(30_000);
    const corpus = await tokenize([text], { tokenizer });
    expect(tokenizer.decode(corpus.tokens.subarray(0, -1))).toBe(text);
  });

  test("reports progress that ends at 1, and stops when asked", async () => {
    const path = await file(
      "progress.txt",
      "All visible objects are but as pasteboard masks.\n".repeat(40_000),
    );
    const reports: TokenizeProgress[] = [];
    await tokenize(path, { tokenizer, onProgress: (progress) => reports.push({ ...progress }) });
    const last = reports[reports.length - 1]!;
    expect(reports.filter(({ done }) => done)).toEqual([last]);
    expect(last).toMatchObject({
      source: path,
      documents: 1,
      characters: 1_960_000,
      tokens: 1_960_001,
      fraction: 1,
    });
    const abort = new AbortController();
    const endless: TextSource = {
      name: "endless",
      size: undefined,
      async *documents() {
        for (;;) yield { text: "All visible objects are but as pasteboard masks.", consumed: 0 };
      },
    };
    const stopped = tokenize(endless, { tokenizer, signal: abort.signal, onProgress: () => abort.abort() });
    await expect(stopped).rejects.toThrow(/abort/i);
  });

  test("refuses an empty corpus and records that are not text", async () => {
    await expect(tokenize([], { tokenizer })).rejects.toThrow(/is empty/);
    await expect(tokenize(await file("empty.txt", ""), { tokenizer })).rejects.toThrow(/empty\.txt is empty/);
    expect(() => documents([{ text: "x" }] as never)).toThrow(/Document 0 .* of type object/);
    const records = packed([{ text: "x" }] as never, { tokenizer, sequenceLength: 1, batchSize: 1 });
    await expect(records.prepare()).rejects.toThrow(/Document 0 .* of type object/);
    const path = await file("name.txt", "text");
    await expect(tokenize([path], { tokenizer })).rejects.toThrow(/the name of a file: .*name\.txt/);
  });
});
