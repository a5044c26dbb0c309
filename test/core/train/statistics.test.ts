/** Statistics of gradients and activations, and what a step reports of its cost. */
import "../../support/runtime.js";
import { evaluate, grad, llm, nn, Trainer, tensor, tree } from "aronnax";
import { expect, it } from "vitest";
import { peakFlops } from "../../../core/src/train/devices.js";
import { config, losses, small, source } from "./support.js";

const deep = { ...small, layers: 2 };

it("are the norms by block of the gradients, and what blocks return", async () => {
  const data = source();
  await data.prepare();
  const first = await data.next();
  const trainer = new Trainer(
    config({ model: llm.llama(deep), steps: 3, statistics: { every: 2, activations: true } }),
  );
  await trainer.fit();
  const [one, two] = trainer.rows;
  expect(one!["gradient_norm/model.layers.0"]).toBeUndefined();
  expect(Object.keys(two!).filter((column) => column.startsWith("activation_rms/"))).toEqual([
    "activation_rms/model.layers.0",
    "activation_rms/model.layers.1",
  ]);
  // All parts together have the norm of the whole.
  const parts = Object.entries(two!).filter(([column]) => column.startsWith("gradient_norm/"));
  expect(parts.map(([column]) => column.slice(14)).sort()).toEqual([
    "lmHead",
    "model.embedTokens",
    "model.layers.0",
    "model.layers.1",
    "model.norm",
  ]);
  expect(Math.hypot(...parts.map(([, x]) => x))).toBeCloseTo(two!.gradient_norm!, 4);

  // The first step against gradients and activations computed outside the Trainer.
  const single = new Trainer(
    config({ model: llm.llama(deep), steps: 1, statistics: { every: 1, activations: true } }),
  );
  await single.fit();
  const row = single.rows[0]!;
  const model = nn.initialize(llm.llama(deep), 0);
  const shape = [first.batchSize, first.sequenceLength];
  const [inputs, targets] = [tensor(first.inputs, { shape }), tensor(first.targets, { shape })];
  const gradients = await evaluate(
    grad((m: llm.Llama) => nn.crossEntropy(m.forward(inputs), targets))(model),
  );
  let squares = 0;
  for (const leaf of tree.leaves(gradients.model.layers[1])) squares += await leaf.square().sum().item();
  expect(row["gradient_norm/model.layers.1"]).toBeCloseTo(Math.sqrt(squares), 4);
  const parameters = tree.leaves(model.model.layers[1]);
  let size = 0;
  for (const leaf of parameters) size += await leaf.square().sum().item();
  expect(row["parameter_norm/model.layers.1"]).toBeCloseTo(Math.sqrt(size), 3);
});

it("of activations are those of the whole batch when it comes in parts", async () => {
  const run = async (accumulate: number) => {
    const trainer = new Trainer(
      config({ model: llm.llama(deep), accumulate, steps: 1, statistics: { every: 1, activations: true } }),
    );
    await trainer.fit();
    return trainer.rows[0]!;
  };
  const [whole, parts] = [await run(1), await run(2)];
  for (const column of Object.keys(whole).filter((c) => c.includes("/")))
    expect(parts[column], column).toBeCloseTo(whole[column]!, 3);
});

it("do not change the training", async () => {
  const plain = new Trainer(config({ model: llm.llama(deep), steps: 4 }));
  await plain.fit();
  const told = new Trainer(config({ model: llm.llama(deep), steps: 4, statistics: { every: 1 } }));
  await told.fit();
  for (const [i, loss] of losses(told).entries()) expect(loss).toBeCloseTo(losses(plain)[i]!, 5);
});

it("tells the time left and the memory of gradients and activations; the share of the peak only where that is known", async () => {
  const trainer = new Trainer(config({ steps: 4 }));
  await trainer.fit();
  const rows = trainer.rows;
  expect(rows[0]!.memory_activations).toBeGreaterThan(0);
  expect(rows[0]!.seconds_left).toBeUndefined();
  expect(rows[1]!.seconds_left).toBeGreaterThan(0);
  expect(rows.at(-1)!.seconds_left).toBe(0);
  expect(rows.every((row) => row.mfu === undefined)).toBe(true);
  expect(peakFlops("NVIDIA H200")).toBe(989e12);
  expect(peakFlops("NVIDIA H100 80GB HBM3")).toBe(989e12);
  expect(peakFlops("NVIDIA H100 PCIe")).toBe(756e12);
  expect(peakFlops("NVIDIA A100-SXM4-80GB")).toBe(312e12);
  expect(peakFlops("NVIDIA B200")).toBe(2250e12);
  expect(peakFlops("NVIDIA GB200")).toBe(2500e12);
  expect(peakFlops("cpu")).toBeUndefined();
});
