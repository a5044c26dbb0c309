/** Batches that are not what the model computes with are refused, by name, before they are used. */
import "../../support/runtime.js";
import { nn, Trainer, type text } from "aronnax";
import { expect, it } from "vitest";
import { altered, config, losses, source } from "./support.js";

it.each<[string, (batch: text.Batch) => unknown, RegExp]>([
  ["no batch", () => undefined, /data.next\(\) gave undefined in place of a batch/],
  ["fewer rows", (b) => ({ ...b, batchSize: 2 }), /gave a batch of 2 x 16 tokens, the source says 4 x 16/],
  ["too few tokens", (b) => ({ ...b, inputs: b.inputs.subarray(1) }), /inputs is Int32Array of 63/],
  ["other numbers", (b) => ({ ...b, inputs: Float32Array.from(b.inputs) }), /inputs is Float32Array of 64/],
  ["arrays", (b) => ({ ...b, targets: [...b.targets] }), /targets is Array of 64/],
  ["weights of integers", (b) => ({ ...b, weights: new Int32Array(64) }), /weights is Int32Array of 64/],
  ["no position", ({ after: _, ...b }) => b, /the batch has no `after`/],
  [
    "ids of another tokenizer",
    (b) => ({ ...b, inputs: b.inputs.map((id, i) => (i === 20 ? 257 : id)) }),
    /inputs has the id 257 in row 1, the model's ids are 0 to 256/,
  ],
  [
    "a mark of one's own of targets that do not count",
    (b) => ({ ...b, targets: b.targets.map((id, i) => (i === 50 ? -1 : id)) }),
    /targets has the id -1 in row 3/,
  ],
])("%s", async (_, change, message) => {
  const data = altered(source(), (batch, i) => (i === 2 ? change(batch) : batch) as text.Batch);
  const trainer = new Trainer(config({ data, steps: 4 }));
  await expect(trainer.fit()).rejects.toThrow(message);
  expect(trainer.step).toBe(2);
});

it("are read again after they were refused", async () => {
  const whole = new Trainer(config({ steps: 4 }));
  await whole.fit();
  let broken = true;
  const data = altered(source(), (batch, i) => {
    if (i !== 2 || !broken) return batch;
    broken = false;
    return { ...batch, inputs: batch.inputs.subarray(1) };
  });
  const trainer = new Trainer(config({ data, steps: 4 }));
  await expect(trainer.fit()).rejects.toThrow(/inputs is Int32Array of 63/);
  await trainer.fit();
  expect(losses(trainer)).toEqual(losses(whole));
});

it("but a loss of the user's own may read targets as it likes", async () => {
  const data = altered(source(), (batch) => ({ ...batch, targets: batch.targets.fill(-100) }));
  const trainer = new Trainer(
    config({
      data,
      steps: 2,
      loss: (model, { inputs }) => nn.crossEntropy(model.forward(inputs), inputs),
    }),
  );
  expect((await trainer.fit()).status).toBe("finished");
});
