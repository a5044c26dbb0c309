/** Losses whose rows depend on each other, whole and in parts. */
import "../../support/runtime.js";
import { coupled, eye, type LossContext, nn, random, sgd, type Tensor, Trainer } from "aronnax";
import { expect, it } from "vitest";
import { common, made, numbers, valuesOf } from "./any.js";

/** Two encoders with a temperature, as CLIP (Radford et al. 2021); counts the rows it has seen. */
class Pair extends nn.Module {
  a = new nn.Linear(4, 3, { bias: true });
  b = new nn.Linear(5, 3, { bias: true });
  scale = this.parameter("scale", [], { init: nn.constantInit(0.5) });
  seen = this.buffer("seen", []);

  count(rows: number): void {
    this.setBuffer("seen", this.seen.add(rows));
  }
}

const rows = 8;
const fields = (i: number) => ({
  x: { data: numbers(rows * 4, i), shape: [rows, 4] },
  y: { data: numbers(rows * 5, i + 9), shape: [rows, 5] },
});
const data = () => made(rows, fields, [fields(70), fields(71)]);
type Fields = { readonly x: Tensor; readonly y: Tensor };
interface Embeddings {
  a: Tensor;
  b: Tensor;
}

const embed = (m: Pair, { x, y }: Fields, { key, training }: LossContext): Embeddings => {
  if (training) m.count(x.shape[0]!);
  const dropped = key === undefined ? x : nn.dropout(x, 0.25, key);
  const unit = (h: Tensor): Tensor => h.div(h.square().sum(-1, { keepDims: true }).sqrt());
  // Of one shape, and not in the order of their names.
  return { b: unit(m.b.forward(y)), a: unit(m.a.forward(dropped)) };
};
const contrast = (m: Pair, { a, b }: Embeddings) => {
  const logits = a.matmul(b.mT).mul(m.scale.exp());
  const n = logits.shape[0]!;
  const own = logits.mul(eye(n)).sum(-1);
  const loss = logits.logsumexp(-1).sub(own).add(logits.logsumexp(0).sub(own)).mean().mul(0.5);
  return { loss, metrics: { diagonal: own.mean() } };
};

const build = (accumulate: number, loss: ReturnType<typeof coupled<Pair, Fields>>, seed = 0) =>
  new Trainer({
    ...common(),
    model: nn.initialize(new Pair(), 1),
    data: data(),
    steps: 4,
    seed,
    accumulate,
    optimizer: sgd({ learningRate: 0.5 }),
    statistics: { every: 2 },
    loss,
  });

it("make the update of the whole batch in parts, by the embeddings of all of them", async () => {
  // Without what is drawn: each part has keys of its own.
  const plain = coupled<Pair, Fields, Embeddings>({
    embed: (m, batch, context) => embed(m, batch, { ...context, key: undefined }),
    loss: contrast,
  });
  const whole = build(1, plain);
  await whole.fit();
  const expected = await valuesOf(whole.model);
  expect(expected.seen).toEqual([4 * rows]);
  const validation = await whole.validate();
  for (const parts of [2, 8]) {
    const trainer = build(parts, plain);
    await trainer.fit();
    expect(await trainer.validate()).toBeCloseTo(validation!, 4);
    for (const [path, values] of Object.entries(await valuesOf(trainer.model)))
      for (const [i, v] of values.entries())
        expect(Math.abs(v - expected[path]![i]!), path).toBeLessThan(1e-4);
    for (const [i, row] of trainer.rows.entries()) {
      expect(row.loss).toBeCloseTo(whole.rows[i]!.loss!, 5);
      expect(row.diagonal).toBeCloseTo(whole.rows[i]!.diagonal!, 5);
    }
  }
  // Not the same as the mean over parts, which contrasts fewer rows.
  const naive = build(2, ((m: Pair, b: Fields, c: LossContext) =>
    contrast(m, embed(m, b, { ...c, key: undefined }))) as typeof plain);
  await naive.fit();
  expect(Math.abs(naive.rows[3]!.loss! - whole.rows[3]!.loss!)).toBeGreaterThan(0.05);
});

it("draw the same the second time that a part is embedded", async () => {
  const seen: number[] = [];
  const trainer = build(
    4,
    coupled<Pair, Fields, Embeddings>({
      embed(m, batch, context) {
        const found = embed(m, batch, context);
        seen.push(found.a.shape[0]!);
        return found;
      },
      loss: contrast,
    }),
  );
  await trainer.fit();
  expect(new Set(seen)).toEqual(new Set([2]));
  expect(trainer.rows.every((row) => Number.isFinite(row.loss!))).toBe(true);
  expect(await trainer.model.seen.item()).toBe(4 * rows);
});

it("are refused in parts where they say only that they couple rows", () => {
  const loss = coupled<Pair, Fields>((m, batch, context) => contrast(m, embed(m, batch, context)));
  expect(() => build(2, loss)).toThrow(/accumulate is 2, and the loss couples the rows of a batch/);
});

it("name the key where a loss of the old form takes its third argument for one", async () => {
  const old = ((m: Pair, { x }: Fields, key: LossContext) =>
    m.a
      .forward(nn.dropout(x, 0.1, key as never))
      .mean()
      .add(random.uniform(key as never, []))) as never;
  await expect(build(1, old).fit()).rejects.toMatchObject({
    fix: expect.stringMatching(/a loss gets a context as its third argument: take the key of it/) as string,
  });
});
