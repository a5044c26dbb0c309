/** The examples, run as they are: each result against a control that the example computes beside it, and recursions against brute force. */
import "../support/runtime.js";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { grad, random, type Tensor, tensor } from "aronnax";
import { afterAll, beforeAll, expect, it } from "vitest";
import * as clip from "../../examples/clip.ts";
import * as cnn from "../../examples/cnn.ts";
import * as ctc from "../../examples/ctc.ts";
import * as dpo from "../../examples/dpo.ts";
import * as finetune from "../../examples/finetune.ts";
import * as flow from "../../examples/flow-unet.ts";
import * as gan from "../../examples/gan.ts";
import * as grpo from "../../examples/grpo.ts";
import * as mel from "../../examples/log-mel.ts";
import * as lora from "../../examples/lora.ts";
import * as lstm from "../../examples/lstm.ts";
import * as rnnt from "../../examples/rnnt.ts";
import * as vit from "../../examples/vit.ts";
import * as vq from "../../examples/vq.ts";

const patience = 240_000;
const home = process.cwd();
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "aronnax-examples-"));
  process.chdir(folder);
});
afterAll(() => {
  process.chdir(home);
  rmSync(folder, { recursive: true, force: true });
});

it("are all run here", () => {
  const shared = ["digits.ts", "speech.ts"];
  const files = readdirSync(join(home, "examples")).filter(
    (name) => /\.ts$/.test(name) && !shared.includes(name),
  );
  expect(files.sort()).toEqual(
    [
      "clip",
      "cnn",
      "ctc",
      "dpo",
      "finetune",
      "flow-unet",
      "gan",
      "grpo",
      "log-mel",
      "lora",
      "lstm",
      "rnnt",
      "vit",
      "vq",
    ].map((name) => `${name}.ts`),
  );
});

it.each([
  ["a Vision Transformer", vit.run, 0.7],
  ["a convolutional network with batch normalization", cnn.run, 0.85],
])(
  "%s reads digits that it has not seen, and none untrained",
  async (_, run, least) => {
    const { accuracy, untrained } = await run();
    expect(untrained).toBeLessThan(0.3);
    expect(accuracy).toBeGreaterThan(least);
  },
  patience,
);

it(
  "an LSTM adds the marked numbers, far better than a constant",
  async () => {
    const { error, constant } = await lstm.run();
    expect(constant).toBeGreaterThan(0.12);
    expect(error).toBeLessThan(constant / 4);
  },
  patience,
);

/** log Σ exp. */
const logSum = (xs: readonly number[]) => {
  const most = Math.max(...xs);
  return most + Math.log(xs.reduce((sum, x) => sum + Math.exp(x - most), 0));
};
const rowsOf = async (x: Tensor) => (await x.array()) as number[][];

it.each([[[1, 2]], [[1, 1]], [[2, 0]], [[0, 0]]])(
  "CTC's recursion is the sum over all alignments of %j",
  async (labels) => {
    const [time, classes] = [5, 3];
    const logProbs = random.normal(labels[0]! * 3 + labels[1]!, [time, classes]).logSoftmax();
    const values = await rowsOf(logProbs);
    const wanted = labels.filter((l) => l !== 0).join();
    const scores: number[] = [];
    for (let code = 0; code < classes ** time; code++) {
      const path = Array.from({ length: time }, (_, t) => Math.floor(code / classes ** t) % classes);
      if (path.filter((c, t) => c !== 0 && c !== path[t - 1]).join() !== wanted) continue;
      scores.push(path.reduce((sum, c, t) => sum + values[t]![c]!, 0));
    }
    const target = tensor(Int32Array.from(labels), { shape: [2] });
    expect(await ctc.ctcLoss(logProbs, target).item()).toBeCloseTo(-logSum(scores), 4);
    const slope = (await grad((x: Tensor) => ctc.ctcLoss(x, target))(logProbs).data()) as Float32Array;
    expect(slope.every(Number.isFinite)).toBe(true);
    // Each frame takes one class in every alignment.
    expect(slope.reduce((a, b) => a + b, 0)).toBeCloseTo(-time, 3);
  },
);

it.each([[[1, 2]], [[2, 2]], [[1, 0]]])(
  "the transducer's recursion is the sum over all paths of %j",
  async (labels) => {
    const [time, classes] = [4, 3];
    const logProbs = random.normal(5, [time, labels.length + 1, classes]).logSoftmax();
    const values = (await logProbs.array()) as number[][][];
    const count = labels.filter((l) => l !== 0).length;
    const walk = (t: number, u: number, sum: number): number[] => [
      ...(u < count ? walk(t, u + 1, sum + values[t]![u]![labels[u]!]!) : []),
      ...(t < time - 1
        ? walk(t + 1, u, sum + values[t]![u]![0]!)
        : u === count
          ? [sum + values[t]![u]![0]!]
          : []),
    ];
    const target = tensor(Int32Array.from(labels), { shape: [2] });
    expect(await rnnt.transducerLoss(logProbs, target).item()).toBeCloseTo(-logSum(walk(0, 0, 0)), 4);
  },
);

it(
  "CTC writes down what it hears",
  async () => {
    const { exact, untrained } = await ctc.run();
    expect(untrained).toBeLessThan(0.2);
    expect(exact).toBeGreaterThan(0.7);
  },
  patience,
);

it(
  "a transducer prefers what was said to what was said elsewhere",
  async () => {
    const { loss, untrained, shuffled, preferred } = await rnnt.run();
    expect(loss).toBeLessThan(untrained / 4);
    expect(loss).toBeLessThan(shuffled / 4);
    expect(preferred).toBeGreaterThan(0.9);
  },
  patience,
);

it(
  "a GAN's samples lie on the ring, and around it",
  async () => {
    const { distance, untrained, middle } = await gan.run();
    expect(distance).toBeLessThan(untrained / 2);
    expect(middle).toBeLessThan(0.5);
  },
  patience,
);

it(
  "LoRA learns another task beside a base that stays as it was",
  async () => {
    const { before, after, onFirst, added, frozen } = await lora.run();
    expect(before).toBeLessThan(0.65);
    expect(after).toBeGreaterThan(before + 0.2);
    expect(onFirst).toBeGreaterThan(0.9);
    expect(added).toBeLessThan(frozen / 5);
  },
  patience,
);

it(
  "flow matching draws what is far nearer to digits than noise is",
  async () => {
    const { distance, noise } = await flow.run();
    expect(distance).toBeLessThan(noise / 4);
  },
  patience,
);

it(
  "DPO learns the preference, from a loss of log 2",
  async () => {
    const { accuracy, loss, untrained } = await dpo.run();
    expect(untrained).toBeCloseTo(Math.LN2, 5);
    expect(accuracy).toBeGreaterThan(0.8);
    expect(loss).toBeLessThan(0.55);
  },
  patience,
);

it(
  "GRPO raises the reward",
  async () => {
    const { reward, untrained } = await grpo.run();
    expect(untrained).toBeLessThan(0.15);
    expect(reward).toBeGreaterThan(0.5);
  },
  patience,
);

it(
  "VQ keeps most of the variance in few codes",
  async () => {
    const { left, untrained, codes } = await vq.run();
    expect(untrained).toBeGreaterThan(0.9);
    expect(left).toBeLessThan(0.4);
    expect(codes).toBeGreaterThan(6);
    expect(codes).toBeLessThanOrEqual(32);
  },
  patience,
);

it("log-mel features are those of a plain Fourier sum, and hear tones", async () => {
  const { sampleRate, frame, hop, bands } = mel;
  const samples = Float32Array.from(
    { length: frame + 2 * hop },
    (_, i) => Math.sin(i * i * 1e-3) + 0.3 * Math.cos(i),
  );
  const found = await rowsOf(mel.logMel(tensor(samples)));
  expect([found.length, found[0]!.length]).toEqual([3, bands]);
  const toMel = (f: number) => 2595 * Math.log10(1 + f / 700);
  const edge = (i: number) => 700 * (10 ** ((i * toMel(sampleRate / 2)) / (bands + 1) / 2595) - 1);
  for (const [t, row] of found.entries()) {
    const power = Array.from({ length: frame / 2 + 1 }, (_, k) => {
      let [re, im] = [0, 0];
      for (let n = 0; n < frame; n++) {
        const x = samples[t * hop + n]! * (0.5 - 0.5 * Math.cos((2 * Math.PI * n) / frame));
        re += x * Math.cos((2 * Math.PI * k * n) / frame);
        im -= x * Math.sin((2 * Math.PI * k * n) / frame);
      }
      return re * re + im * im;
    });
    for (const [b, value] of row.entries()) {
      const [low, middle, high] = [edge(b), edge(b + 1), edge(b + 2)];
      const energy = power.reduce((sum, p, k) => {
        const f = (k * sampleRate) / frame;
        return sum + p * Math.max(0, Math.min((f - low) / (middle - low), (high - f) / (high - middle)));
      }, 0);
      // What a frame's rounding in float32 adds is as large in quiet bands as in loud ones.
      const rounding = 1e-4 * energy + 1e-7 * Math.max(...power);
      expect(Math.abs(Math.exp(value) - Math.max(energy, 1e-10))).toBeLessThan(rounding);
    }
  }
  for (const [hertz, heard] of Object.entries(await mel.run()))
    expect(Math.abs(heard - Number(hertz)) / Number(hertz)).toBeLessThan(0.1);
});

it(
  "CLIP finds a picture's caption among all of a batch that is computed in parts",
  async () => {
    const { found, untrained } = await clip.run();
    expect(untrained).toBeLessThan(0.2);
    expect(found).toBeGreaterThan(0.8);
  },
  patience,
);

it(
  "fine-tuning opens what a run has left, and answers right",
  async () => {
    const { copied, before, after } = await finetune.run();
    expect(copied).toBeGreaterThan(0.8);
    expect(before).toBeLessThan(0.2);
    expect(after).toBeGreaterThan(0.8);
  },
  patience,
);
