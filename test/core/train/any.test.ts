/** Trainings of what is no language model: any batch, losses with metrics, buffers, several optimizers, frozen parts, references, precisions. */
import "../../support/runtime.js";
import { data, metrics, nn, sgd, type Tensor, Trainer } from "aronnax";
import { expect, it } from "vitest";
import { common, made, numbers, valuesOf } from "./any.js";

class Linear extends nn.Module {
  l = new nn.Linear(4, 3, { bias: true });
  forward(x: Tensor): Tensor {
    return this.l.forward(x);
  }
}

interface Labelled {
  x: { data: Float32Array; shape: number[] };
  labels: Int32Array;
  weights?: Float32Array;
}
const labelled = (index: number, rows = 6): Labelled => ({
  x: { data: numbers(rows * 4, index), shape: [rows, 4] },
  labels: Int32Array.from({ length: rows }, (_, i) => (i * i + index) % 3),
});

it("takes batches of any names, types and shapes, nested, static and shared, whole and in parts", async () => {
  const seen: string[] = [];
  const counted: number[] = [];
  const fields = (index: number) => ({
    audio: { data: numbers(4 * 16, index), shape: [4, 16] },
    lengths: Int32Array.of(16, 9, 3, 12),
    inner: { mask: { data: new Uint8Array(8).fill(1), shape: [2, 4], dtype: "bool" as const, batchAxis: 1 } },
    table: { data: numbers(5, 1), shape: [5], batchAxis: null },
    kind: "speech",
    counts: { seconds: 2.5, frames: 40 },
  });
  for (const accumulate of [1, 2]) {
    const trainer = new Trainer({
      ...common(),
      model: new Linear(),
      data: made(4, fields),
      steps: 2,
      accumulate,
      optimizer: sgd({ learningRate: 0.1 }),
      flops: (batch) => {
        counted.push(batch.audio.shape[0]!);
        return 1e6;
      },
      loss: (model, batch) => {
        seen.push(
          `${batch.audio} ${batch.lengths} ${batch.inner.mask} ${batch.table} ${batch.kind} ${"counts" in batch}`,
        );
        return model
          .forward(batch.audio.reshape([-1, 4, 4]).mean(1))
          .square()
          .mean();
      },
    });
    await trainer.fit();
    expect(trainer.rows.at(-1)).toMatchObject({ samples: 8, seconds: 5, frames: 80 });
    expect(trainer.rows.at(-1)!.seconds_per_second).toBeGreaterThan(0);
  }
  expect(counted).toEqual([4, 4, 4, 4]);
  expect(new Set(seen)).toEqual(
    new Set([
      "Tensor float32[4, 16] Tensor int32[4] Tensor bool[2, 4] Tensor float32[5] speech false",
      "Tensor float32[2, 16] Tensor int32[2] Tensor bool[2, 2] Tensor float32[5] speech false",
    ]),
  );
});

it("compiles one program for each set of shapes", async () => {
  const trainer = new Trainer({
    ...common(),
    model: new Linear(),
    data: made(4, (i) => ({ x: { data: numbers(4 * (4 + 4 * (i % 2)), i), shape: [4, 1 + (i % 2), 4] } })),
    steps: 6,
    optimizer: sgd({ learningRate: 0.1 }),
    loss: (model, batch) => model.forward(batch.x).square().mean(),
  });
  expect((await trainer.fit()).status).toBe("finished");
});

it.each<[string, () => object, RegExp]>([
  [
    "ragged rows",
    () => ({ x: new Float32Array(7) }),
    /field x is a Float32Array of 7, and the batch has 4 rows/,
  ],
  [
    "a wrong shape",
    () => ({ a: { b: { data: new Int32Array(8), shape: [4, 3] } } }),
    /field a.b has the shape \[4, 3\] and 8/,
  ],
  [
    "other rows",
    () => ({ x: { data: new Int32Array(6), shape: [3, 2] } }),
    /field x has 3 rows along axis 0, the batch has 4/,
  ],
  ["a list", () => ({ x: [1, 2, 3, 4] }), /field x is an Array of 4/],
  ["a number", () => ({ x: new Float32Array(4), n: 3 }), /field n is 3/],
  [
    "a wide type",
    () => ({ x: { data: new Float32Array(4), shape: [4], dtype: "bool" } }),
    /field x is bool in a Float32Array/,
  ],
])("names the field of a batch with %s", async (_, make, message) => {
  const trainer = new Trainer({
    ...common(),
    model: new Linear(),
    data: made(4, make as () => Labelled),
    steps: 1,
    optimizer: sgd({ learningRate: 0.1 }),
    loss: (model) => model.l.weight.sum(),
  });
  await expect(trainer.fit()).rejects.toThrow(message);
});

it("weighs losses and metrics over uneven parts and over the whole validation as one sum does", async () => {
  const weights = Float32Array.of(3, 0, 0.25, 0, 0.01, 1);
  const batches = () =>
    made(6, (i) => ({ ...labelled(i), weights }), [
      { ...labelled(7), weights },
      { ...labelled(8, 2), weights: Float32Array.of(0.5, 2), batchSize: 2 },
    ]);
  const losses = (model: Linear, batch: { x: Tensor; labels: Tensor }) => {
    const logits = model.forward(batch.x);
    const own = logits.takeAlongAxis(batch.labels.expandDims(-1), -1).squeeze(-1);
    return logits.logsumexp(-1).sub(own);
  };
  const build = (accumulate: number) =>
    new Trainer({
      ...common(),
      model: new Linear(),
      data: batches(),
      accumulate,
      steps: 3,
      seed: 4,
      validation: { every: 3 },
      optimizer: sgd({ learningRate: 0.2 }),
      loss: (model, batch) => {
        const each = losses(model, batch);
        const right = model.forward(batch.x).argmax(-1).equal(batch.labels).astype("float32");
        return {
          loss: metrics.mean(each, batch.weights),
          metrics: {
            accuracy: metrics.mean(right),
            weighted: metrics.mean(right, batch.weights),
            hits: metrics.sum(right),
            worst: metrics.max(each),
          },
        };
      },
    });
  const [whole, parts, single] = [build(1), build(3), build(6)];
  const results = [await whole.fit(), await parts.fit(), await single.fit()];
  const expected = await valuesOf(whole.model);
  for (const trainer of [parts, single]) {
    for (const [path, values] of Object.entries(await valuesOf(trainer.model)))
      for (const [i, v] of values.entries()) expect(v).toBeCloseTo(expected[path]![i]!, 6);
    for (const [i, row] of trainer.rows.entries())
      for (const column of ["loss", "accuracy", "weighted", "hits", "worst"])
        if (whole.rows[i]![column] !== undefined)
          expect(row[column], column).toBeCloseTo(whole.rows[i]![column]!, 5);
  }
  // By hand, in double precision, from the final weights.
  const [w, b] = [expected["l.weight"]!, expected["l.bias"]!];
  let [total, weight, hits, count, worst] = [0, 0, 0, 0, Number.NEGATIVE_INFINITY];
  for (const batch of [
    { ...labelled(7), weights },
    { ...labelled(8, 2), weights: Float32Array.of(0.5, 2) },
  ]) {
    for (const [r, label] of batch.labels.entries()) {
      const logits = [0, 1, 2].map(
        (k) => b[k]! + [0, 1, 2, 3].reduce((s, c) => s + w[4 * k + c]! * batch.x.data[4 * r + c]!, 0),
      );
      const nll = Math.log(logits.reduce((s, x) => s + Math.exp(x), 0)) - logits[label]!;
      total += batch.weights[r]! * nll;
      weight += batch.weights[r]!;
      hits += Number(logits.indexOf(Math.max(...logits)) === label);
      count++;
      worst = Math.max(worst, nll);
    }
  }
  expect(results[0]!.validation!.valid_loss).toBeCloseTo(total / weight, 5);
  expect(results[1]!.validation).toMatchObject({ valid_hits: hits });
  expect(results[0]!.validation!.valid_accuracy).toBeCloseTo(hits / count, 6);
  expect(results[0]!.validation!.valid_worst).toBeCloseTo(worst, 5);
});

it("compiles the step for each set of shapes that the data tell before it begins, and ends with data that end", async () => {
  const lengths = [2, 3, 5];
  const source = data.loader({
    items: Array.from({ length: 24 }, (_, i) => ({ i, length: lengths[i % 3]! })),
    decode: ({ i, length }) => ({ x: Float32Array.from({ length: 4 * length }, (_, k) => Math.sin(i + k)) }),
    workers: 0,
    batchSize: 4,
    epochs: 1,
    pad: { x: {} },
    buckets: { length: ({ x }) => x.length, bounds: lengths.map((n) => 4 * n) },
    shuffle: false,
    seed: 1,
  });
  const traced: string[] = [];
  const trainer = new Trainer({
    ...common(),
    model: new Linear(),
    data: source,
    steps: 100,
    optimizer: sgd({ learningRate: 0.01 }),
    loss: (model, batch) => {
      traced.push(String(batch.x.shape));
      return model
        .forward(batch.x.reshape([4, -1, 4]))
        .square()
        .mean();
    },
    callbacks: [{ onStart: () => void traced.push("start") }],
  });
  const { status, step } = await trainer.fit();
  expect([status, step]).toEqual(["stopped", 6]);
  expect(traced.indexOf("start")).toBe(3);
  expect(new Set(traced)).toEqual(new Set(["4,8", "4,12", "4,20", "start"]));
});
