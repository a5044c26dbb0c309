/** The published trainings as configurations. */
import "../../support/runtime.js";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cosine, llm, nn, previewSchedule, type Schedule, Trainer, text } from "aronnax";
import { afterAll, expect, it } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "aronnax-recipes-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Options {
  learningRate: Schedule;
  [name: string]: unknown;
}

it("have the published figures", () => {
  const config = llm.recipes.llama3_8b.pretrain();
  expect(config).toMatchObject({ name: "llama3_8b-pretrain", precision: "bf16", accumulate: 512 });
  expect([config.data.batchSize, config.data.sequenceLength, config.data.vocabSize]).toEqual([
    512, 8192, 128_256,
  ]);
  const options = config.optimizer.options as Options;
  expect(options).toMatchObject({ beta1: 0.9, beta2: 0.95, weightDecay: 0.1, clipNorm: 1, epsilon: 1e-5 });
  expect(options.learningRate.options).toMatchObject({ peak: 3e-4, warmup: 2000 });
  expect((options.learningRate.options as { final: number }).final).toBeCloseTo(3e-5, 12);

  const model = llm.llama(llm.configs.tiny);
  const tuned = llm.recipes.llama3_8b.finetune({
    model,
    data: ({ batchSize, sequenceLength }) => llm.recipes.tiny.pretrain({ batchSize, sequenceLength }).data,
  });
  expect([tuned.data.batchSize, tuned.data.sequenceLength, tuned.data.vocabSize]).toEqual([128, 2048, 257]);
  expect(tuned.optimizer.options).toMatchObject({ beta2: 0.98 });
  expect((tuned.optimizer.options as Options).learningRate.options).toMatchObject({ peak: 5e-6, warmup: 50 });
});

it("are there for every family that they name, with the right vocabulary and a positive cost", () => {
  const names = Object.keys(llm.recipes);
  expect(names).toEqual(
    expect.arrayContaining(["gpt2", "llama3_8b", "llama3_70b", "qwen3_8b", "mixtral_8x7b", "mistral_7b"]),
  );
  // The largest declare hundreds of thousands of expressions: the small ones of each family stand for them.
  for (const name of ["gpt2", "llama3_2_1b", "qwen3_0_6b"] as const) {
    const { model, data, optimizer } = llm.recipes[name].pretrain();
    expect(data.vocabSize).toBe(llm.configs[name].vocabSize);
    expect(model.flopsPerToken(data.sequenceLength)).toBeGreaterThan(6e8);
    expect((optimizer.options as Options).learningRate.options).toMatchObject({ warmup: 2000 });
  }
});

it("shorten the warm-up of a short trial, and split the batch as asked", async () => {
  const config = llm.recipes.llama3_8b.pretrain({ steps: 100, batchSize: 64, microBatchSize: 4 });
  expect(config.accumulate).toBe(16);
  const rates = await previewSchedule((config.optimizer.options as Options).learningRate, 100);
  expect(rates[9]).toBeCloseTo(3e-4, 9);
  expect(rates[99]).toBeLessThan(3.2e-5);
  expect(() => llm.recipes.llama3_8b.pretrain({ microBatchSize: 7 })).toThrow(
    /microBatchSize is 7, batchSize 512/,
  );
});

it("can be trained with some fields spread over them, on real text or to measure the speed", async () => {
  const lines = Array.from({ length: 60 }, (_, i) => `The ${i}th whale swam past the ship. `.repeat(5));
  const tokenizer = text.byteTokenizer();
  const small = { vocabSize: 257, hiddenSize: 16, intermediateSize: 32, layers: 1, heads: 2 };
  const recipe = llm.recipes.tiny.pretrain({
    batchSize: 4,
    microBatchSize: 2,
    sequenceLength: 32,
    steps: 3,
    model: llm.llama(small),
    data: ({ batchSize, sequenceLength }) =>
      text.packed(lines, { tokenizer, batchSize, sequenceLength, validation: 0.1 }),
  });
  const trainer = new Trainer({ ...recipe, folder, printEvery: 0, precision: "float32" });
  const result = await trainer.fit();
  expect(result).toMatchObject({ status: "finished", step: 3 });
  expect(result.validationLoss).toBeGreaterThan(0);

  const speed = llm.recipes.tiny.pretrain({
    batchSize: 2,
    microBatchSize: 2,
    sequenceLength: 16,
    steps: 2,
    model: llm.llama(small),
  });
  const position = speed.data.position();
  const [first, second] = [await speed.data.next(), await speed.data.next()];
  await speed.data.restore(position);
  expect((await speed.data.next()).inputs).toEqual(first.inputs);
  expect(first.inputs).not.toEqual(second.inputs);
  expect(Math.max(...first.inputs)).toBeLessThan(257);
  const tuned = llm.recipes.tiny.finetune({
    model: nn.initialize(llm.llama(small)),
    batchSize: 2,
    microBatchSize: 2,
    sequenceLength: 16,
    steps: 2,
    data: () => speed.data,
  });
  expect((await new Trainer({ ...tuned, folder, printEvery: 0 }).fit()).step).toBe(2);
});

it("refuses options that there are not, and sizes that are none", () => {
  const { pretrain } = llm.recipes.tiny;
  expect(() => pretrain({ batchsize: 8 } as never)).toThrow(/tiny-pretrain: there is no option batchsize/);
  expect(() => pretrain({ steps: "ten" } as never)).toThrow(/tiny-pretrain: steps is "ten"/);
  expect(() => pretrain({ batchSize: 0 })).toThrow(/tiny-pretrain: batchSize is 0/);
});

it("refuses an option of a schedule that there is not", () => {
  expect(() => cosine({ peak: 1, warmpu: 3 } as never)).toThrow(/there is no option warmpu/);
});

it("finetunes on a source as it is, with the recipe's optimizer", () => {
  const model = llm.llama({ vocabSize: 257, hiddenSize: 16, intermediateSize: 32, layers: 1, heads: 2 });
  const data = text.packed(["a whale ".repeat(90)], {
    tokenizer: text.byteTokenizer(),
    sequenceLength: 32,
    batchSize: 4,
  });
  const tuned = llm.recipes.tiny.finetune({ model, data, microBatchSize: 2 });
  expect(tuned.data).toBe(data);
  expect([tuned.accumulate, tuned.steps]).toEqual([2, 200]);
  expect(() => llm.recipes.tiny.finetune({ model } as never)).toThrow(/tiny: finetune without data/);
});
