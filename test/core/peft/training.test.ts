/** Trainings of adapters: the base stays where and as it is, and what the Trainer offers works on what is trained. */
import "../../support/eight-devices.js";
import "../../support/runtime.js";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { adamw, checkpoint, llm, nn, peft, Trainer, type TrainerConfig, tree } from "aronnax";
import { afterAll, describe, expect, it, vi } from "vitest";
import { RandomTokens } from "../../../core/src/recipes/random-tokens.js";
import { Runtime } from "../../../core/src/runtime/runtime.js";
import { compiledModules } from "../../support/runtime.js";
import { size } from "./support.js";

vi.setConfig({ testTimeout: 240_000 });
const folder = mkdtempSync(join(tmpdir(), "aronnax-adapters-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let runs = 0;
type Config = TrainerConfig<llm.Llama>;
/** Tokens of which every batch is the same, so that a loss falls. */
const data = (rows = 8, time = 8, vocabSize = 40) => {
  const source = new RandomTokens({ batchSize: rows, sequenceLength: time, vocabSize });
  const next = source.next.bind(source);
  return Object.assign(source, {
    async next() {
      const batch = await next();
      await source.restore({ version: 1, kind: "random-tokens", samples: 0 });
      const first = await next();
      return { ...first, after: batch.after };
    },
  });
};
const trainer = (model: llm.Llama, more: Partial<Config> = {}) =>
  new Trainer<llm.Llama>({
    name: `run-${runs++}`,
    folder,
    model,
    data: data(),
    optimizer: adamw({ learningRate: 0.02, clipNorm: 1 }),
    steps: 6,
    printEvery: 0,
    ...more,
  });
const losses = (t: Trainer<llm.Llama>): number[] => t.rows.flatMap((row) => row.loss ?? []);
const base = (options: nn.LayerOptions = {}): llm.Llama =>
  nn.initialize(llm.llama({ ...size, initStd: 0.2 }, options), 3);
const all = { targetModules: "all-linear", rank: 4 } as const;

const methods: [string, (m: llm.Llama) => llm.Llama][] = [
  ["LoRA", (m) => peft.lora(m, all)],
  ["DoRA", (m) => peft.lora(m, { ...all, dora: true })],
  ["QLoRA", (m) => peft.qlora(m, { rank: 4 })],
  ["LoRA on FP8", (m) => peft.qlora(m, { rank: 4, quantize: { format: "fp8", both: true } })],
  ["IA3", (m) => peft.ia3(m)],
  ["Houlsby's adapters", (m) => peft.houlsby(m)],
  ["prompt tuning", (m) => peft.promptTuning(m, { virtualTokens: 4 })],
  ["prefix tuning", (m) => peft.prefixTuning(m, { virtualTokens: 4 })],
];

const run = async (model: llm.Llama, more: Partial<Config> = {}) => {
  const t = trainer(model, more);
  await t.fit();
  return t;
};

function expectClose(found: readonly number[], wanted: readonly number[], limit = 2e-5): void {
  expect(found).toHaveLength(wanted.length);
  for (const [i, x] of wanted.entries())
    expect(Math.abs(found[i]! - x) / x, `step ${i + 1}`).toBeLessThan(limit);
}

describe.each(methods)("%s", (name, attach) => {
  it("learns, spread over four devices, in parts and recomputed as on one", async () => {
    const whole = await run(attach(base()));
    expect(losses(whole).at(-1)!).toBeLessThan(losses(whole)[0]! * 0.999);
    // An FP8 tensor has one scale, from all that is computed at once.
    const limit = name.endsWith("FP8") ? 5e-3 : 2e-5;
    expectClose(losses(await run(attach(base()), { parallel: { data: 2, fsdp: 2 } })), losses(whole), limit);
    expectClose(
      losses(await run(attach(base()), { parallel: { tensor: 2, fsdp: 2 } })),
      losses(whole),
      limit,
    );
    expectClose(losses(await run(attach(base()), { accumulate: 4 })), losses(whole), limit);
    expectClose(
      losses(await run(attach(base({ layers: "scan", remat: "elementwise" })))),
      losses(whole),
      limit,
    );
  });

  it("has only what is trained in its checkpoints, and resumes bit for bit", async () => {
    const settings = { average: { decay: 0.9 }, checkpoints: { every: 3, keep: 2 } };
    const name = `resumed-${runs}`;
    const half = await run(attach(base()), { ...settings, name, steps: 3 });
    const at = join(folder, name, "checkpoints", "step-000003");
    for (const part of ["model", "average"]) {
      await using saved = await checkpoint.TensorFiles.open(join(at, part));
      expect([...saved.tensors.keys()].every((key) => key.includes("adapters."))).toBe(true);
    }
    expect(half.averaged).toBeDefined();
    const resumed = await run(attach(base()), { ...settings, name, steps: 6, resume: true });
    const whole = await run(attach(base()), { ...settings, steps: 6 });
    const [a, b] = [tree.named(resumed.model), tree.named(whole.model)];
    for (const [path, leaf] of a) {
      if (!path.includes("adapters.")) continue;
      expect(await leaf.data(), path).toEqual(await b.get(path)!.data());
    }
  });
});

/** A base whose matrices have shapes of their own. */
const wide = { vocabSize: 48, hiddenSize: 128, intermediateSize: 416, layers: 4, heads: 4, keyValueHeads: 2 };
const bytesByTag = async (): Promise<number> =>
  (await Runtime.default().memory()).devices.reduce(
    (n, d) => n + (d.byTag.parameter ?? 0) + (d.byTag.optimizer ?? 0) + (d.byTag.other ?? 0),
    0,
  );
const stepText = (seen: ReadonlySet<string>): string =>
  [...compiledModules].find((text) => !seen.has(text) && /module @\w*train_step/.test(text))!;

it("reads a bfloat16 base where it lies: no gradient, no optimizer state, no float32 copy", async () => {
  const model = peft.lora(nn.castTree(nn.initialize(llm.llama(wide), 1), "bfloat16"), all);
  const own = model.model.layers[0]!.mlp as nn.GatedMlp;
  const { weight } = own.gateProj!;
  await Promise.all(tree.leaves(model).map((leaf) => leaf.dtype === "bfloat16" && leaf.data()));
  const [before, seen] = [await bytesByTag(), new Set(compiledModules)];
  const t = await run(model, { data: data(2, 4, 48), precision: "bf16", steps: 3, average: { decay: 0.9 } });
  const now = t.model.model.layers[0]!.mlp as nn.GatedMlp;
  expect(now.gateProj!.weight.buffer).toBe(weight.buffer);
  // Adapters in float32, their average and two moments: 16 bytes each, beside a base of two bytes.
  const trained = model.parameterCount - llm.llama(wide).parameterCount;
  expect((await bytesByTag()) - before).toBeLessThan(1.3 * 16 * trained);
  expect(16 * trained).toBeLessThan(2 * llm.llama(wide).parameterCount);
  const text = stepText(seen);
  const head = text.slice(0, text.indexOf(") -> ("));
  const results = text.slice(text.indexOf(") -> ("), text.indexOf("{\n", text.indexOf(") -> (")));
  for (const shape of ["416x128", "128x416", "64x128"]) {
    // Weights go in as they are, are not given back, and no product gives a gradient of their form.
    expect(head).toContain(`tensor<${shape}xbf16>`);
    expect(results).not.toContain(`tensor<${shape}x`);
    expect(text).not.toContain(`tensor<${shape}xf32>`);
    const products = text.split("\n").filter((line) => /dot_general/.test(line));
    expect(products.filter((line) => line.includes(`-> tensor<${shape}x`))).toEqual([]);
  }
  for (const part of head.split("%arg"))
    if (/416x128xbf16/.test(part)) expect(part).not.toMatch(/donor|aliasing/);
});

it("keeps no dequantized weight from the product to its derivative", async () => {
  const deep = { ...wide, layers: 8 };
  const options = { layers: "scan" } as const;
  const narrow = () => nn.castTree(nn.initialize(llm.llama(deep, options), 1), "bfloat16");
  const settings = { data: data(1, 4, 48), precision: "bf16" as const, steps: 1 };
  const temporaries = async (m: llm.Llama) => (await run(m, settings)).rows[0]!.memory_activations!;
  const matrices = 2 * deep.layers * (2 * 128 * 128 + 2 * 64 * 128 + 3 * 416 * 128);
  const without = await temporaries(peft.lora(narrow(), { ...all, rank: 2 }));
  for (const format of ["nf4", "int8"] as const) {
    const seen = new Set(compiledModules);
    const more = (await temporaries(peft.qlora(narrow(), { rank: 2, quantize: { format } }))) - without;
    console.log(`${format}: ${more} bytes more than bfloat16, whose matrices have ${matrices}`);
    expect(more).toBeLessThan(matrices / 2);
    // What goes from the loop forwards to that backwards is stacked; codes are there, weights are not.
    const text = stepText(seen);
    expect(text).toMatch(format === "nf4" ? /tensor<8x416x64xui8>/ : /tensor<8x416x128xi8>/);
    expect(text).not.toMatch(/tensor<8x(416x128|128x416|128x128|64x128)x(bf16|f32)>/);
  }
});

it("gives B another rate than A by groups (LoRA+), and trains nothing else", async () => {
  const optimizer = adamw({ learningRate: 0.01, groups: peft.loraPlus({ ratio: 8 }) });
  const t = await run(peft.lora(base(), all), { optimizer, steps: 1 });
  const fresh = tree.named(nn.initialize(peft.lora(base(), all), 0));
  const change = async (field: string): Promise<number> => {
    const path = `model.layers.0.selfAttn.qProj.adapters.default.${field}`;
    const now = Array.from(await tree.named(t.model).get(path)!.data(), Number);
    const was = field === "loraB" ? now.map(() => 0) : Array.from(await fresh.get(path)!.data(), Number);
    return Math.max(...now.map((x, i) => Math.abs(x - was[i]!)));
  };
  // Adam's first step moves each by its rate.
  expect(await change("loraB")).toBeCloseTo(0.08, 4);
  expect(() => peft.loraPlus({ ratio: 0 })).toThrow(/ratio is 0/);
});

it("drops inputs in training alone, by keys that every layer and step has of its own", async () => {
  const dropping = () => peft.lora(base(), { ...all, dropout: 0.5 });
  const settings = { steps: 4, validation: { every: 4, batches: 1 } };
  const a = await run(dropping(), settings);
  expect(losses(await run(dropping(), settings))).toEqual(losses(a));
  expect(losses(await run(dropping(), { ...settings, seed: 5 } as Partial<Config>)).slice(1)).not.toEqual(
    losses(a).slice(1),
  );
  expect(losses(await run(peft.lora(base(), all), settings)).slice(1)).not.toEqual(losses(a).slice(1));
  // Without a key nothing is dropped.
  const { model } = a;
  const x = model.model.embedTokens.weight.slice([0, 4]);
  const layer = model.model.layers[0]!.selfAttn.qProj!;
  expect(await layer.forward(x).data()).toEqual(await layer.forward(x).data());
  const keyed = nn.withKeys(model, 7).model.layers;
  const [first, second] = keyed.map(
    ({ selfAttn }) => selfAttn.qProj as unknown as { adapters: Record<string, { dropout: nn.Dropout }> },
  );
  expect(await first!.adapters.default!.dropout.key!.data()).not.toEqual(
    await second!.adapters.default!.dropout.key!.data(),
  );
});
