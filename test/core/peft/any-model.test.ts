/** Adapters of models that are no language models: convolutions, a vision transformer, a recurrent network. */
import "../../support/runtime.js";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nn, peft, random, relu, sgd, type Tensor, Trainer, tree } from "aronnax";
import { afterAll, describe, expect, it, vi } from "vitest";
import { made } from "../train/any.js";
import { distance, moved, numbers } from "./support.js";

vi.setConfig({ testTimeout: 240_000 });
const folder = mkdtempSync(join(tmpdir(), "aronnax-any-adapters-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

class ConvNet extends nn.Module {
  stem = new nn.Conv2d(3, 8, 3, { padding: 1 });
  block = new nn.Conv2d(8, 12, 3, { strides: 2, padding: 1 });
  depthwise = new nn.DepthwiseConv(12, [3, 3], { padding: 1 });
  classifier = new nn.Linear(12, 5, { bias: true });
  forward(x: Tensor): Tensor {
    const features = relu(this.depthwise.forward(relu(this.block.forward(relu(this.stem.forward(x))))));
    return this.classifier.forward(features.mean([2, 3]));
  }
}

class VitBlock extends nn.Module {
  norm1 = new nn.LayerNorm(16);
  qkv = new nn.Linear(16, 48, { bias: true });
  proj = new nn.Linear(16, 16, { bias: true });
  norm2 = new nn.LayerNorm(16);
  mlp = new nn.Mlp(16, 32, { bias: true });
  forward(x: Tensor): Tensor {
    const [batch, time] = x.shape as [number, number];
    const [q, k, v] = this.qkv
      .forward(this.norm1.forward(x))
      .split(3, -1)
      .map((y) => y.reshape([batch, time, 2, 8])) as [Tensor, Tensor, Tensor];
    const mixed = nn.attention(q, k, v, { causal: false }).reshape([batch, time, 16]);
    const attended = x.add(this.proj.forward(mixed));
    return attended.add(this.mlp.forward(this.norm2.forward(attended)));
  }
}

class Vit extends nn.Module {
  patches = new nn.Conv2d(3, 16, 4, { strides: 4 });
  blocks = [new VitBlock(), new VitBlock()];
  head = new nn.Linear(16, 5, { bias: true });
  forward(x: Tensor): Tensor {
    const seen = this.patches.forward(x).flatten(2).swapAxes(1, 2);
    const mixed = nn.applyLayers(this.blocks, seen, (block, y) => block.forward(y), { layers: "scan" });
    return this.head.forward(mixed.mean(1));
  }
}

class Recurrent extends nn.Module {
  embedding = new nn.Linear(6, 8);
  lstm = new nn.LSTM(8, 10, { layers: 2 });
  head = new nn.Linear(10, 5);
  forward(x: Tensor): Tensor {
    return this.head.forward(this.lstm.forward(this.embedding.forward(x)).output.slice(null, -1));
  }
}

type Net = nn.Module & { forward(x: Tensor): Tensor };
const images = random.normal(1, [4, 3, 8, 8]);
const sequences = random.normal(2, [4, 7, 6]);

const cases: [string, () => Net, Tensor, (m: Net) => Net][] = [
  [
    "a ConvNet by LoRA of convolutions",
    () => new ConvNet(),
    images,
    (m) => peft.lora(m, { targetModules: ["stem", "block", "classifier"], rank: 3 }),
  ],
  [
    "a ConvNet by DoRA of convolutions",
    () => new ConvNet(),
    images,
    (m) => peft.lora(m, { targetModules: ["stem", "block"], rank: 3, dora: true }),
  ],
  [
    "a ConvNet by IA3",
    () => new ConvNet(),
    images,
    (m) => peft.ia3(m, { targetModules: ["block", "classifier"], feedforwardModules: ["classifier"] }),
  ],
  ["a ConvNet by BitFit", () => new ConvNet(), images, (m) => peft.bitfit(m)],
  [
    "a ViT by LoRA of all linears, with a head of its own",
    () => new Vit(),
    images,
    (m) =>
      peft.lora(m, {
        targetModules: "all-linear",
        excludeModules: ["head"],
        rank: 4,
        modulesToSave: ["head"],
      }),
  ],
  [
    "a ViT by a regular expression and layers",
    () => new Vit(),
    images,
    (m) => peft.lora(m, { targetModules: /blocks\.\d+\.(qkv|mlp\.up_proj)/, rank: 2, rsLora: true }),
  ],
  [
    "a ViT by adapters",
    () => new Vit(),
    images,
    (m) => peft.pfeiffer(m, { features: 4, targetModules: ["mlp.downProj", "proj"] }),
  ],
  ["a ViT on NF4", () => new Vit(), images, (m) => peft.qlora(m, { rank: 4 })],
  [
    "an LSTM by its parameters",
    () => new Recurrent(),
    sequences,
    (m) =>
      peft.lora(m, {
        rank: 2,
        targetParameters: ["lstm.weight_ih_l0", "lstm.weightHhL0", "lstm.weight_hh_l1"],
      }),
  ],
  ["an LSTM's linear layers", () => new Recurrent(), sequences, (m) => peft.lora(m, { rank: 2 })],
];

describe.each(cases)("%s", (name, make, x, attach) => {
  it("begins as the model, learns, is merged, saved and opened", async () => {
    const base = nn.initialize(make(), 3);
    const fresh = attach(base);
    const limit = name.includes("NF4") ? 1 : 1e-6;
    expect(await distance(fresh.forward(x), base.forward(x))).toBeLessThan(limit);
    const trainer = new Trainer({
      name: name.replaceAll(/\W+/g, "-"),
      folder,
      model: attach(base),
      data: made(4, () => ({
        x: { data: Float32Array.from({ length: x.size }, (_, i) => Math.sin(i * 1.7)), shape: x.shape },
        label: Int32Array.of(0, 1, 2, 3),
      })),
      optimizer: sgd({ learningRate: 0.2 }),
      steps: 12,
      printEvery: 0,
      loss: (m, batch) => nn.crossEntropy(m.forward(batch.x), batch.label),
    });
    await trainer.fit();
    const losses = trainer.rows.flatMap((row) => row.loss ?? []);
    expect(losses.at(-1)!).toBeLessThan(losses[0]!);
    const trained = moved(trainer.model, 0.05);
    const at = join(folder, `${name.replaceAll(/\W+/g, "-")}-saved`);
    await peft.save(trained, at);
    const again = await peft.load(name.includes("NF4") ? peft.remove(trained) : base, at);
    expect(await numbers(again.forward(x))).toEqual(await numbers(trained.forward(x)));
    if (/adapters|BitFit/.test(name)) return;
    const merged = peft.merge(trained);
    expect(await distance(merged.forward(x), trained.forward(x))).toBeLessThan(2e-5);
    expect([...tree.named(merged).keys()]).toEqual([...tree.named(base).keys()]);
  });
});

it("names convolutions in groups, and layers that are no part of another base", async () => {
  const base = nn.initialize(new ConvNet(), 3);
  expect(() => peft.lora(base, { targetModules: ["depthwise"] })).toThrow(/convolution in 12 groups/);
  const at = join(folder, "of-another");
  await peft.save(peft.lora(nn.initialize(new Vit(), 3), { targetModules: ["qkv"], rank: 2 }), at, {
    base: "vit",
  });
  await expect(peft.load(base, at)).rejects.toMatchObject({
    message: expect.stringMatching(/does not fit the model: lora: targetModules \(qkv\) matches nothing/),
    fix: expect.stringMatching(/over the base that it was trained on: vit/),
  });
  const wider = nn.replace(nn.initialize(new Vit(), 3), "blocks.*.qkv", () => new nn.Linear(16, 60));
  await expect(peft.load(wider, at)).rejects.toThrow(
    /lora_B.weight is \[48, 2\], the model and .* say \[60, 2\]/,
  );
});

it("names what a file lacks or has too much, and what its configuration asks for", async () => {
  const base = nn.initialize(new Vit(), 3);
  const at = join(folder, "changed");
  await peft.save(peft.lora(base, { targetModules: ["qkv"], rank: 2 }), at);
  const config = join(at, "adapter_config.json");
  const saved = JSON.parse(readFileSync(config, "utf8"));
  const write = (more: object) => writeFileSync(config, JSON.stringify({ ...saved, ...more }));
  write({ target_modules: ["qkv", "proj"] });
  await expect(peft.load(base, at)).rejects.toThrow(/missing: base_model.model.blocks.0.proj.lora_A.weight/);
  write({ layers_to_transform: [1] });
  await expect(peft.load(base, at)).rejects.toThrow(
    /unexpected: base_model.model.blocks.0.qkv.lora_A.weight/,
  );
  write({ use_qalora: true });
  await expect(peft.load(base, at)).rejects.toThrow(/use_qalora is true, which cannot be computed/);
  write({ init_lora_weights: "pissa" });
  await expect(peft.load(base, at)).rejects.toThrow(/init_lora_weights is "pissa"/);
  write({ peft_type: "VERA" });
  await expect(peft.load(base, at)).rejects.toThrow(/the adapter is VERA/);
  write({ target_modules: "blocks\\.0\\.(qkv" });
  await expect(peft.load(base, at)).rejects.toThrow(/target_modules is/);
  await expect(peft.load(base, join(folder, "nowhere"))).rejects.toThrow(/there is no .*adapter_config.json/);
});
