/** Several optimizers, steps of one's own, and loops outside of `fit`. */
import "../../support/runtime.js";
import {
  adam,
  adamw,
  evaluate,
  full,
  grad,
  Interrupted,
  metrics,
  nn,
  random,
  sgd,
  type Tensor,
  Trainer,
  tensor,
  tree,
} from "aronnax";
import { expect, it } from "vitest";
import { common, made, numbers, valuesOf } from "./any.js";

class Gan extends nn.Module {
  g = new nn.Linear(2, 3, { bias: true });
  d = new nn.Linear(3, 1, { bias: true });
}

const rows = 8;
const batches = (index: number) => ({
  real: { data: numbers(rows * 3, index), shape: [rows, 3] },
  z: { data: numbers(rows * 2, index + 50), shape: [rows, 2] },
});
type Fields = { readonly real: Tensor; readonly z: Tensor };
const softplus = (x: Tensor): Tensor => x.exp().add(1).log();
const lossD = (m: Gan, { real, z }: Fields): Tensor =>
  softplus(m.d.forward(real).neg())
    .mean()
    .add(softplus(m.d.forward(m.g.forward(z).stopGradient())).mean());
const lossG = (m: Gan, { z }: Fields): Tensor => softplus(m.d.forward(m.g.forward(z)).neg()).mean();

/** Gradient steps by hand, in plain arithmetic: d, then g against the new d. */
async function byHand(
  start: Gan,
  steps: number,
  { dPerStep = 1, gEvery = 1, rate = 0.3 } = {},
): Promise<Record<string, number[]>> {
  let model = start;
  const data = made(rows, batches);
  const descend = async (
    part: "g" | "d",
    loss: (m: Gan, b: Fields) => Tensor,
    fields: Fields,
  ): Promise<void> => {
    const slopes = grad(loss)(nn.freeze(model, part === "g" ? "d" : "g"), fields);
    model = await evaluate(tree.map((p, g) => p.sub(g.mul(rate)), model, slopes));
  };
  for (let i = 0; i < steps; i++) {
    const { real, z } = await data.next();
    const fields = { real: tensor(real.data, real), z: tensor(z.data, z) };
    for (let k = 0; k < dPerStep; k++) await descend("d", lossD, fields);
    if (i % gEvery === 0) await descend("g", lossG, fields);
  }
  return valuesOf(model);
}

const close = (found: Record<string, number[]>, expected: Record<string, number[]>, digits = 5) => {
  expect(Object.keys(found)).toEqual(Object.keys(expected));
  for (const [path, values] of Object.entries(found))
    for (const [i, v] of values.entries())
      expect(v, `${path}[${i}]`).toBeCloseTo(expected[path]![i]!, digits);
};

const start = () => nn.initialize(new Gan(), 3);

it.each([
  ["alternating", {}, 1],
  ["two updates of one to one of the other", { dPerStep: 2 }, 1],
  ["one every third step", { gEvery: 3 }, 1],
  ["alternating, in parts", {}, 2],
] as const)("makes the updates of two optimizers %s as by hand", async (_, schedule, accumulate) => {
  const { dPerStep = 1, gEvery = 1 } = schedule as { dPerStep?: number; gEvery?: number };
  const trainer = new Trainer({
    ...common(),
    model: start(),
    data: made(rows, batches),
    steps: 5,
    accumulate,
    optimizers: { g: sgd({ learningRate: 0.3 }), d: sgd({ learningRate: 0.3 }) },
    step({ update }) {
      for (let i = 0; i < dPerStep; i++) update("d", lossD);
      update("g", lossG, { every: gEvery });
    },
    loss: lossG,
  });
  await trainer.fit();
  close(await valuesOf(trainer.model), await byHand(start(), 5, { dPerStep, gEvery }));
  const row = trainer.rows[0]!;
  expect(row.loss).toBeCloseTo(row["loss/g"]! + dPerStep * row["loss/d"]!, dPerStep === 1 ? 5 : -1);
  expect(row["learning_rate/d"]).toBeCloseTo(0.3, 6);
  expect(trainer.rows[1]!["loss/g"] === undefined).toBe(gEvery === 3);
});

it("counts each optimizer's updates for its schedule and its bias correction, and resumes to the same bits", async () => {
  const build = (name: string, extra: object = {}) =>
    new Trainer({
      ...common(),
      name,
      model: start(),
      data: made(rows, batches),
      steps: 7,
      optimizers: { g: adam({ learningRate: 0.02 }), d: adamw({ learningRate: 0.05, clipNorm: 0.1 }) },
      step({ update, key, model, step }, batch) {
        const { loss } = update("d", (m, b, { key: own }) =>
          lossD(m, b).add(random.uniform(own!, []).mul(0)),
        );
        update("g", lossG, { every: 2, offset: 1 });
        return {
          loss,
          metrics: {
            drawn: random.uniform(key, []),
            rows: metrics.sum(full([batch.z.shape[0]!], 1)),
            norm: model.g.weight.square().sum(),
            at: step.astype("float32"),
          },
        };
      },
      loss: lossG,
      ...extra,
    });
  const whole = build("steps-whole");
  await whole.fit();
  expect(whole.rows[3]).toMatchObject({ rows: 8, at: 3 });
  const half = build("steps-half", {
    checkpoints: { every: 3 },
    callbacks: [
      {
        onStep: ({ step }: { step: number }, t: { stop(r: string): void }) =>
          step === 3 ? t.stop("half") : undefined,
      },
    ],
  });
  await half.fit();
  const resumed = build("steps-half", { checkpoints: { every: 3 }, resume: true });
  await resumed.fit();
  expect(await valuesOf(resumed.model)).toEqual(await valuesOf(whole.model));
  expect(resumed.rows.map(({ loss, drawn }) => [loss, drawn])).toEqual(
    whole.rows.map(({ loss, drawn }) => [loss, drawn]),
  );
});

it("trains parts of a model with optimizers of their own by one loss", async () => {
  const build = (options: object) =>
    new Trainer({
      ...common(),
      model: start(),
      data: made(rows, batches),
      steps: 4,
      loss: lossG,
      ...options,
    } as never);
  const two = build({ optimizers: { g: sgd({ learningRate: 0.3 }), d: sgd({ learningRate: 0.1 }) } });
  const groups = build({
    optimizer: sgd({ learningRate: 0.3, groups: [{ match: "d", optimizer: sgd({ learningRate: 0.1 }) }] }),
  });
  await two.fit();
  await groups.fit();
  close(await valuesOf(two.model as Gan), await valuesOf(groups.model as Gan), 6);
});

it("leaves the whole step out where one of its updates is not finite", async () => {
  const trainer = new Trainer({
    ...common(),
    model: start(),
    data: made(rows, (i) => {
      const fields = batches(i);
      if (i === 2) fields.real.data.fill(Number.NaN);
      return fields;
    }),
    steps: 5,
    onDivergence: "skip",
    optimizers: { g: adam({ learningRate: 0.02 }), d: adam({ learningRate: 0.02 }) },
    step({ update }) {
      update("g", lossG);
      update("d", lossD);
    },
    loss: lossG,
  });
  await trainer.fit();
  for (const values of Object.values(await valuesOf(trainer.model)))
    expect(values.every(Number.isFinite)).toBe(true);
});

it.each<[string, object, RegExp]>([
  [
    "an unknown part",
    { optimizers: { generator: sgd({ learningRate: 1 }) } },
    /optimizers.generator trains no parameter: the model has no part "generator"/,
  ],
  [
    "both",
    { optimizer: sgd({ learningRate: 1 }), optimizers: { g: sgd({ learningRate: 1 }) } },
    /optimizer and optimizers are both given/,
  ],
  ["none", {}, /optimizer is missing/],
  ["no optimizer inside", { optimizers: { g: 3 } }, /optimizers is/],
])("refuses %s", (_, options, message) => {
  expect(
    () =>
      new Trainer({
        ...common(),
        model: start(),
        data: made(rows, batches),
        steps: 1,
        loss: lossG,
        ...options,
      } as never),
  ).toThrow(message);
});

it.each<[string, (update: (...given: never[]) => unknown) => unknown, RegExp]>([
  ["makes no update", () => undefined, /made no update/],
  ["names no optimizer that there is", (update) => update(...(["x", lossG] as never[])), /no optimizer "x"/],
  ["updates by no function", (update) => update(...(["g", 3] as never[])), /update\("g", 3\)/],
  ["updates every zeroth step", (update) => update(...(["g", lossG, { every: 0 }] as never[])), /every is 0/],
])("names a step that %s", async (_, run, message) => {
  const trainer = new Trainer({
    ...common(),
    model: start(),
    data: made(rows, batches),
    steps: 1,
    optimizers: { g: sgd({ learningRate: 1 }), d: sgd({ learningRate: 1 }) },
    step: ({ update }) => {
      run(update as never);
    },
    loss: lossG,
  });
  await expect(trainer.fit()).rejects.toThrow(message);
});

it("updates in a loop of one's own as fit does, with its validations, checkpoints and resume", async () => {
  const build = (extra: object = {}) =>
    new Trainer({
      ...common(),
      model: start(),
      data: made(rows, batches, [batches(99)]),
      steps: 6,
      optimizer: adam({ learningRate: 0.05 }),
      loss: lossG,
      validation: { every: 3 },
      checkpoints: { every: 2 },
      ...extra,
    });
  const fitted = build();
  await fitted.fit();
  const looped = build({ name: "looped", data: undefined, validation: undefined });
  const source = made(rows, batches);
  const rowsOf: Promise<Record<string, number>>[] = [];
  for (let i = 0; i < 6; i++) {
    const { row, ended } = await looped.update(await source.next());
    rowsOf.push(row);
    expect(ended).toBe(i === 5);
  }
  expect(await valuesOf(looped.model)).toEqual(await valuesOf(fitted.model));
  const expected = fitted.rows.filter((r) => r.loss !== undefined).map((r) => r.loss);
  expect((await Promise.all(rowsOf)).map((r) => r.loss)).toEqual(expected);
  await expect(looped.update(await source.next())).rejects.toThrow(/after all 6 steps/);
  const again = build({ name: "looped", data: undefined, validation: undefined, resume: true, steps: 8 });
  await again.update(await source.next());
  expect(again.step).toBe(7);
  expect((await again.finish()).status).toBe("stopped");
  await expect(
    new Trainer<Gan, ReturnType<typeof batches>>({
      ...common(),
      model: start(),
      steps: 1,
      optimizer: adam({ learningRate: 1 }),
      loss: lossG,
    }).fit(),
  ).rejects.toThrow(/fit\(\) without data/);
});

it("stops a loop of one's own after the step at which the notebook interrupts, with everything kept", async () => {
  const key = Symbol.for("aronnax.interrupt");
  const holder = globalThis as { [key: symbol]: unknown };
  let controller = new AbortController();
  const found: Record<string, number[]>[] = [];
  holder[key] = {
    get signal() {
      return controller.signal;
    },
    observe: () => () => undefined,
  };
  try {
    const build = (name: string) =>
      new Trainer<Gan, ReturnType<typeof batches>>({
        ...common(),
        name,
        model: start(),
        steps: 5,
        optimizer: adam({ learningRate: 0.05 }),
        loss: lossG,
        checkpoints: { every: 100 },
      });
    for (const name of ["interrupted-loop", "resumed-loop"]) {
      controller = new AbortController();
      const trainer = build(name);
      const source = made(rows, batches);
      await trainer.update(await source.next());
      controller.abort();
      await expect(trainer.update(await source.next())).rejects.toThrow(Interrupted);
      expect(trainer.step).toBe(2);
      controller = new AbortController();
      const next =
        name === "resumed-loop"
          ? new Trainer<Gan, ReturnType<typeof batches>>({ ...trainer.config, resume: true })
          : trainer;
      const rest = made(rows, batches);
      await rest.restore({ version: 1, kind: "made", samples: 2 * rows });
      do await next.update(await rest.next());
      while (next.step < 5);
      found.push(await valuesOf(next.model));
    }
    const whole = build("whole-loop");
    const all = made(rows, batches);
    for (let i = 0; i < 5; i++) await whole.update(await all.next());
    for (const each of found) expect(each).toEqual(await valuesOf(whole.model));
  } finally {
    delete holder[key];
  }
});
