/** A batch computed in parts gives the update of the whole. */
import "../../support/runtime.js";
import { nn, sgd, Trainer, type text } from "aronnax";
import { expect, it } from "vitest";
import { altered, config, losses, source, weights } from "./support.js";

/** Very different weights from row to row, one row without any. */
function weighed(batch: text.Batch): text.Batch {
  const shares = Float32Array.from(batch.inputs, (token, i) => {
    const row = Math.floor(i / batch.sequenceLength);
    return row === 2 ? 0 : row === 0 ? (token % 7) / 3 : Number(i % batch.sequenceLength < 3);
  });
  return { ...batch, weights: shares };
}

async function trained(accumulate: number, data: () => text.BatchSource) {
  const trainer = new Trainer(
    config({ data: data(), accumulate, optimizer: sgd({ learningRate: 0.3 }), steps: 5 }),
  );
  await trainer.fit();
  return { losses: losses(trainer), weights: await weights(trainer.model) };
}

it.each<[string, number, () => text.BatchSource]>([
  ["without weights", 4, () => source()],
  ["with documents' segments, positions and weights", 2, () => source({ segments: true })],
  ["with weights that differ from part to part", 4, () => altered(source(), weighed)],
])("equals the large batch %s, in %i parts", async (_, parts, data) => {
  const whole = await trained(1, data);
  const summed = await trained(parts, data);
  for (const [i, loss] of summed.losses.entries()) expect(loss).toBeCloseTo(whole.losses[i]!, 5);
  for (const [path, values] of Object.entries(summed.weights)) {
    for (const [i, value] of values.entries())
      expect(Math.abs(value - whole.weights[path]![i]!), path).toBeLessThan(2e-6);
  }
});

it("gives the model's own loss the whole batch, segments and positions too", async () => {
  const seen: string[][] = [];
  const trainer = new Trainer({
    ...config({ data: source({ segments: true }), accumulate: 2, steps: 1 }),
    loss: (model, batch) => {
      seen.push(Object.entries(batch).map(([name, x]) => `${name} ${x}`));
      return nn.crossEntropy(model.forward(batch.inputs), batch.targets, batch.weights);
    },
  });
  await trainer.fit();
  expect(seen[0]).toEqual([
    "inputs Tensor int32[2, 16]",
    "targets Tensor int32[2, 16]",
    "segments Tensor int32[2, 16]",
    "positions Tensor int32[2, 16]",
    "weights Tensor float32[2, 16]",
  ]);
});
