/** Trainings on data of one's own: bucketed clips decoded in workers, mixed sources, a validation that does not depend on the batch size. */
import "../../support/runtime.js";
import { adamw, data, llm, nn, type Tensor, Trainer, text } from "aronnax";
import { expect, it } from "vitest";
import type { OnDevice } from "../../../core/src/train/index.js";
import { config, folder, losses, small, weights } from "./support.js";

class Probe extends nn.Module {
  line: nn.Linear;
  constructor() {
    super();
    this.line = new nn.Linear(2, 1);
  }
  forward(x: Tensor) {
    return this.line.forward(x);
  }
}

type ClipBatch = OnDevice<ReturnType<typeof clips> extends data.Loader<infer F> ? F : never>;

const clips = () =>
  data.loader({
    items: Array.from({ length: 40 }, (_, id) => ({ id, length: 1 + ((id * 7) % 12) })),
    workers: 2,
    batchBudget: 24,
    pad: { clip: true },
    buckets: { bounds: [4, 8, 12] },
    validation: 0.2,
    decode: async ({ id, length }: { id: number; length: number }, { random }) => {
      await new Promise((resolve) => setTimeout(resolve, id % 4));
      const values = Float32Array.from({ length: 2 * length }, () => random.uniform());
      return { clip: { data: values, shape: [length, 2] }, target: id / 40 };
    },
    counts: ({ clip }) => ({ frames: clip.shape[0]! }),
  });

it("resume to the same parameters with samples waiting in buckets, a program for each of the shapes", async () => {
  const options = () => ({
    model: new Probe(),
    data: clips(),
    optimizer: adamw({ learningRate: 1e-2 }),
    steps: 12,
    printEvery: 0,
    folder,
    validation: { every: 12 },
    loss: (model: Probe, { clip, clipLengths, target }: ClipBatch) =>
      model.forward(clip).sum([1, 2]).div(clipLengths!.astype("float32")).sub(target).square().mean(),
  });
  const whole = new Trainer({ ...options(), name: "clips" });
  const { validationLoss } = await whole.fit();
  const parts = { name: "clips-parts", checkpoints: { every: 5 } };
  await new Trainer({
    ...options(),
    ...parts,
    callbacks: [{ onStep: ({ step }, training) => (step === 7 ? training.stop("half") : undefined) }],
  }).fit();
  const resumed = new Trainer({ ...options(), ...parts, resume: true });
  expect((await resumed.fit()).validationLoss).toBe(validationLoss);
  expect(await weights(resumed.model as never)).toEqual(await weights(whole.model as never));
  expect(losses(resumed as never)).toEqual(losses(whole as never));
});

it("validate to one figure whatever the batch size", async () => {
  const documents = Array.from(
    { length: 40 },
    (_, i) => `Document ${i}: ${"the quick brown fox ".repeat(1 + (i % 3))}`,
  );
  const figures: number[] = [];
  for (const batchSize of [1, 2, 3, 4]) {
    const source = text.packed(documents, {
      tokenizer: text.byteTokenizer(),
      sequenceLength: 32,
      batchSize,
      validation: 0.3,
    });
    const trainer = new Trainer(
      config({ data: source, model: llm.llama({ ...small, vocabSize: source.vocabSize }), steps: 1 }),
    );
    figures.push((await trainer.validate())!);
  }
  for (const figure of figures) expect(figure).toBeCloseTo(figures[0]!, 5);
});
