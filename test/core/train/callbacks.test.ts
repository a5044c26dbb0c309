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
  // Of the step that the event is of, though later ones are queued.
  for (const row of stored.rows)
    if (row.double_step !== undefined) expect(row.double_step).toBe(2 * row.step!);
  expect(stored.rows.flatMap((row) => row.double_step ?? []).slice(0, 4)).toEqual([2, 4, 6, 8]);
  const [sample] = readFileSync(join(folder, "stopped", "samples.jsonl"), "utf8")
    .trim()
    .split("\n");
  expect(JSON.parse(sample!)).toEqual({ step: 4, name: "a prompt", text: "and its continuation" });
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

it("that fail after a failure do not hide it, nor keep the others from hearing", async () => {
  const log: string[] = [];
  const { error: print } = console;
  const printed: string[] = [];
  console.error = (...parts: unknown[]) => void printed.push(parts.join(" "));
  const failing = (name: string): TrainerCallback<llm.Llama> => ({
    onStep: () => {
      throw new Error("the first");
    },
    onException: () => {
      throw new Error(`${name} at the news`);
    },
    onEnd: () => {
      throw new Error(`${name} at the end`);
    },
  });
  try {
    const trainer = new Trainer(config({ callbacks: [failing("a"), failing("b"), recorder(log)] }));
    await expect(trainer.fit()).rejects.toThrow("the first");
    expect(log).toEqual(["start", "exception the first", expect.stringMatching(/^end failed/)]);
    expect(printed.map((line) => /[ab] at the \w+/.exec(line)![0])).toEqual([
      "a at the news",
      "b at the news",
      "a at the end",
      "b at the end",
    ]);
    const ending = new Trainer(
      config({ callbacks: [{ onEnd: () => Promise.reject(new Error("late")) }, recorder(log)] }),
    );
    await expect(ending.fit()).rejects.toThrow("late");
    expect(log.at(-1)).toBe("end finished 12");
  } finally {
    console.error = print;
  }
});

it("lose no step's row by throwing", async () => {
  let armed = true;
  const whole = new Trainer(config());
  await whole.fit();
  const trainer = new Trainer(
    config({
      callbacks: [
        {
          onStep({ step }) {
            if (step !== 5 || !armed) return;
            armed = false;
            throw new Error("once");
          },
        },
      ],
    }),
  );
  await expect(trainer.fit()).rejects.toThrow("once");
  await trainer.fit();
  expect(trainer.rows.map((row) => row.step)).toEqual(whole.rows.map((row) => row.step));
  expect(trainer.rows.map((row) => row.loss)).toEqual(whole.rows.map((row) => row.loss));
});

it("are told by name what no column can hold", async () => {
  const text = "no number" as unknown as number;
  const trainer = new Trainer(config({ callbacks: [{ onStep: (_, training) => training.log({ text }) }] }));
  await expect(trainer.fit()).rejects.toThrow(/The column text of a row of metrics is no number/);
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

it("keep media with the run, of Tensors that the next step takes over too", async () => {
  const name = "with-media";
  const trainer = new Trainer(
    config({
      name,
      steps: 3,
      callbacks: [
        {
          onStep({ step }, training) {
            if (step === 2) return;
            training.image("embedding", training.model.model.embedTokens.weight);
            training.histogram("norm", training.model.model.norm.weight, { bins: 4 });
            training.text("note", `step ${step}`);
          },
          async onEnd(_, training) {
            training.table(
              "losses",
              training.rows.map(({ loss }) => ({ loss: loss! })),
            );
          },
        },
      ],
    }),
  );
  await trainer.fit();
  const index = readFileSync(join(folder, name, "media", "index.jsonl"), "utf8")
    .trim()
    .split("\n");
  const lines = index.map(
    (line) => JSON.parse(line) as { step: number; kind: string; name: string; file?: string },
  );
  expect(lines.map(({ step, kind, name: of }) => `${step} ${kind} ${of}`).sort()).toEqual([
    "1 histogram norm",
    "1 image embedding",
    "1 text note",
    "3 histogram norm",
    "3 image embedding",
    "3 table losses",
    "3 text note",
  ]);
  const file = lines.find(({ kind }) => kind === "image")!.file!;
  expect(
    readFileSync(join(folder, name, file))
      .subarray(1, 4)
      .toString(),
  ).toBe("PNG");
});
