/** What a validation computes: a mean over targets, in as few rows at a time as a step. */
import "../../support/runtime.js";
import { nn, Trainer, tensor, type text } from "aronnax";
import { expect, it } from "vitest";
import { altered, config, source } from "./support.js";

/** Weights that differ from row to row, and far more from batch to batch. */
function weighed(inner: text.BatchSource): text.BatchSource {
  return {
    ...altered(inner, (batch) => batch),
    async *validation(limit) {
      let index = 0;
      for await (const batch of inner.validation(limit)) {
        const share = index++ === 0 ? 1 : 0.05;
        const weights = Float32Array.from(batch.inputs, (token, i) => (share * ((token + i) % 5)) / 4);
        // A last batch of fewer rows, which the number of parts does not divide.
        yield index < 3
          ? { ...batch, weights }
          : {
              ...batch,
              batchSize: 3,
              weights: weights.subarray(0, 48),
              inputs: batch.inputs.subarray(0, 48),
              targets: batch.targets.subarray(0, 48),
            };
      }
    },
  };
}

it("is the mean over all targets by their weights, computed as many rows at a time as a step", async () => {
  const rows: number[] = [];
  const data = () => weighed(source());
  const trainer = new Trainer(
    config({
      data: data(),
      accumulate: 2,
      steps: 2,
      validation: { every: 2, batches: 3 },
      loss: (model, batch) => {
        rows.push(batch.inputs.shape[0]!);
        return nn.crossEntropy(model.forward(batch.inputs), batch.targets, batch.weights);
      },
    }),
  );
  const { validationLoss } = await trainer.fit();
  expect(new Set(rows)).toEqual(new Set([2, 1]));

  // From the logits of each batch, summed in double precision here.
  let [total, weight] = [0, 0];
  for await (const batch of data().validation(3)) {
    const shape = [batch.batchSize, 16];
    const logits = trainer.model.forward(tensor(batch.inputs, { shape }));
    const values = (await logits.data()) as Float32Array;
    for (let i = 0; i < batch.targets.length; i++) {
      const row = Array.from(values.subarray(257 * i, 257 * (i + 1)));
      const sum = row.reduce((a, x) => a + Math.exp(x), 0);
      total += batch.weights![i]! * (Math.log(sum) - row[batch.targets[i]!]!);
      weight += batch.weights![i]!;
    }
  }
  expect(Math.abs(validationLoss! - total / weight)).toBeLessThan(1e-5);
});
