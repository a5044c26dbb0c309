/** linearCrossEntropy against the plain cross-entropy of all logits. */
import "../../support/runtime.js";
import { evaluate, grad, jit, nn, random, type Tensor, valueAndGrad } from "aronnax";
import { expect, it } from "vitest";

const [batch, time, features, classes] = [3, 10, 8, 21];
const hidden = random.normal(1, [batch, time, features]);
const weight = random.normal(2, [classes, features]);
const targets = random.integers(3, [batch, time], 0, classes);
const weights = random.uniform(4, [batch, time]).greater(0.3).astype("float32");

const plain = (softCap?: number) => (h: Tensor, w: Tensor, shares?: Tensor) => {
  const logits = h.astype("float32").matmul(w.astype("float32").transpose());
  const capped = softCap === undefined ? logits : logits.div(softCap).tanh().mul(softCap);
  return nn.crossEntropy(capped, targets, shares);
};

async function difference(actual: Tensor, expected: Tensor): Promise<number> {
  const [a, b] = [await actual.data(), await expected.data()];
  let [d, size] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    d += (Number(a[i]) - Number(b[i])) ** 2;
    size += Number(b[i]) ** 2;
  }
  return Math.sqrt(d / size);
}

it.each<[string, nn.LinearCrossEntropyOptions]>([
  ["one chunk", {}],
  ["chunks that fill the time", { chunk: 5 }],
  ["a last chunk that is not full", { chunk: 4 }],
  ["one position at a time, weights", { chunk: 1, weights }],
  ["weights and a soft cap", { chunk: 3, weights, softCap: 1.5 }],
  ["few bytes", { logitBytes: 4 * classes * batch * 4 }],
])("equals the cross-entropy of all logits, with its gradients: %s", async (_, options) => {
  const both = jit((h: Tensor, w: Tensor) => [
    valueAndGrad(({ h: x, w: y }: { h: Tensor; w: Tensor }) =>
      // Three times the loss: the cotangent is not one.
      nn.linearCrossEntropy(x, y, targets, options).mul(3),
    )({ h, w }),
    valueAndGrad(({ h: x, w: y }: { h: Tensor; w: Tensor }) =>
      plain(options.softCap)(x, y, options.weights).mul(3),
    )({ h, w }),
  ]);
  const [ours, expected] = both(hidden, weight) as [
    [Tensor, { h: Tensor; w: Tensor }],
    [Tensor, { h: Tensor; w: Tensor }],
  ];
  expect(await difference(ours[0], expected[0])).toBeLessThan(1e-6);
  expect(await difference(ours[1].h, expected[1].h)).toBeLessThan(1e-6);
  expect(await difference(ours[1].w, expected[1].w)).toBeLessThan(1e-6);
});

it("gives the gradient of the weights of positions too", async () => {
  const gradient = (loss: (shares: Tensor) => Tensor) => valueAndGrad(loss)(weights.add(0.5))[1];
  const [ours, expected] = await evaluate([
    gradient((shares) => nn.linearCrossEntropy(hidden, weight, targets, { weights: shares, chunk: 4 })),
    gradient((shares) => plain()(hidden, weight, shares)),
  ]);
  expect(await difference(ours!, expected!)).toBeLessThan(1e-5);
});

it("takes bfloat16 and gives its gradients in it", async () => {
  const [h, w] = [hidden.astype("bfloat16"), weight.astype("bfloat16")];
  const loss = (x: { h: Tensor; w: Tensor }) => nn.linearCrossEntropy(x.h, x.w, targets, { chunk: 4 });
  const wide = (x: { h: Tensor; w: Tensor }) => plain()(x.h, x.w);
  const [value, gradients] = await evaluate(valueAndGrad(loss)({ h, w }));
  const [expected, exact] = await evaluate(
    valueAndGrad(wide)({ h: h.astype("float32"), w: w.astype("float32") }),
  );
  expect(gradients.h.dtype).toBe("bfloat16");
  expect(gradients.w.dtype).toBe("bfloat16");
  // The products of bfloat16 numbers are summed in float32, so the loss is as exact as from float32 logits.
  expect(await difference(value, expected)).toBeLessThan(1e-6);
  expect(await difference(gradients.h.astype("float32"), exact.h)).toBeLessThan(0.01);
  expect(await difference(gradients.w.astype("float32"), exact.w)).toBeLessThan(0.01);
});

it("computes no gradients where none are asked for", async () => {
  // Products of 256 features: nothing else counts beside them.
  const [x, w] = [random.normal(1, [batch, time, 256]), random.normal(2, [classes, 256])];
  const loss = (h: Tensor, table: Tensor) => nn.linearCrossEntropy(h, table, targets, { chunk: 5 });
  const flops = async (f: (h: Tensor, table: Tensor) => Tensor): Promise<number> =>
    (await jit(f).lower(x, w).compile()).cost.flops ?? Number.NaN;
  const product = 2 * batch * 5 * classes * 256;
  expect((await flops(loss)) / product).toBeLessThan(1.2);
  // Logits, the gradient of the states and that of the weight.
  expect((await flops((h, table) => grad(loss)(h, table))) / product).toBeLessThan(3.2);
});

it("says what does not fit", () => {
  expect(() => nn.linearCrossEntropy(hidden, weight.transpose(), targets)).toThrow(/weight \[8, 21\]/);
  expect(() => nn.linearCrossEntropy(hidden, weight, targets, { chunk: 0 })).toThrow(/chunk is 0/);
  const shares = targets.astype("float32");
  expect(() => nn.linearCrossEntropy(hidden, weight, shares)).toThrow(/targets are float32/);
  expect(() => nn.crossEntropy(hidden, shares)).toThrow(/targets are float32/);
});
