/** Layers made of layers: sequential, and weights that are computed from other parameters. */
import "../../support/runtime.js";
import { grad, jit, linalg, nn, random, relu, type Tensor, tree } from "aronnax";
import { describe, expect, it } from "vitest";

const x = random.normal(0, [4, 3, 8, 8]);

describe("sequential", () => {
  const net = nn.initialize(
    nn.sequential(
      new nn.Conv2d(3, 6, 3),
      new nn.BatchNorm(6),
      relu,
      new nn.GlobalPool(),
      new nn.Linear(6, 2),
    ),
    1,
  );

  it("runs its stages in order, and names them as PyTorch does", async () => {
    const [conv, norm, , pool, head] = [net[0], net[1], net[2], net[3], net[4]] as never as [
      nn.Conv2d,
      nn.BatchNorm,
      unknown,
      nn.GlobalPool,
      nn.Linear,
    ];
    const expected = head.forward(pool.forward(norm.forward(conv.forward(x)).relu()));
    const y = jit((m: typeof net, given: Tensor) => m.forward(given))(net, x);
    expect(await y.sub(expected).abs().max().item()).toBeLessThan(1e-6);
    expect([...tree.named(net).keys()].map(nn.checkpointName)).toEqual([
      ...["0.weight", "0.bias", "1.weight", "1.bias"],
      ...["1.running_mean", "1.running_var", "1.num_batches_tracked", "4.weight"],
    ]);
    expect(net.length).toBe(5);
  });

  it("hands options to its Modules: BatchNorm learns its statistics", async () => {
    const [slopes, after] = nn.withUpdates(net, (m) =>
      grad((inner: typeof net) => inner.forward(x, { training: true }).square().sum())(m),
    );
    expect(slopes).toBeInstanceOf(nn.Sequential);
    expect(await (after[1] as unknown as nn.BatchNorm).numBatchesTracked.item()).toBe(1);
    expect(await (slopes[4] as unknown as nn.Linear).weight.abs().max().item()).toBeGreaterThan(0);
  });

  it("knows what its stages take and return", () => {
    const parts = nn.sequential(
      (text: string) => text.length,
      (count: number) => random.normal(0, [1, count]),
      new nn.Linear(3, 2),
    );
    const y: Tensor = parts.forward("abc");
    expect(y.shape).toEqual([1, 2]);
    // @ts-expect-error a stage that takes a Tensor after one that returns a number
    nn.sequential((z: Tensor) => z.ndim, new nn.Linear(3, 2));
    expect(() => nn.sequential(new nn.Linear(3, 2), 3 as never)).toThrow(/stage 1 is number/);
    expect(() => nn.sequential(null as never)).toThrow(/stage 0 is null/);
  });
});

describe("weights that are computed", () => {
  const base = nn.initialize(new nn.Conv1d(3, 5, 3), 1);
  const signal = random.normal(2, [2, 3, 7]);

  it("weightNorm computes what the layer did, and is a layer of its class", async () => {
    const normed = nn.weightNorm(base);
    expect(normed).toBeInstanceOf(nn.Conv1d);
    expect(normed.constructor.name).toBe("ParametrizedConv1d");
    const difference = normed.forward(signal).sub(base.forward(signal)).abs().max();
    expect(await difference.item()).toBeLessThan(1e-6);
    expect([...tree.named(normed).keys()].sort()).toEqual([
      "bias",
      "parametrizations.weight.original0",
      "parametrizations.weight.original1",
    ]);
    expect(nn.weightNorm(new nn.Conv1d(3, 5, 3)).constructor).toBe(normed.constructor);
    // The layer that was given keeps its weight.
    expect([...tree.named(base).keys()]).toEqual(["weight", "bias"]);
  });

  it("begins with norms of the layer's own distribution", async () => {
    const wide = nn.initialize(nn.weightNorm(new nn.Linear(400, 300, { init: nn.normalInit(0.1) })), 3);
    expect((await wide.weight.std().item()) / 0.1).toBeCloseTo(1, 1);
    const again = nn.initialize(nn.weightNorm(new nn.Linear(400, 300, { init: nn.normalInit(0.1) })), 3);
    expect(await again.weight.sub(wide.weight).abs().max().item()).toBe(0);
  });

  it("spectralNorm divides by the largest singular value, before and while it is trained", async () => {
    let layer = nn.initialize(nn.spectralNorm(new nn.Linear(6, 9, { init: nn.normalInit(1) })), 4);
    const largest = async (m: nn.Linear) => (await linalg.svdvals(m.weight).max().item()) as number;
    // Fifteen steps from a fixed start.
    expect(await largest(layer)).toBeGreaterThan(0.98);
    expect(await largest(layer)).toBeLessThan(1.02);
    const step = jit((m: typeof layer, y: Tensor) =>
      nn.withUpdates(m, (live) => live.forward(y, { training: true })),
    );
    const input = random.normal(5, [2, 6]);
    for (let i = 0; i < 30; i++) [, layer] = step(layer, input);
    expect(await largest(layer)).toBeCloseTo(1, 4);
    expect(() => layer.forward(input, { training: true })).toThrow(/"_u".*nothing would keep it/);
    // u and v are no parameters.
    expect(layer.parameterCount).toBe(54);
  });

  it("several parameters of a layer, also of a recurrent one", async () => {
    const lstm = nn.initialize(new nn.LSTM(3, 4), 6);
    const normed = nn.weightNorm(nn.weightNorm(lstm, { name: "weightHhL0" }), { name: "weightIhL0" });
    const sequence = random.normal(7, [2, 5, 3]);
    const difference = normed.forward(sequence).output.sub(lstm.forward(sequence).output).abs().max();
    expect(await difference.item()).toBeLessThan(1e-6);
    const slopes = grad((m: nn.LSTM) => m.forward(sequence).output.sum())(normed);
    const through = tree.named(slopes).get("parametrizations.weightHhL0.original0")!;
    expect(await through.abs().max().item()).toBeGreaterThan(0);
  });

  it("says what does not fit", () => {
    expect(() => nn.weightNorm(base, { name: "weights" })).toThrow(/no parameter "weights"/);
    expect(() => nn.weightNorm(nn.weightNorm(base))).toThrow(/no parameter "weight"/);
    expect(() => nn.spectralNorm(base, { name: "bias" })).toThrow(/of a parameter of shape \[5\]/);
    expect(() => nn.spectralNorm(base, { iterations: 0 })).toThrow(/iterations is 0/);
  });
});
