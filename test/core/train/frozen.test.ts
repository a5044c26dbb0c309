/** Parts that stay as they are: frozen parameters, constants, references; and models that the Trainer changes in place of. */

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { adamw, checkpoint, full, metrics, nn, sgd, type Tensor, Trainer, tensor } from "aronnax";
import { expect, it } from "vitest";
import { Runtime } from "../../../core/src/runtime/runtime.js";
import { compiledModules } from "../../support/runtime.js";
import { common, made, numbers, valuesOf } from "./any.js";
import { folder } from "./support.js";

const width = 1024;
const bytes = 4 * width * width;

/** A big frozen base with a small trained adapter beside it. */
class Adapted extends nn.Module {
  base = new nn.Linear(width, width);
  down = new nn.Linear(width, 4);
  up = new nn.Linear(4, width, { init: nn.constantInit(0) });
  forward(x: Tensor): Tensor {
    return this.base.forward(x).add(this.up.forward(this.down.forward(x)));
  }
}

const rows = 4;
const data = () => made(rows, (i) => ({ x: { data: numbers(rows * width, i), shape: [rows, width] } }));
const loss = (m: Adapted, { x }: { readonly x: Tensor }): Tensor => m.forward(x).sub(1).square().mean();
const parameterBytes = async (): Promise<number> =>
  (await Runtime.default().memory()).devices.reduce((n, d) => n + (d.byTag.parameter ?? 0), 0);

it.each<[string, (m: Adapted) => Adapted, object]>([
  ["nn.freeze", (m) => nn.freeze(m, "base"), {}],
  ["the optimizer's groups", (m) => m, { groups: [{ match: "base", frozen: true }] }],
])(
  "reads what is frozen by %s where it lies: no copy, no gradient, no place in checkpoints",
  async (_, freeze, options) => {
    const model = nn.initialize(freeze(new Adapted()), 1);
    const base = model.base.weight;
    await base.data();
    const before = await parameterBytes();
    const settings = {
      ...common(),
      model,
      data: data(),
      steps: 3,
      optimizer: adamw({ learningRate: 0.01, ...options }),
      average: { decay: 0.9 },
      checkpoints: { every: 2 },
      loss,
    };
    const trainer = new Trainer(settings);
    await trainer.fit();
    expect(trainer.model.base.weight.buffer).toBe(base.buffer);
    expect(base.buffer!.state).toBe("live");
    // Only the adapter, its average and its optimizer state came.
    expect((await parameterBytes()) - before).toBeLessThan(bytes / 10);
    // Both ways to freeze make one and the same program.
    const step = [...compiledModules].find((text) => /module @\w*train_step/.test(text))!;
    const [head, body] = [step.slice(0, step.indexOf(") -> (")), step.slice(step.indexOf(") -> ("))];
    const big = `tensor<${width}x${width}xf32>`;
    expect(head.split(big).length - 1).toBe(1);
    expect(head.slice(head.indexOf(big), head.indexOf(big) + 80)).not.toMatch(/donor|aliasing/);
    expect(body.slice(0, body.indexOf("{\n")).includes(big)).toBe(false);
    const saved = await checkpoint.TensorFiles.open(
      join(folder, settings.name, "checkpoints", "step-000003", "model"),
    );
    expect([...saved.tensors.keys()].sort()).toEqual(["down.weight", "up.weight"]);
    await saved.close();
    const resumed = new Trainer({ ...settings, data: data(), steps: 5, resume: true });
    await resumed.fit();
    const whole = new Trainer({ ...settings, ...common(), data: data(), steps: 5 });
    await whole.fit();
    expect(await valuesOf(resumed.model)).toEqual(await valuesOf(whole.model));
  },
);

it("saves frozen parts too, or chosen parts by name, where that is asked for", async () => {
  const settings = {
    ...common(),
    model: nn.initialize(nn.freeze(new Adapted(), "base"), 1),
    data: data(),
    steps: 1,
    optimizer: sgd({ learningRate: 0.1 }),
    loss,
  };
  await new Trainer({ ...settings, checkpoints: { every: 1, save: "all" } }).fit();
  const folderOf = (name: string, part: string) => join(folder, name, "checkpoints", "step-000001", part);
  const whole = await checkpoint.TensorFiles.open(folderOf(settings.name, "model"));
  expect(whole.tensors.has("base.weight")).toBe(true);
  await whole.close();
  const chosen = { ...settings, ...common(), data: data() };
  await new Trainer({ ...chosen, checkpoints: { every: 1, save: { adapter: "up" } } }).fit();
  const adapter = await checkpoint.TensorFiles.open(folderOf(chosen.name, "adapter"));
  expect([...adapter.tensors.keys()]).toEqual(["up.weight"]);
  await adapter.close();
  expect(existsSync(folderOf(chosen.name, "model")), String(readdirSync(folder))).toBe(true);
});

it("gives losses the references of the configuration, which share memory with what the model has of them", async () => {
  const start = nn.initialize(nn.freeze(new Adapted(), "base"), 1);
  await start.base.weight.data();
  const before = await parameterBytes();
  const distances: number[] = [];
  const trainer = new Trainer({
    ...common(),
    model: start,
    references: { start },
    data: data(),
    steps: 4,
    optimizer: sgd({ learningRate: 0.5 }),
    loss: (m, batch, { references, training, step }) => {
      const was = (references.start as Adapted).forward(batch.x);
      return {
        loss: loss(m, batch),
        metrics: {
          moved: metrics.mean(m.forward(batch.x).sub(was).square()),
          training: metrics.max(full([], training ? 1 : 0).add(step.astype("float32").mul(0))),
        },
      };
    },
    callbacks: [{ onStep: ({ row }) => void distances.push(row.moved!) }],
  });
  await trainer.fit();
  expect(distances[0]).toBe(0);
  expect(distances[3]).toBeGreaterThan(0);
  expect(trainer.rows[0]!.training).toBe(1);
  expect((await parameterBytes()) - before).toBeLessThan(bytes / 10);
});

it("does not train, count or decay a Tensor field that was not declared, of integers neither", async () => {
  class Filtered extends nn.Module {
    w = new nn.Linear(2, 2);
    bank = tensor([
      [1, 0.5],
      [0, 1],
    ]);
    order = tensor([1, 0], { dtype: "int32" });
    forward(x: Tensor): Tensor {
      return this.w.forward(x.matmul(this.bank)).take(this.order, 1);
    }
  }
  const seen = new Set(compiledModules);
  const build = () =>
    new Trainer({
      ...common(),
      model: new Filtered(),
      data: made(2, (i) => ({ x: numbers(4, i) })),
      steps: 5,
      optimizer: adamw({ learningRate: 0.1, weightDecay: 0.5 }),
      loss: (m, { x }) => m.forward(x).sub(1).square().mean(),
    });
  const trainer = build();
  await trainer.fit();
  expect(await trainer.model.bank.array()).toEqual([
    [1, 0.5],
    [0, 1],
  ]);
  expect(trainer.model.parameterCount).toBe(4);
  // An input of the program, not a constant in it.
  const step = [...compiledModules].find((text) => !seen.has(text) && /module @\w*train_step/.test(text))!;
  expect(step.slice(0, step.indexOf(") -> ("))).toMatch(/tensor<2xi32>/);
});

it("is drawn where it has no values yet, and keeps those that it has", async () => {
  const loaded = nn.initialize(new Adapted(), 7);
  const half = nn.replace(loaded, "up", () => new nn.Linear(4, width));
  const kept = await loaded.down.weight.array();
  const trainer = new Trainer({
    ...common(),
    model: half,
    data: data(),
    steps: 1,
    optimizer: sgd({ learningRate: 1e-9 }),
    loss,
  });
  await trainer.fit();
  const now = (await trainer.model.down.weight.array()) as number[][];
  expect(now[0]![0]).toBeCloseTo((kept as number[][])[0]![0]!, 6);
  const drawn = Array.from(await (trainer.model.up as nn.Linear).weight.data(), Number);
  expect(Math.max(...drawn.map(Math.abs))).toBeGreaterThan(0);
});

it("gives a loss the references that share what has no values yet with the model, each with its own leaves", async () => {
  const model = nn.freeze(new Adapted(), "base");
  const trainer = new Trainer({
    ...common(),
    model,
    references: { start: model, other: nn.initialize(new Adapted(), 9) },
    data: data(),
    steps: 2,
    optimizer: sgd({ learningRate: 0.5 }),
    loss: (m, batch, { references }) => {
      const [start, other] = [references.start as Adapted, references.other as Adapted];
      const distance = (a: nn.Linear, b: nn.Linear) => metrics.mean(a.weight.sub(b.weight).abs());
      return {
        loss: loss(m, batch),
        metrics: {
          base: distance(m.base, start.base),
          down: distance(m.down, start.down),
          up: distance(m.up, start.up),
          other: metrics.mean(other.down.weight),
        },
      };
    },
  });
  await trainer.fit();
  const other = await nn.initialize(new Adapted(), 9).down.weight.mean().item();
  expect(trainer.rows[0]).toMatchObject({ base: 0, down: 0, up: 0 });
  expect(trainer.rows[0]!.other).toBeCloseTo(other, 6);
  expect(trainer.rows[1]!.base).toBe(0);
  expect(trainer.rows[1]!.up).toBeGreaterThan(0);
});
