/** Each optimizer against its paper's program in NumPy (test/oracle/optimizers.py), update by update. */
import "../../support/runtime.js";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  adafactor,
  adam,
  adamw,
  evaluate,
  jit,
  lion,
  muon,
  type Optimizer,
  sgd,
  type Tensor,
  tensor,
} from "aronnax";
import { afterAll, expect, it } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "aronnax-optim-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const python =
  process.env.ARONNAX_PYTHON ?? fileURLToPath(new URL("../../../.venv/bin/python", import.meta.url));
const script = fileURLToPath(new URL("../../oracle/optimizers.py", import.meta.url));

const shapes: Record<string, [number, number] | [number]> = {
  "embedTokens.weight": [7, 4],
  "layers.0.up.weight": [9, 4],
  "layers.0.down.weight": [4, 6],
  "norm.weight": [4],
};
const updates = 4;

/** Different everywhere, with both signs, and of full rank as a matrix. */
const value = (seed: number, i: number): number => Math.sin(3.7 * (i + 1) ** 2 + 78.233 * seed) * 1.7;
const nested = ([rows, columns]: readonly number[], seed: number): number[] | number[][] =>
  columns === undefined
    ? Array.from({ length: rows! }, (_, i) => value(seed, i))
    : Array.from({ length: rows! }, (_, r) =>
        Array.from({ length: columns }, (_, c) => value(seed, r * columns + c)),
      );
const tree = (seed: number) =>
  Object.fromEntries(
    Object.entries(shapes).map(([path, shape], k) => [path, nested(shape, seed + 0.37 * k)]),
  );
const parameters = tree(1);
const gradients = Array.from({ length: updates }, (_, i) => tree(10 + i));

type Make = (options: never) => Optimizer;
const cases: { rule: string; make: Make; options: Record<string, unknown> }[] = [
  { rule: "adam", make: adam as Make, options: { learningRate: 0.05, beta2: 0.999, l2: 0.1 } },
  {
    rule: "adamw",
    make: adamw as Make,
    options: { learningRate: 0.05, beta2: 0.98, weightDecay: 0.1, clipNorm: 1 },
  },
  {
    rule: "adamw",
    make: adamw as Make,
    options: { learningRate: 0.05, beta2: 0.95, clipValue: 0.5, clipNorm: 2 },
  },
  {
    rule: "sgd",
    make: sgd as Make,
    options: { learningRate: 0.1, momentum: 0.9, nesterov: true, weightDecay: 0.2 },
  },
  { rule: "lion", make: lion as Make, options: { learningRate: 0.01, weightDecay: 0.5 } },
  { rule: "adafactor", make: adafactor as Make, options: { learningRate: 0.03, weightDecay: 0.1 } },
  {
    rule: "adafactor",
    make: adafactor as Make,
    options: {
      learningRate: 0.03,
      beta1: 0.9,
      scaleByParameter: false,
      clipThreshold: 0.8,
      decayExponent: 0.7,
    },
  },
  { rule: "muon", make: muon as Make, options: { learningRate: 0.02, weightDecay: 0.1, dtype: "float32" } },
  {
    rule: "muon",
    make: muon as Make,
    options: { learningRate: 0.02, scale: "spectral", dtype: "float32", clipNorm: 1 },
  },
];

const asTensors = (values: Record<string, number[] | number[][]>): Record<string, Tensor> =>
  Object.fromEntries(Object.entries(values).map(([path, v]) => [path, tensor(v, { dtype: "float32" })]));

let expected: Record<string, number[]>[][] | undefined;
function oracle(): Record<string, number[]>[][] {
  const request = join(folder, "request.json");
  writeFileSync(request, JSON.stringify({ parameters, gradients, cases }));
  expected ??= JSON.parse(execFileSync(python, [script, request], { encoding: "utf8" })) as Record<
    string,
    number[]
  >[][];
  return expected;
}

it.each(cases.map((each, i) => [`${each.rule} ${JSON.stringify(each.options)}`, i] as const))(
  "%s",
  async (_, i) => {
    const { make, options } = cases[i]!;
    const optimizer = make(options as never);
    let state = await evaluate(optimizer.init(asTensors(parameters)));
    let now = asTensors(parameters);
    const update = jit((p: typeof now, s: unknown, g: typeof now, step: Tensor) => {
      const [next, nextState] = optimizer.update(g, s, p, { step, totalSteps: updates });
      return { next, nextState };
    });
    for (const [t, g] of gradients.entries()) {
      const done = update(now, state, asTensors(g), tensor(t, { dtype: "int32" }));
      [now, state] = [done.next, done.nextState];
      for (const [path, values] of Object.entries(oracle()[i]![t]!)) {
        const own = await now[path]!.data();
        for (const [k, x] of values.entries())
          expect(Math.abs(Number(own[k]) - x), `${path}[${k}] after update ${t + 1}`).toBeLessThan(
            2e-6 * Math.max(1, Math.abs(x)),
          );
      }
    }
  },
);

it("Newton-Schulz in bfloat16 is near the iterations in float32", async () => {
  const after: Record<string, Float32Array> = {};
  for (const dtype of ["bfloat16", "float32"] as const) {
    const optimizer = muon({ learningRate: 0.02, dtype });
    const start = asTensors(parameters);
    const [next] = optimizer.update(asTensors(gradients[0]!), optimizer.init(start), start, {
      step: tensor(0, { dtype: "int32" }),
      totalSteps: 1,
    });
    after[dtype] = (await next["layers.0.up.weight"]!.sub(
      start["layers.0.up.weight"]!,
    ).data()) as Float32Array;
  }
  // Root mean square of an update: 0.2 times the rate where singular values are 1.
  const rms = Math.sqrt(after.float32!.reduce((sum, x) => sum + x * x, 0) / after.float32!.length);
  expect(rms / 0.02).toBeGreaterThan(0.12);
  expect(rms / 0.02).toBeLessThan(0.28);
  // A bfloat16 has 8 bits, and the first iterations multiply its rounding by 3.4 each.
  const error = after.float32!.reduce((sum, x, i) => sum + (x - after.bfloat16![i]!) ** 2, 0);
  expect(Math.sqrt(error / after.float32!.length) / rms).toBeLessThan(0.15);
});
