/** Layers against their definitions in jax. */
import "../../support/runtime.js";
import { jit, nn, random, type Tensor, tree, where, zeros } from "aronnax";
import { describe, expect, it } from "vitest";
import { hostArray } from "../../oracle/arrays.js";
import { askOne, verifyAtEnd } from "../../oracle/oracle.js";

verifyAtEnd();

const key = (seed: number) => random.key(seed);

/** Compares a layer's result on `x` with a jax expression in which x and the layer's parameters (by name) are bound. */
async function compare(
  layer: nn.Module & { forward(x: Tensor): Tensor },
  x: Tensor,
  code: string,
): Promise<void> {
  // Parameters that begin at zeros and ones would hide what is done with them.
  const drawn = tree.mapNamed((leaf, path) => random.normal(path.length + leaf.size, leaf.shape), layer);
  const inputs = await Promise.all(
    [["x", x] as const, ...tree.named(drawn)].map(async ([name, value]) => {
      const data = [...((await value.data()) as Float32Array)];
      return [
        name.replaceAll(/(^|.*\.)([a-zA-Z]+)\.weight/g, "$2"),
        hostArray(data, "float32", value.shape),
      ] as const;
    }),
  );
  const [expected] = await askOne(code, Object.fromEntries(inputs));
  const actual = await jit((l: typeof layer, y: Tensor) => l.forward(y))(drawn, x).data();
  const wanted = new Float32Array(Uint8Array.from(expected!.data).buffer);
  expect(actual.length).toBe(wanted.length);
  let [difference, size] = [0, 0];
  for (const [i, y] of wanted.entries()) {
    difference += (Number(actual[i]) - y) ** 2;
    size += y ** 2;
  }
  expect(Math.sqrt(difference / size)).toBeLessThan(2e-6);
}

describe("layers equal their definitions", () => {
  const x = random.normal(9, [2, 5, 6]);
  const image = random.normal(8, [2, 4, 7, 6]);
  const signal = random.normal(7, [2, 4, 9]);
  const lax = (rank: number, more: string): string =>
    `lax.conv_general_dilated(x, weight, ${more}, dimension_numbers=${rank === 1 ? '("NCH", "OIH", "NCH")' : '("NCHW", "OIHW", "NCHW")'}`;
  it.each<[string, nn.Module & { forward(x: Tensor): Tensor }, Tensor, string]>([
    [
      "RMSNorm",
      new nn.RMSNorm(6, { epsilon: 1e-3 }),
      x,
      "x / jnp.sqrt((x ** 2).mean(-1, keepdims=True) + 1e-3) * weight",
    ],
    [
      "RMSNorm of 1 + weight",
      new nn.RMSNorm(6, { epsilon: 1e-3, plusOne: true }),
      x,
      "x / jnp.sqrt((x ** 2).mean(-1, keepdims=True) + 1e-3) * (1 + weight)",
    ],
    [
      "LayerNorm",
      new nn.LayerNorm(6, { epsilon: 1e-3 }),
      x,
      "(x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-3) * weight + bias",
    ],
    [
      "Mlp with relu²",
      new nn.Mlp(6, 8, { activation: "relu2" }),
      x,
      "jax.nn.relu(x @ upProj.T) ** 2 @ downProj.T",
    ],
    ["Mlp with gelu", new nn.Mlp(6, 8), x, "jax.nn.gelu(x @ upProj.T, approximate=False) @ downProj.T"],
    ["GatedMlp", new nn.GatedMlp(6, 8), x, "(jax.nn.silu(x @ gateProj.T) * (x @ upProj.T)) @ downProj.T"],
    [
      "fused GatedMlp with gelu's approximation",
      new nn.GatedMlp(6, 8, { activation: "geluTanh", fused: true }),
      x,
      "(jax.nn.gelu(x @ gateUpProj[:8].T) * (x @ gateUpProj[8:].T)) @ downProj.T",
    ],
    [
      "Conv1d",
      new nn.Conv1d(4, 6, 3, { strides: 2, padding: 1, dilation: 2, groups: 2 }),
      signal,
      `${lax(1, "(2,), [(1, 1)], rhs_dilation=(2,), feature_group_count=2")}) + bias[:, None]`,
    ],
    [
      "Conv2d",
      new nn.Conv2d(4, 5, [3, 2], { strides: [2, 1], padding: "same", bias: false }),
      image,
      `${lax(2, '(2, 1), "SAME"')})`,
    ],
    [
      "GroupNorm",
      new nn.GroupNorm(2, 4),
      image,
      "(lambda g: ((g - g.mean(-1, keepdims=True)) / jnp.sqrt(g.var(-1, keepdims=True) + 1e-5)).reshape(x.shape))(x.reshape(2, 2, -1)) * weight[:, None, None] + bias[:, None, None]",
    ],
  ])("%s", (_, layer, input, code) => compare(layer, input, code));
});

it("dropout leaves out its share by the key, and keeps the mean", async () => {
  const x = random.uniform(1, [100, 100]).add(1);
  const y = nn.dropout(x, 0.3, key(2));
  expect(await y.equal(0).astype("float32").mean().item()).toBeCloseTo(0.3, 1);
  expect((await y.mean().item()) / (await x.mean().item())).toBeCloseTo(1, 1);
  expect(
    await y
      .sub(nn.dropout(x, 0.3, 2))
      .abs()
      .max()
      .item(),
  ).toBe(0);
  expect(
    await y
      .sub(nn.dropout(x, 0.3, 3))
      .abs()
      .max()
      .item(),
  ).toBeGreaterThan(0);
  const scaled = where(y.greater(0), x.div(0.7), 0);
  expect(await y.sub(scaled).abs().max().item()).toBe(0);
  expect(nn.dropout(x, 0, 1)).toBe(x);
  expect(() => nn.dropout(x, 1, 1)).toThrow(/the rate is 1/);
});

describe("initializers have the moments of torch.nn.init", () => {
  // A kernel of [outputs, inputs, 3, 3]: fan in 24 x 9, fan out 32 x 9.
  const shape = [32, 24, 3, 3];
  it.each<[string, nn.Initializer, number, number]>([
    ["normal", nn.normalInit(0.5), 0.5, Number.POSITIVE_INFINITY],
    ["truncated normal", nn.truncatedNormalInit(0.5), 0.5 * 0.8796, 1],
    ["fan-in uniform", nn.fanInUniform, Math.sqrt(1 / 3 / 216), Math.sqrt(1 / 216)],
    ["Xavier uniform", nn.xavierUniform(2), 2 * Math.sqrt(2 / 504), 2 * Math.sqrt(6 / 504)],
    ["Xavier normal", nn.xavierNormal(2), 2 * Math.sqrt(2 / 504), Number.POSITIVE_INFINITY],
    ["Kaiming uniform", nn.kaimingUniform(Math.SQRT2), Math.sqrt(2 / 216), Math.sqrt(6 / 216)],
    ["Kaiming normal", nn.kaimingNormal(Math.SQRT2), Math.sqrt(2 / 216), Number.POSITIVE_INFINITY],
  ])("%s", async (_, init, std, bound) => {
    const drawn = init(key(1), shape, "float32");
    expect((await drawn.std().item()) / std).toBeCloseTo(1, 1);
    expect(Math.abs(await drawn.mean().item())).toBeLessThan(0.05 * std);
    expect(await drawn.abs().max().item()).toBeLessThanOrEqual(bound * 1.000001);
  });

  it("orthogonal", async () => {
    for (const [outputs, rest] of [
      [6, 10],
      [10, 6],
    ] as const) {
      const w = nn.orthogonal(2)(key(1), [outputs, rest], "float32");
      const product = outputs < rest ? w.matmul(w.transpose()) : w.transpose().matmul(w);
      const rows = (await product.array()) as number[][];
      for (const [i, row] of rows.entries())
        for (const [j, y] of row.entries()) expect(y).toBeCloseTo(i === j ? 4 : 0, 4);
    }
  });
});

const families = [
  ["normalInit", nn.normalInit, 0.02],
  ["truncatedNormalInit", nn.truncatedNormalInit, 0.02],
  ["uniformInit", nn.uniformInit, 0.05],
  ["constantInit", nn.constantInit, 0],
  ["xavierUniform", nn.xavierUniform, 1],
  ["xavierNormal", nn.xavierNormal, 1],
  ["kaimingUniform", nn.kaimingUniform, Math.SQRT2],
  ["kaimingNormal", nn.kaimingNormal, Math.SQRT2],
  ["orthogonal", nn.orthogonal, 1],
] as const;

describe("an initializer without a number has the default", () => {
  it.each(families)("%s", async (_, family, standard) => {
    const draw = (init: nn.Initializer) => init(key(1), [6, 8], "float32").array();
    const expected = await draw(family(standard));
    expect((expected as number[][]).flat().every(Number.isFinite)).toBe(true);
    expect(await draw(family())).toEqual(expected);
    // The family itself, where an initializer is asked for.
    expect(await draw(family)).toEqual(expected);
    const layer = nn.initialize(new nn.Linear(8, 6, { init: family }), 3);
    expect(await layer.weight.isfinite().all().item()).toBe(1);
  });

  it.each(families)("%s refuses what is no number, by name", (name, family) => {
    const wrong = [Number.NaN, "2", null, {}, key(1), ...(name === "constantInit" ? [] : [-1, Infinity])];
    for (const value of wrong)
      expect(() => family(value as number), String(value)).toThrow(new RegExp(`^${name}: the [a-z ]+ is `));
  });

  it("says that a shape has no fans", () => {
    const [, ...fanned] = [
      nn.normalInit,
      nn.xavierUniform,
      nn.xavierNormal,
      nn.kaimingUniform,
      nn.kaimingNormal,
    ];
    for (const family of [...fanned, nn.orthogonal]) {
      for (const shape of [[4], [], [3, 0]])
        expect(() => family()(key(1), shape, "float32")).toThrow(
          /of shape \[.*\], which has no number of inputs/,
        );
    }
    expect(() => nn.fanInUniform(key(1), [4], "float32")).toThrow(/fanInUniform of shape \[4\]/);
  });
});

describe("what a layer cannot do is named", () => {
  it.each<[string, () => unknown, RegExp]>([
    // A last axis of 1 would be broadcast to the number of features.
    ["RMSNorm of one feature", () => new nn.RMSNorm(4).forward(zeros([3, 1])), /RMSNorm of 4 .* \[3, 1\]/],
    [
      "LayerNorm of one feature",
      () => new nn.LayerNorm(4).forward(zeros([3, 1])),
      /LayerNorm of 4 .* \[3, 1\]/,
    ],
    [
      "GroupNorm of one channel",
      () => new nn.GroupNorm(2, 4).forward(zeros([2, 1, 8])),
      /GroupNorm of 4 .* \[2, 1, 8\]/,
    ],
    ["a layer without outputs", () => new nn.Linear(4, undefined as never), /Linear: .* \[undefined, 4\]/],
    ["a fraction of a feature", () => new nn.Linear(2.5, 4), /Linear: .* \[4, 2.5\]/],
    ["a convolution without a kernel", () => new nn.Conv2d(3, 4, undefined as never), /Conv2d: .*undefined/],
    [
      "an unknown activation",
      () => new nn.Mlp(2, 4, { activation: "swish" as never }),
      /activation is "swish"/,
    ],
    [
      "a full cache",
      () => {
        const [k, v] = [zeros([1, 6, 2, 4]), zeros([1, 6, 2, 4])];
        new nn.KeyValueCache({ layers: 1, batch: 1, length: 4, heads: 2, headDim: 4 }).append(0, k, v);
      },
      /6 tokens, and room for 4/,
    ],
  ])("%s", (_, run, message) => {
    expect(run).toThrow(message);
  });
});
