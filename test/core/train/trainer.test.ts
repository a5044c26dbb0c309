import "../../support/runtime.js";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { adamw, llm, metrics, Trainer, text, tree } from "aronnax";
import { describe, expect, it, vi } from "vitest";
import { Runtime } from "../../../core/src/runtime/runtime.js";
import { altered, config, folder, losses, small, source, weights } from "./support.js";

describe("fit", () => {
  it("does every step, validates, and leaves a finished run behind", async () => {
    const trainer = new Trainer(config({ name: "whole", validation: { every: 6, batches: 2 } }));
    const result = await trainer.fit();
    expect(result).toMatchObject({ status: "finished", step: 12 });
    expect(losses(trainer)).toHaveLength(12);
    expect(trainer.rows.filter((row) => row.valid_loss !== undefined).map((row) => row.step)).toEqual([
      6, 12,
    ]);
    expect(result.validationLoss).toBe(trainer.rows.at(-1)!.valid_loss);
    const stored = metrics.readRun(join(folder, "whole"));
    expect(stored.state?.status).toBe("finished");
    expect(stored.rows.flatMap((row) => row.loss ?? [])).toEqual(losses(trainer));
    expect(metrics.metricsHub().runs.get(stored.state!.id)!.config).toMatchObject({
      batchSize: 4,
      optimizer: { kind: "adamw", weightDecay: 0.1, learningRate: { kind: "cosine", peak: 1e-2, warmup: 3 } },
    });
    const [first] = trainer.rows;
    expect(metrics.metricsHub().runs.get(stored.state!.id)!.config).toMatchObject({
      model: {
        kind: trainer.model.constructor.name,
        hiddenSize: 16,
        layers: 1,
        parameters: trainer.model.parameterCount,
      },
    });
    // 257·16 for the table and the output, 4·16² attention, 3·16·32 feed-forward, 3·16 norms; means and squares beside.
    const count = 2 * 257 * 16 + 4 * 256 + 3 * 512 + 48;
    expect(trainer.model.parameterCount).toBe(count);
    expect(first!.memory_parameters).toBeGreaterThanOrEqual(4 * count);
    expect(first!.memory_optimizer).toBeGreaterThanOrEqual(8 * count);
    // What was drawn for the training is in its state, and nowhere else.
    expect(first!.memory_parameters).toBeLessThan(1.5 * 4 * count);
  });

  it("goes on from a signal's interruption to the same parameters as without one", async () => {
    const whole = new Trainer(config());
    await whole.fit();

    const stopped = new Trainer(config());
    const controller = new AbortController();
    const running = stopped.fit({ signal: controller.signal });
    while (stopped.step < 4) await new Promise((done) => setTimeout(done, 2));
    controller.abort();
    const part = await running;
    expect(part.status).toBe("interrupted");
    expect(part.step).toBeLessThan(12);
    expect((await stopped.fit()).status).toBe("finished");
    expect(losses(stopped)).toEqual(losses(whole));
    expect(await weights(stopped.model)).toEqual(await weights(whole.model));
  });

  it("stops within a validation, and while the data are prepared", async () => {
    const controller = new AbortController();
    let measured = 0;
    const data = {
      ...altered(source(), (batch) => batch),
      async *validation() {
        for (;;) {
          yield* source().validation(1);
          if (++measured === 3) controller.abort();
        }
      },
    };
    const trainer = new Trainer(config({ data, validation: { every: 2 } }));
    expect(await trainer.fit({ signal: controller.signal })).toMatchObject({
      status: "interrupted",
      step: 2,
    });
    expect(trainer.rows.flatMap((row) => row.valid_loss ?? [])).toEqual([]);

    const early = new AbortController();
    const prepared = {
      ...altered(source(), (batch) => batch),
      prepare: ({ signal }: text.PrepareOptions = {}) =>
        new Promise<void>((_, reject) => {
          signal!.addEventListener("abort", () => reject(signal!.reason));
          early.abort();
        }),
    };
    const result = await new Trainer(config({ data: prepared })).fit({ signal: early.signal });
    expect(result).toMatchObject({ status: "interrupted", step: 0 });
  });

  it("resumes from a checkpoint bit for bit: parameters, optimizer, data position", async () => {
    const whole = new Trainer(config());
    await whole.fit();

    const options = { name: "in-parts", checkpoints: { every: 5, keep: 2 } };
    const aborted = new Trainer(config(options));
    const controller = new AbortController();
    const running = aborted.fit({ signal: controller.signal });
    while (aborted.step < 7) await new Promise((done) => setTimeout(done, 2));
    controller.abort();
    await running;

    const resumed = new Trainer(config({ ...options, resume: true }));
    await resumed.fit();
    expect(await weights(resumed.model)).toEqual(await weights(whole.model));
    expect(losses(resumed)).toEqual(losses(whole));
    expect(
      readdirSync(join(folder, "in-parts", "checkpoints")).filter((name) => name.startsWith("step-")),
    ).toHaveLength(2);
  });

  it("starts again from the first step without resume, and mixes nothing with the earlier run", async () => {
    const options = {
      name: "again",
      checkpoints: { every: 3, keepBest: 1 },
      validation: { every: 3, batches: 1 },
      steps: 6,
      callbacks: [
        { onEnd: (_: unknown, t: { sample(name: string, text: string): void }) => t.sample("a", "b") },
      ],
    };
    const longer = new Trainer(config({ ...options, steps: 9 }));
    await longer.fit();
    const second = new Trainer(config(options));
    await second.fit();
    expect(losses(second).slice(0, 3)).toEqual(losses(longer).slice(0, 3));
    const files = readdirSync(join(folder, "again"));
    const kept = files.filter((name) => name.startsWith("checkpoints-"));
    expect(kept).toHaveLength(1);
    expect(readdirSync(join(folder, "again", kept[0]!))).toContain("step-000009");
    expect(readdirSync(join(folder, "again", "checkpoints"))).toEqual(["step-000003", "step-000006"]);
    const earlier = readdirSync(join(folder, "again", "earlier"));
    expect(readdirSync(join(folder, "again", "earlier", earlier[0]!))).toContain("samples.jsonl");
    expect(readFileSync(join(folder, "again", "samples.jsonl"), "utf8")).toBe(
      '{"step":6,"name":"a","text":"b"}\n',
    );
  });

  it("keeps the checkpoint with the best validation beside the last ones", async () => {
    const trainer = new Trainer(
      config({
        name: "best",
        // The rate explodes after the first steps: the best validation is an early one.
        optimizer: adamw({ learningRate: (step) => step.astype("float32").pow(3).mul(1e-3) }),
        validation: { every: 2, batches: 2 },
        checkpoints: { every: 2, keep: 1, keepBest: 1 },
      }),
    );
    await trainer.fit();
    const validations = trainer.rows.filter((row) => row.valid_loss !== undefined);
    const best = validations.reduce((a, b) => (b.valid_loss! < a.valid_loss! ? b : a));
    expect(best.step).toBeLessThan(12);
    const kept = readdirSync(join(folder, "best", "checkpoints")).filter((name) => name.startsWith("step-"));
    expect(kept.map((name) => Number(name.slice(5))).sort((a, b) => a - b)).toEqual([best.step, 12]);
  });

  it("leaves a model that was trained before as it is, and goes on from its values", async () => {
    const first = new Trainer(config({ steps: 4 }));
    await first.fit();
    const before = await weights(first.model);
    const second = new Trainer(
      config({ model: first.model, steps: 3, optimizer: adamw({ learningRate: 0 }) }),
    );
    await second.fit();
    expect(await weights(first.model)).toEqual(before);
    expect(await weights(second.model)).toEqual(before);
    const third = new Trainer(config({ model: first.model, steps: 3 }));
    await third.fit();
    expect(await weights(third.model)).not.toEqual(before);
  });

  it("gives the metrics to loggers as well", async () => {
    const trainer = new Trainer(config({ name: "logged", steps: 3, loggers: [metrics.csvLogger()] }));
    await trainer.fit();
    const written = readFileSync(join(folder, "logged", "metrics.csv"), "utf8")
      .trim()
      .split("\n");
    expect(written).toHaveLength(4);
    expect(written[0]).toContain("loss");
  });

  it("learns one batch by heart", async () => {
    const sentence = ["abcdefghijklmnopqrstuvwxyz".slice(0, 17)];
    const data = text.packed(sentence, { tokenizer: text.byteTokenizer(), sequenceLength: 16, batchSize: 1 });
    const trainer = new Trainer(config({ data, optimizer: adamw({ learningRate: 0.03 }), steps: 60 }));
    const { loss } = await trainer.fit();
    expect(loss).toBeLessThan(0.05);
  });

  it("computes in bfloat16 with float32 parameters", async () => {
    const wide = new Trainer(config());
    await wide.fit();
    const narrow = new Trainer(config({ precision: "bf16" }));
    await narrow.fit();
    for (const leaf of tree.leaves(narrow.model)) expect(leaf.dtype).toBe("float32");
    const [a, b] = [losses(wide), losses(narrow)];
    expect(b).not.toEqual(a);
    for (const [i, loss] of b.entries()) expect(Math.abs(loss - a[i]!)).toBeLessThan(0.05);
  });

  it("asks the compiler for steps that give the same bits each time", async () => {
    const compile = vi.spyOn(Runtime.prototype, "compile");
    const trainer = new Trainer(config({ steps: 3, deterministic: true, validation: { every: 3 } }));
    await trainer.fit();
    const options = new Map(compile.mock.calls.map(([request]) => [request.name, request.options]));
    compile.mockRestore();
    for (const name of ["train_step", "evaluate"])
      expect(options.get(name)).toEqual({ flags: { xla_gpu_deterministic_ops: true } });
    const plain = new Trainer(config({ steps: 3 }));
    await plain.fit();
    expect(losses(trainer)).toEqual(losses(plain));
  });
});

describe("bad configurations", () => {
  it.each([
    [{ steps: 0 }, /steps is 0/],
    [{ validation: { every: 0 } }, /validation.every is 0/],
    [{ checkpoints: { every: 2.5 } }, /checkpoints.every is 2.5/],
    [{ precision: "fp4" as "bf16" }, /precision is "fp4"/],
    [{ deterministic: "yes" as unknown as boolean }, /deterministic is "yes"/],
    [{ resume: true }, /resume is true without checkpoints/],
    [{ callbacks: [{ onstep() {} } as object] }, /callbacks\[0\]: there is no event onstep/],
    [{ callbacks: [undefined as unknown as object] }, /callbacks\[0\] is undefined/],
    [{ loggers: [metrics.csvLogger as never] }, /loggers\[0\] is a function/],
    [
      { validation: { every: 2 }, data: { ...altered(source(), (b) => b), validation: undefined as never } },
      /validation is set, and the data have no method validation/,
    ],
    [{ data: { ...altered(source(), (b) => b), batchSize: 0 } }, /data.batchSize is 0/],
    [{ model: llm.llama({ ...small, vocabSize: 100 }) }, /ids up to 256, the model's vocabSize is 100/],
  ])("are refused before anything starts, case %#", (options, message) => {
    expect(() => new Trainer(config(options))).toThrow(message);
  });

  it("refuses a second fit beside the first", async () => {
    const trainer = new Trainer(config());
    const running = trainer.fit();
    await expect(trainer.fit()).rejects.toThrow(/being trained already/);
    await running;
  });

  it("lets no two trainings write one run or read one source", async () => {
    const data = source();
    const [first, same, other] = [
      new Trainer(config({ name: "shared", data })),
      new Trainer(config({ name: "shared" })),
      new Trainer(config({ data })),
    ];
    const running = first.fit();
    await expect(same.fit()).rejects.toThrow(/the run "shared" is being trained already/);
    await expect(other.fit()).rejects.toThrow(/the run "shared" is reading the data of/);
    expect((await running).status).toBe("finished");
    expect((await other.fit()).status).toBe("finished");
  });

  it("names a folder that cannot be made, before a step is done", async () => {
    const file = join(folder, "a-file");
    writeFileSync(file, "");
    const trainer = new Trainer(config({ folder: file, checkpoints: { every: 5 } }));
    await expect(trainer.fit()).rejects.toThrow(/the run's folder cannot be made: ENOTDIR/);
    expect(trainer.step).toBe(0);
  });

  it("names the step and the values of a loss that is not finite", async () => {
    const trainer = new Trainer(config({ optimizer: adamw({ learningRate: 1e30 }) }));
    await expect(trainer.fit()).rejects.toThrow(/the loss of step \d+ is (NaN|Infinity)/);
    expect(metrics.readRun(join(folder, trainer.config.name)).state?.status).toBe("failed");
  });

  it("names what a checkpoint of another model lacks", async () => {
    await new Trainer(config({ name: "narrow", checkpoints: { every: 5 }, steps: 2 })).fit();
    const deeper = new Trainer(
      config({
        name: "narrow",
        checkpoints: { every: 5 },
        resume: true,
        model: llm.llama({ ...small, layers: 2 }),
      }),
    );
    await expect(deeper.fit()).rejects.toThrow(/9 missing \(model.layers.1.self_attn.q_proj.weight/);
    const wider = new Trainer(
      config({
        name: "narrow",
        checkpoints: { every: 5 },
        resume: true,
        model: llm.llama({ ...small, intermediateSize: 64 }),
      }),
    );
    await expect(wider.fit()).rejects.toThrow(
      /gate_proj.weight is float32\[32, 16\], the tree's is float32\[64, 16\]/,
    );
  });
});
