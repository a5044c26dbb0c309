/** Distillation: values and gradients against torch, and a small model that learns from a larger one. */
import "../../support/eight-devices.js";
import "../../support/runtime.js";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  adamw,
  jit,
  llm,
  nn,
  scalar,
  sgd,
  type Tensor,
  Trainer,
  type TrainerConfig,
  tensor,
  text,
  tree,
  valueAndGrad,
} from "aronnax";
import { afterAll, describe, expect, it } from "vitest";
import type { LossContext } from "../../../core/src/train/index.js";

const folder = mkdtempSync(join(tmpdir(), "aronnax-distillation-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

// Made by test/fixtures/adaptation/make.py with torch.
const reference = JSON.parse(
  readFileSync(new URL("../../fixtures/adaptation/values.json", import.meta.url), "utf8"),
) as {
  teacher: number[];
  student: number[];
  distillation: {
    kind: "forward" | "reverse" | "jensen-shannon";
    beta: number;
    temperature: number;
    value: number;
    gradient: number[];
  }[];
};

/** A "model" whose logits are its parameter: [batch, time, vocabulary]. */
class Table extends nn.Module {
  table: Tensor;
  config = { vocabSize: 5 };
  constructor(values: readonly number[]) {
    super();
    this.table = tensor(Float32Array.from(values), { shape: [2, 3, 5] });
  }
  hidden(): Tensor {
    return this.table;
  }
  logits(x: Tensor): Tensor {
    return x;
  }
}

const batch = {
  inputs: tensor(new Int32Array(6), { shape: [2, 3] }),
  targets: tensor(Int32Array.from([0, 1, 2, 3, 4, 0]), { shape: [2, 3] }),
};
const context = (teacher: nn.Module): LossContext => ({
  key: undefined,
  step: scalar(0, "int32"),
  training: true,
  references: { teacher },
});

async function lossOf(options: llm.DistillationOptions, student: number[], given: object = batch) {
  const teacher = new Table(reference.teacher);
  const loss = llm.distillation<Table>(options);
  const run = jit((table: Tensor, fields: typeof batch) =>
    valueAndGrad((t: Tensor) => {
      const model = new Table(student);
      model.table = t;
      const { loss: mean } = loss(model, fields, context(teacher));
      return mean.total.div(mean.weight);
    })(table),
  );
  const [value, gradient] = run(
    tensor(Float32Array.from(student), { shape: [2, 3, 5] }),
    given as typeof batch,
  );
  return { value: await value.item(), gradient: [...((await gradient.data()) as Float32Array)] };
}

describe("the divergence", () => {
  it.each(
    reference.distillation.map(
      (each) => [`${each.kind}, beta ${each.beta}, T ${each.temperature}`, each] as const,
    ),
  )("equals torch's: %s", async (_, { kind, beta, temperature, value, gradient }) => {
    for (const logitBytes of [2 ** 29, 80]) {
      const found = await lossOf({ divergence: kind, beta, temperature, logitBytes }, reference.student);
      expect(found.value).toBeCloseTo(value, 5);
      for (const [i, g] of gradient.entries()) expect(found.gradient[i]!).toBeCloseTo(g, 5);
    }
  });

  it("is 0 with no gradient where the student is the teacher", async () => {
    for (const divergence of ["forward", "reverse", "jensen-shannon"] as const)
      for (const topK of [undefined, 2]) {
        const { value, gradient } = await lossOf({ divergence, temperature: 2, topK }, reference.teacher);
        expect(Math.abs(value)).toBeLessThan(1e-6);
        expect(Math.max(...gradient.map(Math.abs))).toBeLessThan(1e-6);
      }
  });

  it("of the likeliest tokens is that with all others as one, and never more than the whole", async () => {
    const softmax = (x: number[]) => {
      const e = x.map(Math.exp);
      const total = e.reduce((a, b) => a + b);
      return e.map((v) => v / total);
    };
    for (const count of [1, 2, 3, 4]) {
      let wanted = 0;
      for (let row = 0; row < 6; row++) {
        const [t, s] = [reference.teacher, reference.student].map((x) =>
          softmax(x.slice(5 * row, 5 * row + 5)),
        ) as [number[], number[]];
        const order = t.map((_, i) => i).sort((a, b) => t[b]! - t[a]!);
        const fold = (p: number[]) => [
          ...order.slice(0, count).map((i) => p[i]!),
          order.slice(count).reduce((sum, i) => sum + p[i]!, 0),
        ];
        const [p, q] = [fold(t), fold(s)];
        wanted += p.reduce((sum, x, i) => sum + x * Math.log(x / q[i]!), 0) / 6;
      }
      const { value } = await lossOf({ topK: count }, reference.student);
      expect(value).toBeCloseTo(wanted, 4);
      expect(value).toBeLessThanOrEqual((await lossOf({}, reference.student)).value + 1e-5);
    }
  });

  it("counts the targets that count, and mixes with their cross-entropy", async () => {
    const some = {
      ...batch,
      targets: tensor(Int32Array.from([0, -100, -100, 3, -100, -100]), { shape: [2, 3] }),
    };
    const picked = { ...some, supervised: tensor(Int32Array.from([0, 1, 0, 2]), { shape: [2, 2] }) };
    const [plain, compact] = [
      await lossOf({ weight: 0.3 }, reference.student, some),
      await lossOf({ weight: 0.3 }, reference.student, picked),
    ];
    expect(compact.value).toBeCloseTo(plain.value, 6);
    expect(plain.gradient.slice(5, 15).every((x) => x === 0)).toBe(true);
    for (const [i, x] of plain.gradient.entries()) expect(compact.gradient[i]!).toBeCloseTo(x, 6);
    const [kl, ce] = [
      await lossOf({}, reference.student, some),
      await lossOf({ weight: 0 }, reference.student, some),
    ];
    expect(plain.value).toBeCloseTo(0.3 * kl.value + 0.7 * ce.value, 5);
  });

  it("refuses what it cannot do", async () => {
    expect(() => llm.distillation({ divergence: "kl" as never })).toThrow(/divergence is "kl"/);
    expect(() => llm.distillation({ beta: 1 })).toThrow(/beta is 1/);
    expect(() => llm.distillation({ temperature: 0 })).toThrow(/temperature is 0/);
    expect(() => llm.distillation({ topk: 3 } as never)).toThrow(/topk/);
    await expect(lossOf({ topK: 5 }, reference.student)).rejects.toThrow(/topK is 5/);
    const loss = llm.distillation<Table>({ teacher: "large" });
    expect(() => loss(new Table(reference.student), batch, context(new Table(reference.teacher)))).toThrow(
      /no reference "large"/,
    );
  });
});

describe("a training", () => {
  const tokenizer = text.byteTokenizer();
  const config = {
    ...llm.configs.tiny,
    layers: 1,
    hiddenSize: 32,
    intermediateSize: 64,
    vocabSize: 257,
    heads: 2,
    keyValueHeads: 1,
  };
  const lines = Array.from({ length: 60 }, (_, i) => `the white whale swam by ship ${i % 7} `.repeat(3));
  const data = () => text.packed(lines, { tokenizer, sequenceLength: 48, batchSize: 8, validation: 0.1 });
  const trainer = (options: Partial<TrainerConfig<llm.Llama>>) =>
    new Trainer<llm.Llama>({
      name: `d-${Math.random()}`,
      folder,
      model: llm.llama(config),
      data: data(),
      optimizer: adamw({ learningRate: 1e-2 }),
      steps: 40,
      printEvery: 0,
      ...options,
    });

  it("brings the student near the teacher, which stays as it is, in parts and over devices", async () => {
    const large = trainer({ model: llm.llama({ ...config, layers: 2, hiddenSize: 48 }), steps: 80 });
    await large.fit();
    const teacher = large.model;
    const before = await valuesOf(teacher);
    const loss = llm.distillation<llm.Llama>();
    const student = trainer({ loss, references: { teacher }, seed: 3 });
    const first = (await student.evaluate())!;
    await student.fit();
    const last = (await student.evaluate())!;
    expect(last.valid_divergence!).toBeLessThan(0.25 * first.valid_divergence!);
    expect(last.valid_loss).toBeCloseTo(last.valid_divergence!, 6);
    expect(last.valid_cross_entropy!).toBeLessThan(first.valid_cross_entropy! - 1);
    expect(await valuesOf(teacher)).toEqual(before);
    const few = (more: Partial<TrainerConfig<llm.Llama>>) =>
      trainer({
        loss,
        references: { teacher },
        seed: 3,
        steps: 3,
        optimizer: sgd({ learningRate: 0.1 }),
        ...more,
      });
    const losses = async (one: Trainer<llm.Llama>) => {
      await one.fit();
      return one.rows.flatMap((row) => row.loss ?? []);
    };
    const one = await losses(few({}));
    for (const more of [{ accumulate: 4 }, { parallel: { data: 4 } }, { parallel: { fsdp: 2, data: 2 } }])
      for (const [i, found] of (await losses(few(more))).entries())
        expect(Math.abs(found - one[i]!) / one[i]!).toBeLessThan(1e-5);
    const other = llm.llama({ ...config, vocabSize: 264 });
    await expect(trainer({ loss, references: { teacher: other }, steps: 1 }).fit()).rejects.toThrow(
      /the teacher has 264 tokens, the model 257/,
    );
  });
});

async function valuesOf(model: nn.Module) {
  return Promise.all(
    [...tree.named(model)].map(async ([path, x]) => [
      path,
      [...((await x.data()) as Float32Array)].slice(0, 20),
    ]),
  );
}
