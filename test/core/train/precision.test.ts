/** In which types parameters are kept and steps computed. */
import "../../support/runtime.js";
import { adamw, llm, metrics, nn, random, sgd, type Tensor, Trainer, tensor } from "aronnax";
import { expect, it } from "vitest";
import { stochasticRound } from "../../../core/src/train/precision.js";
import { common, made, numbers, valuesOf } from "./any.js";
import { config, small } from "./support.js";

const flat = async (model: object): Promise<number[]> => Object.values(await valuesOf(model)).flat();

it("keeps float32 masters of a bfloat16 checkpoint: small updates are not rounded away, and the run says so", async () => {
  const narrow = nn.castTree(nn.initialize(llm.llama(small), 0), "bfloat16");
  const run = async (precision: "bf16" | object, from = narrow) => {
    const trainer = new Trainer(
      config({
        model: from,
        steps: 20,
        precision: precision as "bf16",
        optimizer: adamw({ learningRate: 1e-5 }),
      }),
    );
    await trainer.fit();
    const [before, after] = [await flat(narrow), await flat(trainer.model)];
    const changed = after.filter((x, i) => x !== before[i]).length / after.length;
    return { changed, dtype: trainer.model.model.norm.weight.dtype };
  };
  const kept = await run("bf16");
  expect(kept.dtype).toBe("float32");
  // As many as of the same values in a float32 checkpoint: all but the embeddings of bytes that do not occur.
  const wide = await run("bf16", nn.castTree(narrow, "float32"));
  expect(kept.changed).toBe(wide.changed);
  expect(kept.changed).toBeGreaterThan(0.6);
  // The user's explicit choice: rounded to nearest most updates are lost, stochastically their mean is kept.
  const nearest = await run({ compute: "bfloat16", parameters: "bfloat16", rounding: "nearest" });
  const stochastic = await run({ compute: "bfloat16", parameters: "bfloat16" });
  expect([nearest.dtype, stochastic.dtype]).toEqual(["bfloat16", "bfloat16"]);
  expect(nearest.changed).toBeLessThan(0.2);
  expect(stochastic.changed).toBeGreaterThan(nearest.changed);
});

it("rounds stochastically to a neighbour, with the right mean; infinities and NaN stay", async () => {
  const n = 40_000;
  const x = 1 + 2 ** -9;
  const drawn = await stochasticRound(tensor(new Float32Array(n).fill(x), { shape: [n] }), random.key(1))
    .astype("float32")
    .data();
  const values = new Set(drawn as Float32Array);
  expect([...values].sort()).toEqual([1, 1 + 2 ** -7]);
  const mean = (drawn as Float32Array).reduce((a, b) => a + b, 0) / n;
  expect(Math.abs(mean - x)).toBeLessThan(2 ** -7 * 0.01);
  const odd = tensor(Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY, -3.0, 0), { shape: [4] });
  expect(await stochasticRound(odd, random.key(2)).astype("float32").array()).toEqual([
    Number.NaN,
    Number.POSITIVE_INFINITY,
    -3,
    0,
  ]);
});

class Sensitive extends nn.Module {
  l = new nn.Linear(4, 1, { bias: true });
}

it("scales the loss of float16 by what its gradients bear: an overflow leaves the update out and halves the scale", async () => {
  const rows = 8;
  const build = (precision: "float16" | "float32", size: number, extra: object = {}) =>
    new Trainer({
      ...common(),
      model: nn.initialize(new Sensitive(), 2),
      data: made(rows, (i) => ({ x: { data: numbers(rows * 4, i), shape: [rows, 4] } })),
      steps: 12,
      optimizer: sgd({ learningRate: 1e-3 }),
      precision,
      // The gradient by the model's output is `size` each.
      loss: (m, { x }) => m.l.forward(x.astype(m.l.weight.dtype)).astype("float32").mul(size).sum(),
      ...extra,
    });
  const trainer = build("float16", 1);
  await trainer.fit();
  const plain = build("float32", 1);
  await plain.fit();
  const scales = trainer.rows.map((row) => row.loss_scale!);
  expect(scales[0]).toBe(65536);
  // 65536 times the sum of 8 rows' inputs overflows; what is left out does not count as a divergence.
  const last = scales.at(-1)!;
  expect(last).toBeLessThan(65536);
  expect(scales.every((s, i) => i === 0 || s === scales[i - 1] || s === scales[i - 1]! / 2)).toBe(true);
  expect((await flat(trainer.model)).every(Number.isFinite)).toBe(true);
  expect(trainer.step).toBe(12);
  expect(trainer.rows.at(-1)!.gradient_norm).toBeCloseTo(plain.rows.at(-1)!.gradient_norm!, 2);
  // Of gradients that float16 rounds to zero without a scale.
  const tiny = build("float16", 1e-7, { optimizer: sgd({ learningRate: 1e4 }) });
  const exact = build("float32", 1e-7, { optimizer: sgd({ learningRate: 1e4 }) });
  await tiny.fit();
  await exact.fit();
  const [a, b] = [await flat(tiny.model), await flat(exact.model)];
  for (const [i, v] of a.entries()) expect(Math.abs(v - b[i]!)).toBeLessThan(2e-2 * Math.abs(b[i]!) + 1e-5);
});

it("keeps the scale in checkpoints, and resumes to the same bits", async () => {
  const rows = 4;
  const settings = () => ({
    ...common(),
    model: nn.initialize(new Sensitive(), 2),
    data: made(rows, (i) => ({ x: { data: numbers(rows * 4, i), shape: [rows, 4] } })),
    optimizer: adamw({ learningRate: 0.05 }),
    precision: "float16" as const,
    checkpoints: { every: 4 },
    loss: (m: Sensitive, { x }: { readonly x: Tensor }) => ({
      loss: m.l.forward(x.astype("float16")).astype("float32").mul(3000).square().mean(),
      metrics: { rows: metrics.sum(x.astype("float32").mul(0).add(0.25)) },
    }),
  });
  const whole = new Trainer({ ...settings(), steps: 8 });
  await whole.fit();
  const name = "scaled";
  await new Trainer({ ...settings(), name, steps: 4 }).fit();
  const resumed = new Trainer({ ...settings(), name, steps: 8, resume: true });
  await resumed.fit();
  expect(await valuesOf(resumed.model)).toEqual(await valuesOf(whole.model));
  expect(resumed.rows.map((r) => r.loss_scale)).toEqual(whole.rows.map((r) => r.loss_scale));
});

it.each<[unknown, RegExp]>([
  ["fp8", /no matrix product is computed in FP8 yet/],
  ["fp16", /precision is "fp16"/],
  [{ compute: "int8" }, /precision.compute is "int8"/],
  [{ compute: "bfloat16", parameter: "float32" }, /precision has no field/],
  [{ rounding: "stochastic" }, /float32 parameters are not rounded/],
])("refuses %j", (precision, message) => {
  expect(() => new Trainer(config({ precision: precision as "bf16" }))).toThrow(message);
});
