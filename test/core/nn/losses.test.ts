/** linearCrossEntropy against the plain cross-entropy of all logits, and the weights of both; torch.test.ts has them against PyTorch. */
import "../../support/runtime.js";
import { evaluate, full, grad, jit, nn, random, type Tensor, tensor, valueAndGrad, zeros } from "aronnax";
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

const bothLosses: [string, (options: nn.CrossEntropyOptions) => Tensor][] = [
  ["crossEntropy", (options) => nn.crossEntropy(hidden.matmul(weight.transpose()), targets, options)],
  [
    "linearCrossEntropy",
    (options) => nn.linearCrossEntropy(hidden, weight, targets, { ...options, chunk: 4 }),
  ],
];

it.each(bothLosses)("%s divides by the sum of the weights, however small", async (_, loss) => {
  const expected = await loss({}).item();
  for (const each of [1, 0.1, 1e-4])
    expect(await loss({ weights: full([batch, time], each) }).item()).toBeCloseTo(expected, 4);
  const uneven = weights.mul(0.01);
  expect(await loss({ weights: uneven }).item()).toBeCloseTo(await loss({ weights }).item(), 4);
});

it.each(bothLosses)("%s of nothing that counts is 0, and so is its gradient", async (_, loss) => {
  const none = zeros([batch, time]);
  expect(await loss({ weights: none }).item()).toBe(0);
  const slope = grad((shares: Tensor) => loss({ weights: shares }))(none);
  expect(await slope.isfinite().all().item()).toBe(1);
});

it("a target of ignoreIndex counts in neither value nor gradient", async () => {
  const some = targets.at(0, [2, 7]).set(-100);
  const shares = full([batch, time], 1).at(0, [2, 7]).set(0);
  const logits = hidden.matmul(weight.transpose());
  const plainLoss = (options: nn.CrossEntropyOptions, of: Tensor) =>
    valueAndGrad((x: Tensor) => nn.crossEntropy(x, of, options))(logits);
  const linearLoss = (options: nn.CrossEntropyOptions, of: Tensor) =>
    valueAndGrad((x: Tensor) => nn.linearCrossEntropy(x, weight, of, { ...options, chunk: 4 }))(hidden);
  for (const both of [plainLoss, linearLoss]) {
    const [[value, slope], [expected, exact]] = [both({}, some), both({ weights: shares }, targets)];
    expect(await value.item()).toBeCloseTo(await expected.item(), 5);
    expect(await difference(slope, exact)).toBeLessThan(1e-6);
    expect(await slope.slice(0, [2, 7]).abs().max().item()).toBe(0);
  }
  // A type that has no -100 ignores nothing.
  const bytes = targets.astype("uint8");
  expect(await nn.crossEntropy(logits, bytes).item()).toBeCloseTo(
    await nn.crossEntropy(logits, targets).item(),
    6,
  );
  expect(() => nn.crossEntropy(logits, targets, { labelSmoothing: 1 })).toThrow(/labelSmoothing is 1/);
});

it("binary cross-entropy is exact for large logits, and weighs its elements", async () => {
  const logits = tensor([-200, -1, 0, 3, 200]);
  const classes = tensor([0, 1, 0, 1, 1], { dtype: "float32" });
  const each = [0, Math.log1p(Math.exp(1)), Math.LN2, Math.log1p(Math.exp(-3)), 0];
  expect(await nn.binaryCrossEntropyWithLogits(logits, classes).item()).toBeCloseTo(
    each.reduce((a, b) => a + b) / 5,
    5,
  );
  const shares = [0.5, 0.1, 0, 0.2, 0];
  const wanted = each.reduce((n, l, i) => n + l * shares[i]!, 0) / 0.8;
  const given = { weights: tensor(shares) };
  expect(await nn.binaryCrossEntropyWithLogits(logits, classes, given).item()).toBeCloseTo(wanted, 5);
  expect(await nn.binaryCrossEntropyWithLogits(logits, classes, { weights: zeros([5]) }).item()).toBe(0);
  expect(() => nn.binaryCrossEntropyWithLogits(logits, zeros([4]))).toThrow(/targets \[4\]/);
});
