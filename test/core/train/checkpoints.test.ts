/** Saving and resuming a training: kills, a full disk, a changed model. */
import "../../support/runtime.js";
import { execFile, execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { adamw, checkpoint, llm, sgd, Trainer, tree } from "aronnax";
import { expect, it } from "vitest";
import { config, folder, losses, small, source, weights } from "./support.js";

const kill = fileURLToPath(new URL("../../../bench/train/kill-resume.mjs", import.meta.url));

it("goes on bit for bit after kill -9 at random moments", { timeout: 300_000 }, async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [kill, "--kills", "3", "--seed", "5"]);
  expect(JSON.parse(stdout)).toMatchObject({ killed: 3, equal: true });
});

it("resumes the averaged parameters too", async () => {
  const average = { decay: 0.9 };
  const whole = new Trainer(config({ average }));
  await whole.fit();
  const parts = { name: "averaged", average, checkpoints: { every: 4 } };
  await new Trainer(
    config({ ...parts, callbacks: [{ onStep: ({ step }, t) => (step === 5 ? t.stop("half") : undefined) }] }),
  ).fit();
  const resumed = new Trainer(config({ ...parts, resume: true }));
  await resumed.fit();
  expect(await weights(resumed.averaged!)).toEqual(await weights(whole.averaged!));
  expect(losses(resumed)).toEqual(losses(whole));

  const without = new Trainer(config({ name: "averaged", checkpoints: { every: 4 }, resume: true }));
  expect((await without.fit()).step).toBe(12);
  const bare = { name: "bare", checkpoints: { every: 4 }, steps: 4 };
  await new Trainer(config(bare)).fit();
  await expect(new Trainer(config({ ...bare, average, resume: true })).fit()).rejects.toThrow(
    /has no average/,
  );
  // One that begins late begins with what was trained, not with what was drawn.
  const late = new Trainer(config({ ...bare, average, resume: "partial" }));
  await late.fit();
  expect(await weights(late.averaged!)).toEqual(await weights(late.model));
});

it("resumes with other settings where that has a meaning, and says what was reached", async () => {
  const options = { name: "settings", checkpoints: { every: 4 }, validation: { every: 4 } };
  const first = new Trainer(config({ ...options, steps: 4 }));
  const result = await first.fit();
  const done = new Trainer(config({ ...options, steps: 4, resume: true }));
  expect(await done.fit()).toEqual(result);
  await expect(new Trainer(config({ ...options, steps: 3, resume: true })).fit()).rejects.toThrow(
    /steps is 3, and the checkpoint to go on from is of step 4/,
  );
  // Spikes can be looked for from here on.
  const watched = new Trainer(config({ ...options, steps: 6, resume: true, spikes: { deviations: 6 } }));
  expect(await watched.fit()).toMatchObject({ status: "finished", step: 6 });
  const longer = source({ sequenceLength: 24 });
  await expect(
    new Trainer(config({ ...options, steps: 8, resume: true, data: longer })).fit(),
  ).rejects.toThrow(/The position belongs to other data/);
  const other = new Trainer(config({ ...options, steps: 8, resume: "partial", data: longer }));
  expect(await other.fit()).toMatchObject({ status: "finished", step: 8 });
  expect(other.resumeReport).toMatchObject({ freshOptimizer: false, freshData: true, missing: [] });
});

it("takes what fits of another model's checkpoint, and reports the rest", async () => {
  const options = { name: "changed", checkpoints: { every: 4 }, steps: 4 };
  const first = new Trainer(config(options));
  await first.fit();
  const before = await weights(first.model);
  const lines: string[] = [];
  const log = console.log;
  console.log = (line: string) => void lines.push(line);
  const second = new Trainer(
    config({
      ...options,
      steps: 5,
      resume: "partial",
      model: llm.llama({ ...small, layers: 2, intermediateSize: 48 }),
      optimizer: sgd({ learningRate: 0 }),
    }),
  );
  await second.fit().finally(() => {
    console.log = log;
  });
  const report = second.resumeReport!;
  expect(report.missing).toHaveLength(9);
  expect(report.missing).toContain("model.layers.1.self_attn.q_proj.weight");
  expect(report.unexpected).toEqual([]);
  expect(report.different).toHaveLength(3);
  expect(report.different[0]).toMatch(
    /gate_proj.weight is float32\[32, 16\], the tree's is float32\[48, 16\]/,
  );
  expect(report.freshOptimizer).toBe(true);
  expect(lines.join()).toMatch(/step 4: 9 missing .*; 3 different .*; the optimizer's state begins anew/);
  const after = await weights(second.model);
  expect(after["model.embedTokens.weight"]).toEqual(before["model.embedTokens.weight"]);
  expect(after["model.layers.0.selfAttn.qProj.weight"]).toEqual(
    before["model.layers.0.selfAttn.qProj.weight"],
  );
  expect(second.step).toBe(5);
});

it("keeps the earlier checkpoint when the disk is full, and trains on", async () => {
  const disk = join(folder, "small-disk");
  mkdirSync(disk);
  try {
    // A checkpoint has about 140 KiB.
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=260k", "tmpfs", disk], { stdio: "ignore" });
  } catch {
    return expect.soft(process.getuid?.(), "only root can mount a small disk").not.toBe(0);
  }
  const errors: string[] = [];
  const { error } = console;
  console.error = (line: string) => void errors.push(line);
  try {
    const options = { folder: disk, name: "full", checkpoints: { every: 4 }, resume: true };
    const trainer = new Trainer(config({ ...options, model: llm.llama(small) }));
    await expect(trainer.fit()).rejects.toThrow(/step-000012 needs \d+ bytes and the disk is full/);
    expect(trainer.step).toBe(12);
    expect(errors[0]).toMatch(/checkpoint of step 8: .*the disk is full .*Earlier checkpoints are intact/);
    const saved = join(disk, "full", "checkpoints");
    expect(readdirSync(saved)).toEqual(["step-000004"]);
    expect((await new checkpoint.CheckpointStore(saved).latest())!.step).toBe(4);
    const again = new Trainer(config({ ...options, model: llm.llama(small), steps: 4 }));
    expect(await again.fit()).toMatchObject({ status: "finished", step: 4 });
  } finally {
    console.error = error;
    execFileSync("umount", [disk]);
  }
});

it("are folders of safetensors, one for each part of the state", async () => {
  const trainer = new Trainer(
    config({ name: "laid-out", checkpoints: { every: 4 }, steps: 4, average: { decay: 0.9 } }),
  );
  await trainer.fit();
  const step = join(folder, "laid-out", "checkpoints", "step-000004");
  expect(readdirSync(step).sort()).toEqual([
    "average",
    "manifest.json",
    "model",
    "optimizer",
    "trainer.json",
  ]);
  expect(existsSync(join(step, "model", "model.safetensors"))).toBe(true);
  const manifest = JSON.parse(readFileSync(join(step, "manifest.json"), "utf8")) as { files: object };
  // Two folders of a model, which are checkpoints of their own.
  expect(Object.keys(manifest.files)).toHaveLength(6);
  const opened = await llm.load(join(step, "model"));
  expect(await opened.model.norm.weight.array()).toEqual(await trainer.model.model.norm.weight.array());
  const files = await checkpoint.TensorFiles.open(join(step, "model"));
  const names = [...tree.named(trainer.model).keys()].map((path) =>
    path.replaceAll(/[A-Z]/g, (c) => `_${c.toLowerCase()}`),
  );
  expect([...files.tensors.keys()].sort()).toEqual(names.sort());
  await files.close();
  const optimizer = await checkpoint.TensorFiles.open(join(step, "optimizer"));
  expect(optimizer.tensors.has("mean.model.norm.weight")).toBe(true);
  await optimizer.close();
});

it("refuses an optimizer that another state was saved for", async () => {
  const options = { name: "other-optimizer", checkpoints: { every: 4 }, steps: 4 };
  await new Trainer(config(options)).fit();
  const other = new Trainer(
    config({ ...options, resume: true, optimizer: sgd({ learningRate: 1, momentum: 0.9 }) }),
  );
  await expect(other.fit()).rejects.toThrow(
    /12 missing \(momentum.model.embed_tokens.weight, .*; 24 unexpected/,
  );
  const decayed = new Trainer(config({ ...options, resume: true, optimizer: adamw({ learningRate: 1 }) }));
  expect((await decayed.fit()).step).toBe(4);
});

it("goes on from a checkpoint that was written before parameters, buffers and what is frozen were kept apart", async () => {
  // By the Trainer of 2026-11-28: three steps of this training, whose six had these losses.
  const losses = [
    5.563703536987305, 5.471934795379639, 5.37055778503418, 5.277502059936523, 5.158356189727783,
    5.026596546173096,
  ];
  const name = "before";
  const fixture = fileURLToPath(new URL("../../fixtures/train/checkpoints-0.1", import.meta.url));
  cpSync(fixture, join(folder, name, "checkpoints"), { recursive: true });
  const trainer = new Trainer(
    config({
      name,
      steps: 6,
      model: llm.llama({ ...small, hiddenSize: 8, intermediateSize: 8 }),
      optimizer: adamw({
        learningRate: 1e-2,
        weightDecay: 0.1,
        clipNorm: 1,
        groups: [{ match: "model.norm", frozen: true }],
      }),
      average: { decay: 0.9 },
      spikes: { deviations: 6 },
      checkpoints: { every: 3 },
      resume: true,
    }),
  );
  await trainer.fit();
  const found = trainer.rows.flatMap(({ step, loss }) =>
    loss === undefined ? [] : [[step!, loss] as const],
  );
  expect(found.map(([step]) => step)).toEqual([4, 5, 6]);
  for (const [step, loss] of found) expect(loss).toBeCloseTo(losses[step - 1]!, 5);
  expect(trainer.rows.at(-1)!.tokens).toBe(6 * 64);
});
