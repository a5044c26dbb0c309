/** BatchNorm over devices, parts and loops; torch.test.ts has its values against PyTorch. */
import "../../support/eight-devices.js";
import "../../support/runtime.js";
import { distribute, grad, jit, Mesh, nn, random, type Tensor, tensor, zeros } from "aronnax";
import { expect, it } from "vitest";

const x = random.normal(0, [8, 3, 5]).mul(2).add(1);
const norm = nn.initialize(new nn.BatchNorm(3), 0);

const train = jit((m: nn.BatchNorm, y: Tensor) =>
  nn.withUpdates(m, (live) => {
    const slopes = grad((both: { m: nn.BatchNorm; y: Tensor }) =>
      both.m.forward(both.y, { training: true }).sin().sum(),
    )({ m: live, y });
    return slopes.y;
  }),
);

async function distance(a: Tensor, b: Tensor): Promise<number> {
  return a.sub(b).abs().max().item();
}

it("has the statistics of the whole batch where it is spread over four devices", async () => {
  const [slope, after] = train(norm, x);
  const mesh = new Mesh({ data: 4 });
  const [spreadSlope, spreadAfter] = train(norm, distribute(x, mesh, ["data"]));
  expect(await distance(after.runningMean, spreadAfter.runningMean)).toBeLessThan(1e-6);
  expect(await distance(after.runningVar, spreadAfter.runningVar)).toBeLessThan(1e-6);
  expect(await distance(slope, spreadSlope)).toBeLessThan(1e-5);
  expect(await after.numBatchesTracked.item()).toBe(1);
});

it("refuses to lose the running statistics, and takes them without training", async () => {
  expect(() => norm.forward(x, { training: true })).toThrow(/runningMean.*nothing would keep it/);
  const [, after] = train(train(norm, x)[1], x.mul(3));
  expect(await after.numBatchesTracked.item()).toBe(2);
  const y = after.forward(x);
  const scale = after.runningVar.add(1e-5).sqrt().reshape([3, 1]);
  const expected = x.sub(after.runningMean.reshape([3, 1])).div(scale);
  expect(await distance(y, expected)).toBeLessThan(1e-5);
});

it("does not let a batch of padding alone move anything", async () => {
  const [y, after] = nn.withUpdates(norm, (m) =>
    m.forward(x, { training: true, mask: zeros([8, 5]).notEqual(0) }),
  );
  expect(await distance(after.runningVar, norm.runningVar)).toBe(0);
  expect(await distance(after.runningMean, norm.runningMean)).toBe(0);
  expect(await y.isfinite().all().item()).toBe(1);
});

it("normalizes the last axis where the features are there", async () => {
  const last = nn.initialize(new nn.BatchNorm(3, { axis: -1 }), 0);
  const [y] = nn.withUpdates(last, (m) => m.forward(x.moveAxis(1, -1), { training: true }));
  const [expected] = nn.withUpdates(norm, (m) => m.forward(x, { training: true }));
  expect(await distance(y.moveAxis(-1, 1), expected)).toBeLessThan(1e-6);
});

it("keeps its statistics exact in a model of bfloat16", async () => {
  const half = nn.castTree(norm, "bfloat16");
  const [y, after] = nn.withUpdates(half, (m) => m.forward(x.astype("bfloat16"), { training: true }));
  expect(y.dtype).toBe("bfloat16");
  expect(after.runningVar.dtype).toBe("float32");
  expect(after.numBatchesTracked.dtype).toBe("int64");
});

it("InstanceNorm and GlobalPool leave out padding", async () => {
  const lengths = [5, 3];
  const two = x.slice([0, 2]);
  const mask = tensor(lengths.map((n) => Array.from({ length: 5 }, (_, t) => t < n)));
  const normed = new nn.InstanceNorm(3).forward(two, { mask });
  for (const [row, length] of lengths.entries()) {
    const alone = two.slice([row, row + 1], null, [0, length]);
    const expected = new nn.InstanceNorm(3).forward(alone);
    expect(await distance(normed.slice([row, row + 1], null, [0, length]), expected)).toBeLessThan(1e-5);
    for (const kind of ["mean", "max"] as const) {
      const pooled = new nn.GlobalPool(kind).forward(two, { mask });
      expect(await distance(pooled.slice([row, row + 1]), alone[kind](2))).toBeLessThan(1e-6);
    }
  }
  const none = new nn.GlobalPool("max").forward(two, { mask: zeros([2, 5]).notEqual(0) });
  expect(await none.abs().max().item()).toBe(0);
});

it("says what does not fit", () => {
  const training = (m: nn.BatchNorm, y: Tensor, mask?: Tensor) =>
    nn.withUpdates(m, (live) => live.forward(y, { training: true, mask }));
  expect(() => norm.forward(zeros([8, 4]))).toThrow(/BatchNorm of 3 features: x has shape \[8, 4\]/);
  expect(() => training(norm, zeros([1, 3]))).toThrow(/one value of each feature/);
  expect(() => training(norm, x, zeros([8, 3, 5]).equal(0))).toThrow(/mask \[8, 3, 5\] for x \[8, 3, 5\]/);
  expect(() => training(norm, x, zeros([8, 5]))).toThrow(/the mask is float32/);
  expect(() => new nn.BatchNorm(3, { momentum: 2 })).toThrow(/momentum is 2/);
  expect(() => new nn.AdaptiveAvgPool(0)).toThrow(/size is 0/);
  expect(() => new nn.AdaptiveAvgPool([2, 2]).forward(x)).toThrow(/AdaptiveAvgPool to \[2, 2\]/);
  expect(() => new nn.MaxPool(2).forward(zeros([3, 4]))).toThrow(/MaxPool: x has shape \[3, 4\]/);
  expect(() => new nn.DepthwiseConv(4, 3 as never)).toThrow(/the kernel is 3/);
  expect(() => new nn.ConvTranspose1d(4, 6, 3, { groups: 4 })).toThrow(/4 to 6 channels in 4 groups/);
});
