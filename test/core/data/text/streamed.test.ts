import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
// Built code: the worker thread is a file beside it, which the sources do not have.
import * as built from "../../../../core/dist/data/text/index.js";
import {
  type Batch,
  type BatchSource,
  byteTokenizer,
  packed,
  streamed,
} from "../../../../core/src/data/text/index.js";
import { finished, runTypeScript } from "../../files/run-typescript.js";

const tokenizer = byteTokenizer();
const common = { tokenizer, sequenceLength: 8, batchSize: 3 };
const base = { ...common, shuffleBlock: 5 };
const texts = Array.from({ length: 30 }, (_, i) => `document ${i}: ${"abcdefghij".repeat(i % 4)}`);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "aronnax-streamed-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function take(source: BatchSource, count: number): Promise<Batch[]> {
  const out: Batch[] = [];
  for (let i = 0; i < count; i++) out.push(await source.next());
  return out;
}

const content = (batches: Batch[]) => batches.map(({ inputs, targets }) => [inputs.join(), targets.join()]);

function rows({ inputs, sequenceLength }: Batch): string[] {
  return Array.from({ length: inputs.length / sequenceLength }, (_, i) =>
    inputs.subarray(i * sequenceLength, (i + 1) * sequenceLength).join(),
  );
}

describe("streamed text", () => {
  test("has the sequences of packed text, epoch after epoch", async () => {
    const whole = packed(texts, { ...common, shuffle: false });
    const count = Math.floor(((await whole.trainTokens()).length - 1) / 8);
    const parts = streamed(texts, { ...base, shuffle: false });
    expect(content(await take(parts, count))).toEqual(content(await take(whole, count)));
    const one = { ...base, batchSize: 1 };
    const shuffled = streamed(texts, one);
    const epochs = [await take(shuffled, count), await take(shuffled, count)].map((epoch) =>
      epoch.flatMap(rows),
    );
    expect(epochs[0]).not.toEqual(epochs[1]);
    expect([...epochs[0]!].sort()).toEqual([...epochs[1]!].sort());
    const ordered = (await take(packed(texts, { ...common, batchSize: 1, shuffle: false }), count)).flatMap(
      rows,
    );
    expect([...epochs[0]!].sort()).toEqual([...ordered].sort());
    expect(epochs[0]).not.toEqual(ordered);
  });

  test("goes on from any position bit for bit", async () => {
    const corpus = fc.array(fc.string({ maxLength: 120 }), { minLength: 4, maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(
        corpus,
        fc.nat(40),
        fc.integer({ min: 1, max: 9 }),
        fc.nat(99),
        async (some, before, block, seed) => {
          const input = [...some, "so that there is always a sequence"];
          const parts = [
            { source: input, weight: 1 },
            { source: texts, weight: 0.4 },
          ];
          const make = () =>
            streamed(seed % 2 ? input : parts, { ...base, shuffleBlock: block, seed, segments: true });
          const source = make();
          await source.prepare();
          const position = JSON.parse(
            JSON.stringify((await take(source, before)).at(-1)?.after ?? source.position()),
          );
          const expected = await take(source, 12);
          const resumed = make();
          await resumed.restore(position);
          expect(await take(resumed, 12)).toEqual(expected);
        },
      ),
      { numRuns: 100 },
    );
  });

  test("is mixed by weight as packed text is", async () => {
    const parts = [
      { source: ["a".repeat(100)], weight: 3 },
      { source: ["b".repeat(400)], weight: 1 },
    ];
    const options = { ...common, batchSize: 1, shuffle: false };
    expect(content(await take(streamed(parts, { ...options, shuffleBlock: 5 }), 100))).toEqual(
      content(await take(packed(parts, options), 100)),
    );
    expect(() => streamed([{ source: texts, weight: -1 }], base)).toThrow(/weight of part 0/);
  });

  test("refuses too little text, other data and bad options by name", async () => {
    await expect(streamed(["hi"], base).next()).rejects.toThrow(/has 3 tokens, too few for a sequence of 8/);
    expect(() => streamed(texts, { ...base, shuffleBlock: 0 })).toThrow(/shuffleBlock .* it is 0/);
    const source = streamed(texts, base);
    await source.next();
    await expect(streamed(texts, { ...base, seed: 3 }).restore(source.position())).rejects.toThrow(
      /other data/,
    );
    await expect(packed(texts, common).restore(source.position())).rejects.toThrow(/kind "streamed"/);
    const validated = streamed(texts, { ...base, validation: ["x"] });
    await expect(validated.prepare()).rejects.toThrow(/validation text has 2 tokens/);
  });

  test("validates on text of its own, always the same", async () => {
    const source = streamed(texts, { ...base, validation: ["held out ".repeat(30)] });
    const read = async () => {
      const out: Batch[] = [];
      for await (const batch of source.validation()) out.push(batch);
      return content(out);
    };
    const first = await read();
    expect(first).toHaveLength(Math.ceil(Math.floor(270 / 8) / 3));
    await source.next();
    expect(await read()).toEqual(first);
  });
});

describe("the tokenizing thread", () => {
  test("gives what reading on this thread gives, from every position", async () => {
    const path = join(folder, "corpus.jsonl");
    await writeFile(path, texts.map((text) => `${JSON.stringify({ text })}\n`).join(""));
    const there = built.streamed(path, { ...base, tokenizer: built.byteTokenizer() });
    const here = streamed(path, base);
    expect(content(await take(there, 60))).toEqual(content(await take(here, 60)));
    const position = there.position();
    const expected = content(await take(there, 20));
    await there.restore(position);
    expect(content(await take(there, 20))).toEqual(expected);
    there.close();
  });

  test("counts broken lines, and reports what it cannot read", async () => {
    const path = join(folder, "broken.jsonl");
    await writeFile(path, `{"text":"${"good ".repeat(20)}"}\nbad\n{"text":"${"good ".repeat(20)}"}\n`);
    const options = { ...base, tokenizer: built.byteTokenizer() };
    const source = built.jsonLines(path, { broken: "skip" });
    const reading = built.streamed(source, options);
    await take(reading, 10);
    expect(source.broken.count).toBe(1);
    expect(source.broken.lines).toEqual([{ path, line: 2, reason: expect.stringMatching(/not valid JSON/) }]);
    reading.close();
    const refusing = built.streamed(path, options);
    const refused = take(refusing, 10);
    await expect(refused).rejects.toThrow(/broken\.jsonl, line 2: not valid JSON/);
    await expect(refused).rejects.toMatchObject({
      name: "DataError",
      fix: expect.stringMatching(/broken: "skip"/),
    });
    await expect(refusing.next()).rejects.toThrow(/line 2/);
    refusing.close();
  });

  test("ends when its source is dropped", async () => {
    const path = join(folder, "dropped.txt");
    await writeFile(path, "There she blows! ".repeat(100_000));
    const index = fileURLToPath(new URL("../../../../core/dist/data/text/index.js", import.meta.url));
    const child = await runTypeScript(
      folder,
      `const workers = new Set();
       process.on("worker", (worker) => { workers.add(worker); worker.on("exit", () => workers.delete(worker)); });
       (async () => {
         const { streamed, byteTokenizer } = await import(process.argv[2]);
         for (let i = 0; i < 5; i++) {
           await streamed(process.argv[3], { tokenizer: byteTokenizer(), sequenceLength: 64, batchSize: 4, shuffleBlock: 64 }).next();
         }
         const begun = workers.size;
         for (let i = 0; i < 100 && workers.size > 1; i++) {
           gc();
           await new Promise((resolve) => setTimeout(resolve, 50));
         }
         console.log(begun, workers.size <= 1);
       })();`,
      { arguments: [index, path], flags: ["--expose-gc"] },
    );
    expect(await finished(child)).toEqual({ code: 0, stdout: "5 true\n", stderr: "" });
  });

  test("works ahead without keeping the process alive", async () => {
    const path = join(folder, "alive.txt");
    await writeFile(path, "There she blows! ".repeat(100_000));
    const index = fileURLToPath(new URL("../../../../core/dist/data/text/index.js", import.meta.url));
    const child = await runTypeScript(
      folder,
      `(async () => {
         const { streamed, byteTokenizer } = await import(process.argv[2]);
         const source = streamed(process.argv[3], { tokenizer: byteTokenizer(), sequenceLength: 64, batchSize: 4, shuffleBlock: 64 });
         for (let i = 0; i < 20; i++) await source.next();
         console.log("done");
       })();`,
      { arguments: [index, path] },
    );
    expect(await finished(child)).toEqual({ code: 0, stdout: "done\n", stderr: "" });
  });
});
