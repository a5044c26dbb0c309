/** BatchNorm in the Trainer: its statistics over parts, devices and a resume, and what a validation measures. */
import "../../support/eight-devices.js";
import "../../support/runtime.js";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nn, sgd, type Tensor, Trainer, type TrainerConfig, tensor, tree } from "aronnax";
import { afterAll, expect, it } from "vitest";
import type { Batch, BatchSource, DataPosition, ShapedArray } from "../../../core/src/data/batch.js";

const folder = mkdtempSync(join(tmpdir(), "aronnax-batch-norm-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const [rows, features] = [8, 3];
type Fields = { x: ShapedArray };

/** The rows of a step: another mean and spread in each, and along the rows. */
function rowsOf(step: number): number[][] {
  return Array.from({ length: rows }, (_, i) =>
    Array.from({ length: features }, (_, k) =>
      Math.fround(Math.sin(7 * step + 3 * i + k) * (k + 1) + step * k + i / 4),
    ),
  );
}

class Steps implements BatchSource<Fields> {
  readonly batchSize = rows;
  #step = 0;

  #batch(step: number): Batch<Fields> {
    const x = { data: Float32Array.from(rowsOf(step).flat()), shape: [rows, features] };
    return { x, after: this.position() };
  }

  async next(): Promise<Batch<Fields>> {
    return this.#batch(this.#step++);
  }

  async *validation(): AsyncGenerator<Batch<Fields>> {
    yield this.#batch(100);
  }

  position(): DataPosition {
    return { version: 1, kind: "steps", samples: this.#step * rows };
  }

  async restore(position: DataPosition): Promise<void> {
    this.#step = position.samples / rows;
  }
}

class Net extends nn.Module {
  norm = new nn.BatchNorm(features);
  head = new nn.Linear(features, 1);

  forward(x: Tensor, options: { training?: boolean } = {}): Tensor {
    return this.head.forward(this.norm.forward(x, options));
  }
}

let runs = 0;
async function trained(options: Partial<TrainerConfig<Net, Fields>> = {}): Promise<Trainer<Net, Fields>> {
  const trainer = new Trainer<Net, Fields>({
    name: `run-${runs++}`,
    folder,
    model: nn.initialize(new Net(), 1),
    data: new Steps(),
    loss: (model, { x }, { training }) =>
      model
        .forward(x as Tensor, { training })
        .sub(1)
        .square()
        .mean(),
    optimizer: sgd({ learningRate: 0.05 }),
    steps: 6,
    printEvery: 0,
    ...options,
  });
  await trainer.fit();
  return trainer;
}

/** Running means and unbiased variances by the definition, over groups of rows one after the other. */
function statistics(groups: readonly number[][][]): { mean: number[]; variance: number[] } {
  let [mean, variance] = [Array(features).fill(0) as number[], Array(features).fill(1) as number[]];
  for (const group of groups) {
    const means = mean.map((_, k) => group.reduce((n, row) => n + row[k]!, 0) / group.length);
    mean = mean.map((m, k) => 0.9 * m + 0.1 * means[k]!);
    variance = variance.map((v, k) => {
      const squares = group.reduce((n, row) => n + (row[k]! - means[k]!) ** 2, 0);
      return 0.9 * v + (0.1 * squares) / (group.length - 1);
    });
  }
  return { mean, variance };
}

async function expectStatistics(model: Net, groups: readonly number[][][]): Promise<void> {
  const { mean, variance } = statistics(groups);
  for (const [k, m] of ((await model.norm.runningMean.array()) as number[]).entries())
    expect(m).toBeCloseTo(mean[k]!, 4);
  for (const [k, v] of ((await model.norm.runningVar.array()) as number[]).entries())
    expect(v / variance[k]!).toBeCloseTo(1, 4);
  expect(await model.norm.numBatchesTracked.item()).toBe(groups.length);
}

const steps = Array.from({ length: 6 }, (_, i) => rowsOf(i));

it("keeps the statistics of its batches, and a validation uses them", async () => {
  const trainer = await trained({ validation: { every: 6 } });
  await expectStatistics(trainer.model, steps);
  const x = tensor(rowsOf(100));
  const expected = await trainer.model.forward(x).sub(1).square().mean().item();
  const measured = trainer.rows.flatMap((row) => row.valid_loss ?? []).at(-1);
  expect(measured).toBeCloseTo(expected, 4);
});

it("keeps those of each part where an update is accumulated", async () => {
  const trainer = await trained({ accumulate: 2 });
  // Parts are rows that stand one after the other.
  await expectStatistics(
    trainer.model,
    steps.flatMap((batch) => [batch.slice(0, 4), batch.slice(4)]),
  );
});

it("has those of the whole batch on four devices", async () => {
  const [one, four] = [await trained(), await trained({ parallel: { data: 4 } })];
  await expectStatistics(four.model, steps);
  const spread = tree.named(four.model);
  for (const [path, leaf] of tree.named(one.model)) {
    const [a, b] = [await leaf.data(), await spread.get(path)!.data()];
    for (const [i, value] of a.entries()) expect(Number(b[i])).toBeCloseTo(Number(value), 4);
  }
});

it("goes on with them after a resume", async () => {
  const whole = await trained();
  const name = "resumed";
  await trained({ name, steps: 3, checkpoints: { every: 3 } });
  const resumed = await trained({ name, checkpoints: { every: 3 }, resume: true });
  const again = tree.named(resumed.model);
  for (const [path, leaf] of tree.named(whole.model))
    expect(await again.get(path)!.array(), path).toEqual(await leaf.array());
});
