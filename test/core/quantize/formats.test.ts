/** Weights in few bits: how exact they are, their products and derivatives, and layers on them. */
import "../../support/runtime.js";
import { grad, jit, nn, quantize, random, type Tensor, tensor } from "aronnax";
import { describe, expect, it } from "vitest";
import { compiledModules } from "../../support/runtime.js";

const numbers = async (x: Tensor) => Array.from(await x.astype("float32").data(), Number);
const norm = (x: readonly number[]) => Math.hypot(...x);
const apart = (a: readonly number[], b: readonly number[]) => norm(a.map((x, i) => x - b[i]!)) / norm(b);
const decibels = (error: number) => -20 * Math.log10(error);

describe.each<[quantize.Format, number, number]>([
  ["nf4", 20.2, 21.2],
  ["int8", 40, 50],
  ["fp8", 31, 32.5],
])("%s", (format, least, most) => {
  it("keeps a normal weight to its signal-to-noise ratio", async () => {
    const w = random.normal(1, [128, 256]);
    const error = apart(await numbers(quantize.encodeWeight(w, { format }).value()), await numbers(w));
    expect(decibels(error)).toBeGreaterThan(least);
    expect(decibels(error)).toBeLessThan(most);
  });

  it("multiplies, and is differentiated by what it multiplies, as its value", async () => {
    const layer = Object.assign(new nn.Linear(48, 40, { bias: true }), {
      weight: random.normal(2, [40, 48]),
      bias: random.normal(3, [40]),
    });
    const quantized = quantize.linears(nn.sequential(layer), { format, layers: () => true });
    const rounded = quantize.encodeWeight(layer.weight, { format }).value();
    const x = random.normal(4, [3, 5, 48]);
    const own = (y: Tensor): Tensor => quantized.forward(y).square().sum();
    const plain = (y: Tensor): Tensor => y.matmul(rounded.transpose()).add(layer.bias!).square().sum();
    // Of FP8 the inputs and gradients are rounded too.
    const [product, slope] = format === "fp8" ? [0.05, 0.12] : [2e-6, 2e-6];
    const y = await numbers(quantized.forward(x));
    expect(apart(y, await numbers(x.matmul(rounded.transpose()).add(layer.bias!)))).toBeLessThan(product);
    expect(apart(await numbers(grad(own)(x)), await numbers(grad(plain)(x)))).toBeLessThan(slope);
    expect(quantized.parameterCount).toBe(40 * 48 + 40);
  });

  it("takes zeros, huge and odd matrices", async () => {
    const zero = quantize.encodeWeight(tensor(new Float32Array(35), { shape: [5, 7] }), { format });
    expect(await numbers(zero.value())).toEqual(new Array(35).fill(0));
    expect(await numbers(zero.product(random.normal(1, [2, 7])))).toEqual(new Array(10).fill(0));
    const huge = random.normal(5, [5, 7]).mul(1e30);
    const kept = quantize.encodeWeight(huge, { format });
    expect(decibels(apart(await numbers(kept.value()), await numbers(huge)))).toBeGreaterThan(17);
  });

  it("is initialized, cast and counted as what it stands for", async () => {
    const model = nn.initialize(nn.sequential(new nn.Linear(16, 8)), 1);
    const small = quantize.linears(model, { format, layers: () => true });
    const before = await numbers(small.forward(tensor(new Float32Array(16).fill(1), { shape: [1, 16] })));
    const again = nn.castTree(nn.initialize(small, 7), "bfloat16");
    expect(await numbers(again.forward(tensor(new Float32Array(16).fill(1), { shape: [1, 16] })))).toEqual(
      before,
    );
    expect(small.parameterCount).toBe(model.parameterCount);
  });
});

it("multiplies FP8 codes as they are, with both orientations or one", async () => {
  const w = random.normal(1, [32, 16]);
  const one = quantize.encodeWeight(w, { format: "fp8" });
  const both = quantize.encodeWeight(w, { format: "fp8", both: true });
  const x = random.normal(2, [4, 16]);
  const slope = (weight: quantize.QuantizedWeight) =>
    jit((y: Tensor) => grad((z: Tensor) => weight.product(z).square().sum())(y))(x);
  expect(await numbers(slope(one))).toEqual(await numbers(slope(both)));
  const products = [...compiledModules].flatMap((text) =>
    text.split("\n").filter((line) => line.includes("dot_general")),
  );
  expect(products.some((line) => /f8E4M3FN.*f8E4M3FN/.test(line))).toBe(true);
  expect(products.some((line) => /f8E5M2.*f8E4M3FN/.test(line))).toBe(true);
});

it("frees what is quantized where that is asked for", async () => {
  const model = nn.initialize(nn.sequential(new nn.Linear(16, 8), new nn.LayerNorm(8)), 1);
  const layers = nn.parameterSpecs(model);
  expect([...layers.keys()].length).toBe(3);
  const { weight } = (model as unknown as { 0: nn.Linear })[0];
  await weight.data();
  const small = quantize.linears(model, { donate: true, layers: () => true });
  await expect(weight.data()).rejects.toThrow();
  expect((await small.forward(random.normal(1, [2, 16])).data()).length).toBe(16);
});
