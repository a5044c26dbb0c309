/** Documents side by side in one row train as each in a row of its own. */
import "../../support/runtime.js";
import { sgd, Trainer, type text } from "aronnax";
import { expect, it } from "vitest";
import { config, losses, weights } from "./support.js";

const sentences = [
  "a whale is",
  "seen from the",
  "ship, far",
  "off to leeward",
  "at dawn; the sea",
  "is calm",
];
const documents = sentences.map((each) => [...Buffer.from(each)]);

/** A source that gives these rows again and again. */
function fixed(
  batch: Omit<text.Batch, "after" | "batchSize" | "sequenceLength">,
  rows: number,
): text.BatchSource {
  const position = (): text.DataPosition => ({ version: 1, kind: "fixed", samples: 0 });
  const sequenceLength = batch.inputs.length / rows;
  return {
    batchSize: rows,
    sequenceLength,
    vocabSize: 257,
    prepare: async () => {},
    next: async () => ({ ...batch, batchSize: rows, sequenceLength, after: position() }),
    async *validation() {},
    position,
    restore: async () => {},
  };
}

/** Every document in a row of its own, filled up with tokens of no weight. */
function alone(length: number): text.BatchSource {
  const [inputs, targets] = [
    new Int32Array(documents.length * length),
    new Int32Array(documents.length * length),
  ];
  const shares = new Float32Array(documents.length * length);
  documents.forEach((document, row) => {
    for (let i = 0; i + 1 < document.length; i++) {
      inputs[row * length + i] = document[i]!;
      targets[row * length + i] = document[i + 1]!;
      shares[row * length + i] = 1;
    }
  });
  return fixed({ inputs, targets, weights: shares }, documents.length);
}

/** Three documents in each of two rows, with segments and positions; what is left of a row is a segment of no weight. */
function packed(length: number): text.BatchSource {
  const size = 2 * length;
  const ints = (): Int32Array => new Int32Array(size);
  const [inputs, targets, segments, positions] = [ints(), ints(), ints(), ints()];
  const shares = new Float32Array(size);
  for (const row of [0, 1]) {
    let at = row * length;
    for (const [k, document] of documents.slice(3 * row, 3 * row + 3).entries()) {
      for (let i = 0; i < document.length; i++, at++) {
        inputs[at] = document[i]!;
        segments[at] = k + 1;
        positions[at] = i;
        if (i + 1 === document.length) continue;
        targets[at] = document[i + 1]!;
        shares[at] = 1;
      }
    }
  }
  return fixed({ inputs, targets, segments, positions, weights: shares }, 2);
}

it.each([1, 2])("packed equals unpacked, in %i parts", async (accumulate) => {
  const run = async (data: text.BatchSource, parts: number) => {
    const trainer = new Trainer(
      config({ data, accumulate: parts, optimizer: sgd({ learningRate: 0.5 }), steps: 6 }),
    );
    await trainer.fit();
    return { losses: losses(trainer), weights: await weights(trainer.model) };
  };
  const [apart, together] = [await run(alone(16), 1), await run(packed(48), accumulate)];
  expect(apart.losses.at(-1)!).toBeLessThan(apart.losses[0]! - 0.2);
  for (const [i, loss] of together.losses.entries())
    expect(Math.abs(loss - apart.losses[i]!) / loss, `step ${i + 1}`).toBeLessThan(1e-5);
  for (const [path, values] of Object.entries(together.weights)) {
    for (const [i, value] of values.entries())
      expect(Math.abs(value - apart.weights[path]![i]!), path).toBeLessThan(1e-5);
  }
});
