/** The random keys that a loss gets: for dropout, and resumed as everything else is. */
import "../../support/runtime.js";
import { llm, nn, random, type Tensor, Trainer, type TrainerConfig } from "aronnax";
import { expect, it } from "vitest";
import { config, losses, small, weights } from "./support.js";

type Loss = NonNullable<TrainerConfig<llm.Llama>["loss"]>;

const withDropout: Loss = (model, batch, { key }) => {
  const logits = model.forward(batch.inputs);
  return nn.crossEntropy(key === undefined ? logits : nn.dropout(logits, 0.3, key), batch.targets);
};

it("differ from update to update and from part to part, and follow from the seed", async () => {
  // A loss that is a draw: uniform in [0, 1) for each key.
  const draw: Loss = (model, _, { key }) => {
    const anchor = model.model.norm.weight.sum().mul(0);
    return (key === undefined ? anchor : random.uniform(key, []).add(anchor)) as Tensor;
  };
  const drawn = async (options: object): Promise<number[]> => {
    const trainer = new Trainer(config({ loss: draw, steps: 4, ...options }));
    await trainer.fit();
    return losses(trainer);
  };
  const [whole, again, parts, other] = [
    await drawn({}),
    await drawn({}),
    await drawn({ accumulate: 2 }),
    await drawn({ seed: 1 }),
  ];
  expect(new Set([...whole, ...other, ...parts]).size).toBe(12);
  expect(again).toEqual(whole);
  for (const x of whole) expect(x >= 0 && x < 1).toBe(true);
  // The mean of two parts' draws, each from the update's key with the part's number in it.
  const { foldIn, uniform } = random;
  const expected = await Promise.all([0, 1].map((part) => uniform(foldIn(foldIn(0, 2), part), []).item()));
  expect(parts[2]).toBeCloseTo((expected[0]! + expected[1]!) / 2, 6);
});

it("are the same after a resume, and validations draw nothing", async () => {
  const options = { loss: withDropout, model: llm.llama(small), validation: { every: 6, batches: 2 } };
  const whole = new Trainer(config(options));
  const { validationLoss } = await whole.fit();
  const parts = { ...options, name: "dropped", checkpoints: { every: 5 } };
  await new Trainer(
    config({ ...parts, callbacks: [{ onStep: ({ step }, t) => (step === 4 ? t.stop("half") : undefined) }] }),
  ).fit();
  const resumed = new Trainer(config({ ...parts, resume: true }));
  await resumed.fit();
  expect(await weights(resumed.model)).toEqual(await weights(whole.model));
  expect(losses(resumed)).toEqual(losses(whole));
  expect(await whole.validate(2)).toBe(validationLoss);
  const plain = new Trainer(config({ steps: 2 }));
  await plain.fit();
  expect(losses(whole).slice(0, 2)).not.toEqual(losses(plain));
});
