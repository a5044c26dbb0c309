import "../../support/runtime.js";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type llm, metrics, Trainer, type TrainerCallback } from "aronnax";
import { expect, it } from "vitest";
import { config, folder } from "./support.js";

function recorder(log: string[], name = ""): TrainerCallback<llm.Llama> {
  return {
    onStart: () => void log.push(`${name}start`),
    onStep: ({ step, loss, row }) => {
      expect(row.loss).toBe(loss);
      log.push(`${name}step ${step}`);
    },
    onValidation: ({ step }) => void log.push(`${name}validation ${step}`),
    onCheckpoint: ({ step }) => void log.push(`${name}checkpoint ${step}`),
    onException: (error) => void log.push(`${name}exception ${(error as Error).message}`),
    onEnd: ({ status, step }) => void log.push(`${name}end ${status} ${step}`),
  };
}

it("are told in the order that is promised", async () => {
  const log: string[] = [];
  const trainer = new Trainer(
    config({
      steps: 6,
      validation: { every: 3, batches: 1 },
      checkpoints: { every: 3 },
      callbacks: [recorder(log, "a "), recorder(log, "b ")],
    }),
  );
  await trainer.fit();
  const own = (name: string) => log.filter((line) => line.startsWith(name)).map((line) => line.slice(2));
  expect(own("a ")).toEqual(own("b "));
  const [steps, saved] = [own("a ").filter((l) => !l.startsWith("checkpoint")), own("a ")];
  expect(steps).toEqual([
    "start",
    ...["step 1", "step 2", "step 3", "validation 3", "step 4", "step 5", "step 6", "validation 6"],
    "end finished 6",
  ]);
  // Saving is asynchronous: after its step, before the end, in order.
  const at = (line: string) => saved.indexOf(line);
  expect(at("checkpoint 3")).toBeGreaterThan(at("validation 3"));
  expect(at("checkpoint 6")).toBeGreaterThan(at("checkpoint 3"));
  expect(at("end finished 6")).toBe(saved.length - 1);
  // Each event reaches the callbacks in their order.
  for (let i = 0; i < log.length; i += 2)
    expect([log[i]!.slice(0, 2), log[i + 1]]).toEqual(["a ", `b ${log[i]!.slice(2)}`]);
});

it("may stop the training, log columns and keep samples", async () => {
  const trainer = new Trainer(
    config({
      name: "stopped",
      callbacks: [
        {
          onStep: ({ step }, training) => {
            training.log({ double_step: 2 * step });
            if (step === 4) {
              training.sample("a prompt", "and its continuation");
              training.stop("enough");
            }
          },
        },
      ],
    }),
  );
  const result = await trainer.fit();
  expect(result.status).toBe("stopped");
  expect(result.step).toBeLessThan(8);
  const stored = metrics.readRun(join(folder, "stopped"));
  expect(stored.state).toMatchObject({ status: "finished", message: "enough" });
  expect(stored.rows.flatMap((row) => row.double_step ?? []).slice(0, 4)).toEqual([2, 4, 6, 8]);
  const [sample] = readFileSync(join(folder, "stopped", "samples.jsonl"), "utf8")
    .trim()
    .split("\n");
  expect(JSON.parse(sample!)).toMatchObject({ name: "a prompt", text: "and its continuation" });
  expect(await trainer.fit()).toMatchObject({ status: "finished", step: 12 });
});

it("hear of a failure, that of a callback too, before the end", async () => {
  const log: string[] = [];
  const failing: TrainerCallback<llm.Llama> = {
    onStep: ({ step }) => {
      if (step === 2) throw new Error("the disk of samples is full");
    },
  };
  const trainer = new Trainer(config({ callbacks: [recorder(log), failing] }));
  await expect(trainer.fit()).rejects.toThrow("the disk of samples is full");
  expect(log.slice(0, 4)).toEqual(["start", "step 1", "step 2", "exception the disk of samples is full"]);
  expect(log.at(-1)).toMatch(/^end failed/);
});

it("see the parameters of the moment, and the average of them", async () => {
  const means: number[] = [];
  const trainer = new Trainer(
    config({
      steps: 5,
      average: { decay: 0.5 },
      validation: { every: 5, batches: 2 },
      callbacks: [
        {
          async onEnd(_, { model, averaged }) {
            for (const m of [model, averaged!]) means.push(await m.model.norm.weight.sum().item());
          },
          onValidation({ loss, averagedLoss }) {
            expect(averagedLoss).toBeGreaterThan(0);
            expect(averagedLoss).not.toBe(loss);
          },
        },
      ],
    }),
  );
  await trainer.fit();
  expect(means[0]).not.toBe(means[1]);
  const last = trainer.rows.at(-1)!;
  expect(last.valid_loss_average).toBeGreaterThan(0);
  expect(await trainer.validate(2)).toBe(last.valid_loss);
});
