/** Training vision models, and what is read out of them; on eight virtual devices. */
import "../../support/eight-devices.js";
import "../../support/runtime.js";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  adamw,
  checkpoint,
  data,
  nn,
  type Tensor,
  Trainer,
  tensor,
  tree,
  valueAndGrad,
  vision,
} from "aronnax";
import { afterAll, describe, expect, it, vi } from "vitest";

vi.setConfig({ testTimeout: 240_000 });
const folder = mkdtempSync(join(tmpdir(), "aronnax-vision-training-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const fixtures = fileURLToPath(new URL("../../fixtures/vision", import.meta.url));
const sizes = { imageSize: 8, patchSize: 4, hiddenSize: 16, layers: 2, heads: 2 };

const norm = async (x: unknown) =>
  Math.sqrt(
    (await Promise.all(tree.leaves(x).map(async (leaf) => Number(await leaf.square().sum().item())))).reduce(
      (a, b) => a + b,
    ),
  );

describe("losses of pairs", () => {
  it.each(["clip", "siglip"])("train on four devices as on one: %s", async (name) => {
    const make = () =>
      name === "clip"
        ? vision.clip({
            vision: { ...sizes },
            text: { hiddenSize: 16, layers: 1, heads: 2, vocabSize: 20, maxPositions: 6, endId: 2 },
            projection: 8,
          })
        : vision.siglip({
            vision: { ...sizes },
            text: { hiddenSize: 16, layers: 1, heads: 2, vocabSize: 20, maxPositions: 6 },
          });
    const pairs = data.generated({
      batchSize: 8,
      make: ({ random: draw }) => ({
        pixels: {
          data: Float32Array.from({ length: 8 * 192 }, () => draw.uniform() - 0.5),
          shape: [8, 3, 8, 8],
        },
        tokens: { data: Int32Array.from({ length: 48 }, () => draw.below(20)), shape: [8, 6] },
      }),
    });
    const run = async (parallel: { data?: number; fsdp?: number; tensor?: number }) => {
      const trainer = new Trainer({
        name: `pairs-${name}-${Object.entries(parallel).join()}`,
        model: nn.initialize(make() as vision.DualEncoder, 3),
        data: pairs,
        optimizer: adamw({ learningRate: 1e-3 }),
        steps: 3,
        parallel,
        printEvery: 0,
        folder,
        loss: (model, { pixels, tokens }) => model.loss({ pixels, tokens }),
      });
      await pairs.restore({ version: 1, kind: "generated", samples: 0, index: 0, seed: 0 });
      await trainer.fit();
      return {
        losses: trainer.rows.map(({ loss }) => loss),
        norms: trainer.rows.map((row) => row.gradient_norm),
        model: trainer.model,
      };
    };
    const one = await run({});
    const four = await run(name === "clip" ? { data: 4 } : { fsdp: 2, tensor: 2 });
    for (const [i, loss] of one.losses.entries()) {
      expect(Number(four.losses[i]) / Number(loss)).toBeCloseTo(1, 5);
      expect(Number(four.norms[i]) / Number(one.norms[i])).toBeCloseTo(1, 4);
    }
    const values = async (model: unknown) =>
      (await Promise.all(tree.leaves(model).map((leaf) => leaf.data()))).flatMap((x) =>
        Array.from(x, Number),
      );
    const [a, b] = [await values(one.model), await values(four.model)];
    const length = (x: number[]) => Math.hypot(...x);
    expect(length(a.map((x, i) => x - b[i]!)) / length(a)).toBeLessThan(5e-3);
  });

  it("are those of Python", async () => {
    await using file = await checkpoint.TensorFiles.open(join(fixtures, "siglip", "reference.safetensors"));
    const bytes = await file.read("output.logits_per_image");
    const logits = tensor(new Float32Array(bytes.buffer, bytes.byteOffset, 9), { shape: [3, 3] });
    const loss = await file.read("loss");
    expect(Number(await nn.sigmoidPairLoss(logits).item())).toBeCloseTo(
      new DataView(loss.buffer, loss.byteOffset).getFloat32(0, true),
      5,
    );
    expect(() => nn.clipLoss(tensor([[1, 2]]))).toThrow(/shape \[1, 2\]/);
  });
});

/** Bright squares in one of four corners. */
const corners = (count: number) => {
  const image = new Float32Array(count * 192);
  const label = Int32Array.from({ length: count }, (_, i) => i % 4);
  for (let i = 0; i < count; i++)
    for (let c = 0; c < 3; c++)
      for (let y = 0; y < 8; y++)
        for (let x = 0; x < 8; x++)
          image[192 * i + 64 * c + 8 * y + x] =
            (Math.floor(y / 4) * 2 + Math.floor(x / 4) === label[i] ? 1 : 0) +
            0.3 * Math.sin(37 * (i + 1) * (64 * c + 8 * y + x + 1));
  return {
    image: { data: image, shape: [count, 3, 8, 8] },
    label,
  };
};

describe("a classifier", () => {
  it("learns with smoothed labels, stochastic depth and rates by depth", async () => {
    const model = vision.vit({ ...sizes, classes: 4, dropPath: 0.2 });
    const groups = vision.layerwiseRates(model, 0.5);
    expect(groups.map(({ learningRateFactor }) => learningRateFactor)).toEqual([0.125, 0.25, 0.5, 1]);
    const trainer = new Trainer({
      name: "corners",
      model,
      data: data.arrays(corners(64), { batchSize: 32, validation: 0.25 }),
      optimizer: adamw({ learningRate: 5e-3, groups }),
      steps: 60,
      printEvery: 0,
      folder,
      loss: (m, { image, label }) => nn.crossEntropy(m.forward(image), label, { labelSmoothing: 0.1 }),
    });
    await trainer.fit();
    const { image, label } = corners(32);
    const found = await trainer.model.forward(tensor(image.data, image)).argmax(-1).data();
    const right = Array.from(found, Number).filter((each, i) => each === label[i]).length;
    expect(right / 32).toBeGreaterThan(0.7);
    // Smoothed, no loss is below the entropy of the targets.
    const least = -(0.925 * Math.log(0.925) + 3 * 0.025 * Math.log(0.025));
    expect(Number(trainer.rows.at(-1)!.loss)).toBeGreaterThan(least - 1e-3);
  });

  it("keeps the statistics of its batch norms in the training's state", async () => {
    const trainer = new Trainer({
      name: "corners-resnet",
      model: vision.resNet({
        embeddingSize: 8,
        hiddenSizes: [8],
        depths: [1],
        layerType: "basic",
        classes: 4,
      }),
      data: data.arrays(corners(32), { batchSize: 16 }),
      optimizer: adamw({ learningRate: 1e-2 }),
      steps: 3,
      parallel: { data: 2 },
      printEvery: 0,
      folder,
      loss: (m, { image, label }, { training }) => nn.crossEntropy(m.forward(image, { training }), label),
    });
    await trainer.fit();
    const { normalization } = trainer.model.embedder;
    expect(Number(await normalization.numBatchesTracked.item())).toBe(3);
    expect(await norm(normalization.runningMean)).toBeGreaterThan(0);
  });
});

describe("a masked autoencoder", () => {
  it("paints what was left out better with training, and puts patches back in their places", async () => {
    const model = nn.initialize(
      vision.mae({ ...sizes, maskRatio: 0.5, decoder: { hiddenSize: 16, layers: 1, heads: 2 } }),
      1,
    );
    const { image } = corners(16);
    const pixels = tensor(image.data, image);
    const back = await model.unpatchify(model.patchify(pixels)).data();
    expect([...back]).toEqual([...image.data]);
    const { mask } = model.reconstruct(pixels, 3);
    expect(await mask.sum(1).array()).toEqual(new Array(16).fill(2));
    const descend = valueAndGrad((m: vision.Mae) => m.loss(pixels, 5));
    let [now, first] = [model, Number.NaN];
    for (let i = 0; i < 8; i++) {
      const [loss, slopes] = descend(now);
      if (i === 0) first = Number(await loss.item());
      now = tree.map((p: Tensor, g: Tensor) => p.sub(g.mul(0.1)), now, slopes);
    }
    expect(Number(await now.loss(pixels, 5).item())).toBeLessThan(0.9 * first);
    // Fixed positions stay what they are.
    expect(await now.tower.embeddings.positions.data()).toEqual(
      await model.tower.embeddings.positions.data(),
    );
  });
});

describe("what is read out of features", () => {
  it("are the votes of neighbours", async () => {
    const known = tensor([
      [1, 0],
      [0.9, 0.1],
      [0, 1],
      [0.1, 0.9],
    ]);
    const found = vision.nearestNeighbours(
      tensor([
        [2, 0.1],
        [0, 3],
      ]),
      known,
      tensor(Int32Array.of(0, 0, 1, 1)),
      { k: 3, classes: 2 },
    );
    const [a, b] = (await found.array()) as number[][];
    expect(a![0]).toBeGreaterThan(0.9);
    expect(b![1]).toBeGreaterThan(0.9);
    expect(a![0]! + a![1]!).toBeCloseTo(1);
    expect(() =>
      vision.nearestNeighbours(known, known, tensor(Int32Array.of(0, 0, 1, 1)), { k: 5, classes: 2 }),
    ).toThrow(/k is 5/);
  });

  it("are the mean directions of prompts", async () => {
    const heads = await vision
      .zeroShot(
        tensor([
          [2, 0],
          [0, 5],
          [0, 1],
          [0, 3],
        ]),
        2,
      )
      .array();
    expect(heads).toEqual([
      [expect.closeTo(Math.SQRT1_2), expect.closeTo(Math.SQRT1_2)],
      [0, 1],
    ]);
  });

  it("are a linear layer over frozen features", async () => {
    const encoder = nn.initialize(vision.vit(sizes), 1);
    class Probe extends nn.Module {
      encoder = nn.freeze(encoder);
      head = new nn.Linear(16, 4, { bias: true });
      forward(x: Tensor) {
        return this.head.forward(this.encoder.forward(x));
      }
    }
    const before = await encoder.tower.norm.weight.data();
    const trainer = new Trainer({
      name: "probe",
      model: new Probe(),
      data: data.arrays(corners(64), { batchSize: 32 }),
      optimizer: adamw({ learningRate: 3e-2 }),
      steps: 30,
      printEvery: 0,
      folder,
      loss: (m, { image, label }) => nn.crossEntropy(m.forward(image), label),
    });
    await trainer.fit();
    expect(await trainer.model.encoder.tower.norm.weight.data()).toEqual(before);
    expect(Number(trainer.rows.at(-1)!.loss)).toBeLessThan(Number(trainer.rows[0]!.loss));
  });
});
