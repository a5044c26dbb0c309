/** State that is not trained, through a training: parts, recomputation, averages, validation, steps that are left out or given up, resume. */
import "../../support/runtime.js";
import { adamw, type LossContext, nn, sgd, type Tensor, Trainer } from "aronnax";
import { expect, it } from "vitest";
import { common, made, numbers, valuesOf } from "./any.js";

/** Keeps the running sum of what it sees, and the largest gradient of its output. */
class Watcher extends nn.Module {
  w = this.parameter("w", [3], { init: nn.constantInit(1) });
  total = this.buffer("total", [3]);
  calls = this.buffer("calls", [], { dtype: "int32" });
  largest = this.buffer("largest", [], { update: "cotangent" });

  forward(x: Tensor, training: boolean): Tensor {
    if (training) {
      this.setBuffer("total", this.total.add(x.sum(0)));
      this.setBuffer("calls", this.calls.add(1));
    }
    return x.mul(this.w).add(maximumOf(this.largest, x));
  }
}

/** Nothing, whose derivative by `at` is the largest of |x|. */
function maximumOf(at: Tensor, x: Tensor): Tensor {
  const most = x.abs().max().stopGradient();
  return at.sub(at.stopGradient()).mul(most.div(x.size));
}

const rows = 4;
const x = (i: number) => ({ x: { data: numbers(rows * 3, i), shape: [rows, 3] } });
const build = (extra: object = {}) =>
  new Trainer({
    ...common(),
    model: nn.initialize(new Watcher(), 0),
    data: made(rows, x, [x(50), x(51)]),
    steps: 4,
    optimizer: adamw({ learningRate: 0.1, weightDecay: 0.5, clipNorm: 1e-3 }),
    loss: (m: Watcher, batch: { readonly x: Tensor }, { training }: LossContext) =>
      m.forward(batch.x, training).sum(),
    ...extra,
  } as never) as unknown as Trainer<Watcher>;

const sums = (to: number) =>
  [0, 1, 2].map((c) => {
    let sum = 0;
    for (let i = 0; i < to; i++) for (let r = 0; r < rows; r++) sum += numbers(rows * 3, i)[3 * r + c]!;
    return sum;
  });
const maxima = (i: number) => Math.max(...numbers(rows * 3, i).map(Math.abs));

it.each([1, 2, 4])(
  "goes from part to part and from step to step, in %i parts; validation leaves it",
  async (accumulate) => {
    const trainer = build({ accumulate, validation: { every: 2 } });
    await trainer.fit();
    const found = await valuesOf(trainer.model);
    for (const [c, sum] of sums(4).entries()) expect(found.total![c]).toBeCloseTo(sum, 4);
    expect(found.calls).toEqual([4 * accumulate]);
    // Of the parts of the last batch the largest.
    expect(found.largest![0]).toBeCloseTo(maxima(3), 5);
  },
);

it("is neither clipped by nor counted in the gradients' norm, nor decayed", async () => {
  const trainer = build({ steps: 1 });
  await trainer.fit();
  const gradient = Math.hypot(...sums(1));
  expect(trainer.rows[0]!.gradient_norm).toBeCloseTo(gradient, 3);
  expect(trainer.model.parameterCount).toBe(3);
});

it("is averaged with the parameters where it is a number with a fraction, and the newest where it counts", async () => {
  const trainer = build({ average: { decay: 0.5 }, steps: 2 });
  await trainer.fit();
  const average = await valuesOf(trainer.averaged!);
  const [one, two] = [sums(1), sums(2)];
  for (const c of [0, 1, 2]) expect(average.total![c]).toBeCloseTo(0.5 * (0.5 * one[c]!) + 0.5 * two[c]!, 4);
  expect(average.calls).toEqual([2]);
});

it("drops what a step set that was left out, and what steps set that were given up", async () => {
  const bad = (i: number) => {
    const fields = x(i);
    if (i === 2) fields.x.data[0] = Number.NaN;
    return fields;
  };
  const skipped = build({ data: made(rows, bad), onDivergence: "skip" });
  await skipped.fit();
  const expected = [0, 1, 2].map((c) => sums(4)[c]! - (sums(3)[c]! - sums(2)[c]!));
  for (const [c, sum] of expected.entries())
    expect((await valuesOf(skipped.model)).total![c]).toBeCloseTo(sum, 4);
  expect(await skipped.model.calls.item()).toBe(3);
  const rolled = build({ data: made(rows, bad), onDivergence: "rollback", checkpoints: { every: 2 } });
  await rolled.fit();
  // Back to step 2, then with the data after the bad batch.
  expect(await rolled.model.calls.item()).toBe(4);
});

it("comes back from a checkpoint, to the same bits", async () => {
  const whole = build({ steps: 5 });
  await whole.fit();
  const settings = { name: "watched", checkpoints: { every: 2 } };
  await build({ ...settings, steps: 2 }).fit();
  const resumed = build({ ...settings, steps: 5, resume: true });
  await resumed.fit();
  expect(await valuesOf(resumed.model)).toEqual(await valuesOf(whole.model));
});

it("names a validation's own figures, and keeps the checkpoints that are best by one of them", async () => {
  const quality: Record<number, number> = { 1: 0.2, 2: 0.9, 3: 0.01, 4: 0.3, 5: 0.1, 6: 0.05 };
  const given: number[] = [];
  const run = (keepBest: object) =>
    build({
      steps: 6,
      optimizer: sgd({ learningRate: 0.01 }),
      validation: {
        every: 1,
        async measure({
          model,
          batches,
          step,
        }: {
          model: Watcher;
          batches: AsyncIterable<object>;
          step: number;
        }) {
          let n = 0;
          for await (const _ of batches) n++;
          given.push(n, await model.calls.item());
          return { quality: quality[step]! };
        },
      },
      checkpoints: { every: 1, keep: 1, keepBest },
    });
  const trainer = run({ count: 1, by: "valid_quality", mode: "max" });
  const { validation } = await trainer.fit();
  expect(given.slice(0, 4)).toEqual([2, 1, 2, 2]);
  expect(validation!.valid_quality).toBe(0.05);
  expect(await stepsOf(trainer)).toEqual([2, 6]);
  const lowest = run({ count: 1, by: "valid_quality" });
  await lowest.fit();
  expect(await stepsOf(lowest)).toEqual([3, 6]);
  await expect(run({ count: 1, by: "valid_bleu" }).fit()).rejects.toThrow(/keepBest.by is "valid_bleu"/);
});

async function stepsOf(trainer: Trainer<Watcher>): Promise<number[]> {
  const { readdirSync } = await import("node:fs");
  const { join } = await import("node:path");
  const { folder, name } = trainer.config;
  return readdirSync(join(folder!, name, "checkpoints"))
    .flatMap((entry) => (/^step-(\d+)$/.exec(entry) ? [Number(entry.slice(5))] : []))
    .sort((a, b) => a - b);
}
