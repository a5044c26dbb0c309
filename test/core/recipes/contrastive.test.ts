/** Embeddings: InfoNCE against torch and its closed form, over devices, and a model that learns to find what belongs together. */
import "../../support/eight-devices.js";
import "../../support/runtime.js";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  adamw,
  type data,
  llm,
  nn,
  scalar,
  sgd,
  type Tensor,
  Trainer,
  type TrainerConfig,
  tensor,
  text,
} from "aronnax";
import { afterAll, describe, expect, it, vi } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "aronnax-contrastive-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

// Made by test/fixtures/adaptation/make.py with torch.
const reference = JSON.parse(
  readFileSync(new URL("../../fixtures/adaptation/values.json", import.meta.url), "utf8"),
) as { query: number[]; positive: number[]; negatives: number[]; contrast: Record<string, number> };

/** A "model" whose states are given: the token's number is the row of a table. */
class Lookup extends nn.Module {
  table: Tensor;
  config = { vocabSize: 0 };
  constructor(table: Tensor) {
    super();
    this.table = table;
    this.config = { vocabSize: table.shape[0]! };
  }
  hidden(tokens: Tensor): Tensor {
    return this.table.take(tokens, 0);
  }
}

const context = { key: undefined, step: scalar(0, "int32"), training: true, references: {} };
const ids = (values: number[], ...shape: number[]) => tensor(Int32Array.from(values), { shape });

async function lossOf(table: Tensor, batch: object, options: llm.ContrastiveOptions): Promise<number> {
  const found = llm.contrastive<Lookup>(options)(new Lookup(table), batch as never, context) as {
    loss: Tensor;
  };
  return found.loss.item() as Promise<number>;
}

describe("InfoNCE", () => {
  const table = tensor(
    Float32Array.from([...reference.query, ...reference.positive, ...reference.negatives]),
    { shape: [16, 6] },
  );
  const one = ids([1, 1, 1, 1], 4);
  const pairsOnly = {
    query: ids([0, 1, 2, 3], 4, 1),
    queryLengths: one,
    positive: ids([4, 5, 6, 7], 4, 1),
    positiveLengths: one,
  };
  const withNegatives = {
    ...pairsOnly,
    negatives: ids([8, 9, 10, 11, 12, 13, 14, 15], 4, 2, 1),
    negativesLengths: ids(new Array(8).fill(1), 4, 2),
  };

  it("equals torch's, with the batch's texts, with hard negatives, and with both", async () => {
    const { inBatch, together, hard } = reference.contrast;
    expect(await lossOf(table, pairsOnly, { temperature: 0.05 })).toBeCloseTo(inBatch!, 5);
    expect(await lossOf(table, withNegatives, { temperature: 0.05 })).toBeCloseTo(together!, 5);
    expect(await lossOf(table, withNegatives, { temperature: 0.05, inBatch: false })).toBeCloseTo(hard!, 5);
  });

  it("is ln(1 + (N - 1) e^((s - 1) / T)) for positives at cosine 1 and negatives at s", async () => {
    // Equal angles: e_i · a + b · (1, ..., 1).
    const [n, s, temperature] = [5, 0.3, 0.2];
    const [a, b] = [Math.sqrt(1 - s), (Math.sqrt(1 - s + n * s) - Math.sqrt(1 - s)) / n];
    const rows = Float32Array.from({ length: n * n }, (_, i) => b + (Math.floor(i / n) === i % n ? a : 0));
    const own = { tokens: ids([0, 1, 2, 3, 4], n, 1), lengths: ids([1, 1, 1, 1, 1], n) };
    const batch = {
      query: own.tokens,
      queryLengths: own.lengths,
      positive: own.tokens,
      positiveLengths: own.lengths,
    };
    const found = await lossOf(tensor(rows, { shape: [n, n] }), batch, { temperature });
    expect(found).toBeCloseTo(Math.log1p((n - 1) * Math.exp((s - 1) / temperature)), 5);
  });

  it("pools a text's own tokens only", async () => {
    const { textVectors } = await import("../../../core/src/models/llm/embed.js");
    const values = tensor(Float32Array.from([3, 0, 0, 4, 100, 100]), { shape: [3, 2] });
    const model = new Lookup(values) as never;
    const tokens = ids([0, 1, 2], 1, 3);
    const close = async (x: Tensor, wanted: number[]) => {
      for (const [i, v] of [...((await x.data()) as Float32Array)].entries())
        expect(v).toBeCloseTo(wanted[i]!, 6);
    };
    await close(textVectors(model, tokens, ids([2], 1), "mean"), [0.6, 0.8]);
    await close(textVectors(model, tokens, ids([2], 1), "last"), [0, 1]);
  });

  it("refuses options of no sense", async () => {
    expect(() => llm.contrastive({ temperature: 0 })).toThrow(/temperature is 0/);
    expect(() => llm.contrastive({ pooling: "max" as never })).toThrow(/pooling is "max"/);
    await expect(lossOf(table, pairsOnly, { inBatch: false })).rejects.toThrow(/there are no negatives/);
  });
});

describe("a training", () => {
  const tokenizer = text.byteTokenizer();
  const animals = [
    "whale",
    "shark",
    "squid",
    "gull",
    "seal",
    "crab",
    "eel",
    "cod",
    "ray",
    "clam",
    "orca",
    "puffin",
  ];
  const records = Array.from({ length: 96 }, (_, i) => {
    const [name, other] = [animals[i % 12]!, animals[(i + 5) % 12]!];
    return {
      query: `${i} what of the ${name}?`,
      positive: `the ${name} swims by ${i % 7}`,
      negatives: [`the ${other} swims by ${i % 7}`],
    };
  });
  const config = {
    ...llm.configs.tiny,
    layers: 1,
    hiddenSize: 32,
    intermediateSize: 64,
    vocabSize: 257,
    heads: 2,
    keyValueHeads: 1,
  };
  const source = (options: Partial<text.PairsOptions> = {}) =>
    text.pairs(records, { tokenizer, sequenceLength: 64, batchSize: 8, negatives: 1, ...options });
  let runs = 0;
  const trainer = async (options: Partial<TrainerConfig<llm.Llama, text.PairFields>>) =>
    new Trainer<llm.Llama, text.PairFields>({
      name: `contrast-${runs++}`,
      folder,
      model: nn.initialize(llm.llama(config), 2),
      data: await source(),
      optimizer: sgd({ learningRate: 0.05 }),
      loss: llm.contrastive({ temperature: 0.1 }),
      steps: 3,
      printEvery: 0,
      ...options,
    });
  const losses = async (one: Trainer<llm.Llama, text.PairFields>) => {
    await one.fit();
    return one.rows.flatMap((row) => row.loss ?? []);
  };

  it("has the negatives of the whole batch over devices and in parts", async () => {
    const one = await losses(await trainer({}));
    for (const more of [
      { parallel: { data: 2 } },
      { parallel: { data: 4 } },
      { accumulate: 2 },
      { parallel: { fsdp: 2 } },
    ])
      for (const [i, found] of (await losses(await trainer(more))).entries())
        expect(Math.abs(found - one[i]!) / one[i]!, `${JSON.stringify(more)}, step ${i}`).toBeLessThan(1e-5);
  });

  it("finds what belongs together among texts that it has not seen", async () => {
    const data = (await source({ batchSize: 16 })) as data.BatchSource<text.PairFields>;
    const learning = await trainer({ data, steps: 150, optimizer: adamw({ learningRate: 3e-3 }) });
    const found = async (model: llm.Llama) => {
      const questions = animals.map((name) => `777 what of the ${name}?`);
      const answers = animals.map((name) => `the ${name} swims by 9`);
      const [q, a] = [
        await llm.embed(model, questions, { tokenizer }),
        await llm.embed(model, answers, { tokenizer, batchSize: 5 }),
      ];
      const cosine = (x: Float32Array, y: Float32Array) => x.reduce((sum, v, i) => sum + v * y[i]!, 0);
      expect(cosine(q[0]!, q[0]!)).toBeCloseTo(1, 5);
      const best = q.map((x) => {
        const scores = a.map((y) => cosine(x, y));
        return scores.indexOf(Math.max(...scores));
      });
      return best.filter((b, i) => b === i).length / animals.length;
    };
    const before = await found(await (async () => nn.initialize(llm.llama(config), 2))());
    await learning.fit();
    const after = await found(learning.model);
    expect(before).toBeLessThan(0.6);
    expect(after).toBeGreaterThan(0.8);
  });

  it("names what is wrong with pairs", async () => {
    await expect(
      text.pairs([{ query: "a" }], { tokenizer, sequenceLength: 8, batchSize: 1 }),
    ).rejects.toThrow('record 0: there is no field "positive".');
    await expect(source({ negatives: 2 })).rejects.toThrow(
      /record 0: the field "negatives" holds fewer than 2 texts/,
    );
    const warned = vi.spyOn(console, "warn").mockImplementation(() => {});
    const cut = await source({ sequenceLength: 12 });
    expect(warned.mock.calls.flat().join()).toMatch(/288 texts of more than 12 tokens are cut/);
    warned.mockRestore();
    const batch = await cut.next();
    expect(batch.query.shape).toEqual([8, 16]);
    expect(Math.max(...(batch.queryLengths.data as Int32Array))).toBe(12);
    await expect(llm.embed(llm.llama(config), "text" as never, { tokenizer })).rejects.toThrow(
      /no array of texts/,
    );
  });
});
