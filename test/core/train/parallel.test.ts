/** Trainings over eight virtual devices: every layout gives the losses and parameters of one device. */
import "../../support/eight-devices.js";
import "../../support/runtime.js";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { adamw, llm, type ParallelConfig, Trainer, type TrainerConfig, text, tree } from "aronnax";
import { afterAll, describe, expect, it } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "aronnax-parallel-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const tokenizer = text.byteTokenizer();
const config = {
  ...llm.configs.tiny,
  layers: 1,
  hiddenSize: 64,
  intermediateSize: 128,
  vocabSize: 264,
  heads: 4,
  keyValueHeads: 2,
};
const corpus = Array.from({ length: 40 }, (_, i) => `line ${i}: ${"the white whale ".repeat(1 + (i % 5))}`);
type Llama = ReturnType<typeof llm.llama>;

function trainer(name: string, more: Partial<TrainerConfig<Llama>> = {}): Trainer<Llama> {
  return new Trainer({
    name,
    folder,
    model: llm.llama(config),
    data: text.packed(corpus, { tokenizer, sequenceLength: 32, batchSize: 8 }),
    optimizer: adamw({ learningRate: 1e-3, weightDecay: 0.1, clipNorm: 1 }),
    steps: 4,
    printEvery: 0,
    ...more,
  });
}

const losses = (t: Trainer<Llama>): number[] => t.rows.map((row) => row.loss!).filter((x) => x !== undefined);

function expectClose(found: readonly number[], wanted: readonly number[]): void {
  expect(found).toHaveLength(wanted.length);
  for (const [i, x] of wanted.entries())
    expect(Math.abs(found[i]! - x) / x, `step ${i + 1}`).toBeLessThan(1e-4);
}

describe("a training spread over devices", { timeout: 180_000 }, async () => {
  const one = trainer("one");
  await one.fit();
  const parameters = new Map(
    await Promise.all([...tree.named(one.model)].map(async ([path, x]) => [path, await x.data()] as const)),
  );

  const layouts: [string, ParallelConfig, Partial<TrainerConfig<Llama>>][] = [
    ["data 8", { data: 8 }, {}],
    ["fsdp 8", { fsdp: 8 }, {}],
    ["data 2, fsdp 2, tensor 2", { data: 2, fsdp: 2, tensor: 2 }, {}],
    ["fsdp 2, accumulated", { fsdp: 2 }, { accumulate: 2 }],
  ];
  it.each(layouts)("equals one device: %s", async (name, parallel, more) => {
    const many = trainer(name.replaceAll(/\W+/g, "-"), { parallel, ...more });
    await many.fit();
    expectClose(losses(many), losses(one));
    const devices = (parallel.data ?? 1) * (parallel.fsdp ?? 1) * (parallel.tensor ?? 1);
    for (const [path, x] of tree.named(many.model)) {
      expect(x.buffer!.sharding!.devices, path).toHaveLength(devices);
      const [found, wanted] = [await x.data(), parameters.get(path)!];
      let [distance, norm] = [0, 0];
      for (let i = 0; i < wanted.length; i++) {
        distance += (Number(found[i]) - Number(wanted[i])) ** 2;
        norm += Number(wanted[i]) ** 2;
      }
      expect(Math.sqrt(distance / norm), path).toBeLessThan(2e-3);
    }
  });

  it("splits parameters and optimizer states, each device holding its part", async () => {
    const split = trainer("held", { parallel: { fsdp: 8 }, steps: 1 });
    await split.fit();
    const weight = tree.named(split.model).get("model.layers.0.mlp.upProj.weight")!;
    expect(weight.buffer!.sharding!.spec).toEqual([null, ["fsdp"]]);
  });

  it("computes in bfloat16 with fused attention in parts, near float32", async () => {
    const narrow = trainer("bf16", { parallel: { fsdp: 4, tensor: 2 }, precision: "bf16" });
    await narrow.fit();
    for (const [i, loss] of losses(narrow).entries()) {
      expect(Math.abs(loss - losses(one)[i]!) / loss).toBeLessThan(5e-3);
    }
  });

  it("loops over layers, recomputes and takes experts, as one device does", async () => {
    const model = (): Llama =>
      llm.mixtral(
        { ...config, layers: 2, experts: { count: 4, perToken: 2 } },
        { layers: "scan", remat: "full" },
      ) as unknown as Llama;
    const alone = trainer("experts", { model: model(), steps: 2 });
    await alone.fit();
    const split = trainer("experts-split", { model: model(), steps: 2, parallel: { fsdp: 2, tensor: 2 } });
    await split.fit();
    expectClose(losses(split), losses(alone));
  });

  it("resumes on another layout", async () => {
    const checkpoints = { every: 2 };
    await trainer("moved", { parallel: { fsdp: 4 }, checkpoints, steps: 2 }).fit();
    const moved = trainer("moved", { parallel: { data: 2, tensor: 2 }, checkpoints, resume: true });
    expect((await moved.fit()).step).toBe(4);
    expectClose(losses(moved), losses(one));
  });

  it("refuses sizes that do not fit, naming field, value and fix", async () => {
    expect(() => trainer("x", { parallel: { data: 3 } })).toThrow(/batch of 8 rows.*parallel.data 3/);
    expect(() => trainer("x", { parallel: { tensor: 4 } })).toThrow(/2 keyValueHeads over parallel.tensor 4/);
    expect(() => trainer("x", { parallel: { data: 2 }, accumulate: 8 })).toThrow(
      /batch of 8 rows in accumulate 8 parts over parallel.data 2/,
    );
    expect(() => trainer("x", { parallel: { fsdp: 0 } })).toThrow(/parallel.fsdp is 0/);
    const many = trainer("x", {
      parallel: { data: 16 },
      data: text.packed(corpus, { tokenizer, sequenceLength: 32, batchSize: 16 }),
    });
    await expect(many.fit()).rejects.toThrow(/asks for 16 devices.*has 8/);
  });
});
