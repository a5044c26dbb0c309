/** What a loss that is not finite, or rises suddenly, does under each policy. */
import "../../support/runtime.js";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { adamw, constant, type llm, nn, sgd, Trainer, type TrainerConfig, type text } from "aronnax";
import { expect, it } from "vitest";
import { altered, config, folder, losses, source, weights } from "./support.js";

/** Weights that make the loss of one batch infinite or a thousand times the others'. */
const poisoned = (at: number, factor: number) => () =>
  altered(source(), (batch, index) => ({
    ...batch,
    weights: new Float32Array(batch.inputs.length).fill(index === at ? factor : 1),
  }));

/** The loss times the mean of the weights. */
const loss: TrainerConfig<llm.Llama>["loss"] = (model, batch) =>
  nn.crossEntropy(model.forward(batch.inputs), batch.targets).mul(batch.weights!.mean());

const options = (more: Partial<TrainerConfig<llm.Llama>>) =>
  config({ loss, optimizer: adamw({ learningRate: constant(1e-2) }), steps: 12, ...more });

it("leaves the bad update out inside the step, and nothing else", async () => {
  const trainer = new Trainer(options({ data: poisoned(5, Number.NaN)(), onDivergence: "skip" }));
  expect((await trainer.fit()).status).toBe("finished");
  const found = losses(trainer);
  expect(found).toHaveLength(12);
  expect(found.map(Number.isFinite)).toEqual(found.map((_, i) => i !== 5));

  // The same without that batch: rates are constant, and only Adam's count differs.
  const plain = { optimizer: sgd({ learningRate: 0.1 }) };
  const skipping = new Trainer(options({ ...plain, data: poisoned(5, Number.NaN)(), onDivergence: "skip" }));
  await skipping.fit();
  let seen = 0;
  const without: text.BatchSource = altered(source(), (batch) => batch);
  const next = without.next.bind(without);
  without.next = async () => {
    if (seen++ === 5) await next();
    return { ...(await next()), weights: new Float32Array(64).fill(1) };
  };
  const clean = new Trainer(options({ ...plain, data: without, steps: 11 }));
  await clean.fit();
  expect(await weights(skipping.model)).toEqual(await weights(clean.model));
});

it("stops before a checkpoint of the bad state is written", async () => {
  const trainer = new Trainer(
    options({ name: "poisoned", data: poisoned(5, Number.NaN)(), checkpoints: { every: 3 } }),
  );
  await expect(trainer.fit()).rejects.toThrow(/the loss of step 6 is NaN/);
  expect(readdirSync(join(folder, "poisoned", "checkpoints"))).toEqual(["step-000003"]);
});

it("neither saves nor goes on with a state that diverged, whatever is called", async () => {
  const parts = { name: "worthless", checkpoints: { every: 5 } };
  const trainer = new Trainer(options({ ...parts, data: poisoned(11, Number.NaN)() }));
  await expect(trainer.fit()).rejects.toThrow(/the loss of step 12 is NaN/);
  await expect(trainer.fit()).rejects.toThrow(/"worthless" cannot go on: the loss of step 12 is NaN/);
  const saved = () => readdirSync(join(folder, "worthless", "checkpoints"));
  expect(saved()).toEqual(["step-000005", "step-000010"]);
  const again = new Trainer(options({ ...parts, data: poisoned(99, 1)(), resume: true }));
  expect(await again.fit()).toMatchObject({ status: "finished", step: 12 });
});

it("judges a step though its callback throws", async () => {
  const trainer = new Trainer(
    options({
      name: "thrown",
      data: poisoned(5, Number.NaN)(),
      checkpoints: { every: 3 },
      onDivergence: "rollback",
      callbacks: [
        {
          onStep({ loss: value }) {
            if (Number.isNaN(value)) throw new Error("what is this?");
          },
        },
      ],
    }),
  );
  await expect(trainer.fit()).rejects.toThrow("what is this?");
  expect(trainer.step).toBe(3);
  expect(await trainer.fit()).toMatchObject({ status: "finished", step: 12 });
});

it("returns to the last checkpoint and goes on with the data after the bad batch", async () => {
  const started: number[] = [];
  const trainer = new Trainer(
    options({
      name: "returning",
      data: poisoned(7, Number.NaN)(),
      onDivergence: "rollback",
      checkpoints: { every: 5 },
      callbacks: [{ onStep: ({ step }) => void started.push(step) }],
    }),
  );
  expect((await trainer.fit()).status).toBe("finished");
  expect(started).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8, 9, 10, 11, 12]);
  expect(Number.isFinite(losses(trainer).at(-1)!)).toBe(true);
  // From the parameters of step 5 with the batches from the ninth on.
  expect(existsSync(join(folder, "returning", "checkpoints", "step-000005"))).toBe(true);
  const reference = new Trainer(options({ data: poisoned(99, 1)(), steps: 5 }));
  await reference.fit();
  expect(losses(trainer).slice(0, 5)).toEqual(losses(reference));
});

it("returns to the start, not to a checkpoint that an earlier run of the name left", async () => {
  const parts = { name: "left-over", checkpoints: { every: 50 } };
  await new Trainer(options({ ...parts, data: poisoned(99, 1)(), steps: 4 })).fit();
  const steps: number[] = [];
  const trainer = new Trainer(
    options({
      ...parts,
      data: poisoned(1, Number.NaN)(),
      onDivergence: "rollback",
      steps: 4,
      callbacks: [{ onStep: ({ step }) => void steps.push(step) }],
    }),
  );
  await trainer.fit();
  expect(steps).toEqual([1, 2, 1, 2, 3, 4]);
});

it("gives up when every batch is bad", async () => {
  const bad = () =>
    altered(source(), (batch) => ({ ...batch, weights: new Float32Array(64).fill(Number.NaN) }));
  await expect(new Trainer(options({ data: bad(), onDivergence: "skip", steps: 60 })).fit()).rejects.toThrow(
    /25 updates were left out in a row/,
  );
  await expect(new Trainer(options({ data: bad(), onDivergence: "rollback" })).fit()).rejects.toThrow(
    /5 returns did not help/,
  );
});

it("sees a spike by the running mean and deviation, and not the noise before it", async () => {
  const spikes = { deviations: 8, window: 6 };
  const spiked = new Trainer(options({ data: poisoned(9, 1000)(), spikes }));
  await expect(spiked.fit()).rejects.toThrow(/the loss of step 10 is \d+(\.\d+)?, a spike/);
  const skipping = new Trainer(
    options({ data: poisoned(9, 1000)(), spikes, onDivergence: "skip", steps: 14 }),
  );
  expect((await skipping.fit()).loss).toBeLessThan(7);
  const quiet = new Trainer(options({ data: poisoned(99, 1)(), spikes }));
  expect((await quiet.fit()).status).toBe("finished");
});

it("keeps the statistics of spikes in checkpoints", async () => {
  const spikes = { deviations: 8, window: 6 };
  const parts = { name: "watched", spikes, checkpoints: { every: 8 } };
  const first = new Trainer(options({ ...parts, data: poisoned(9, 1000)(), steps: 8 }));
  await first.fit();
  const second = new Trainer(options({ ...parts, data: poisoned(9, 1000)(), resume: true }));
  await expect(second.fit()).rejects.toThrow(/the loss of step 10 is .*, a spike/);
  expect(JSON.parse(readFileSync(join(folder, "watched", "run.json"), "utf8")).status).toBe("failed");
});
