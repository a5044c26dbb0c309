/** Configurations, logical axes, costs and ways of running of the decoders. */
import "../../support/runtime.js";
import { jit, llm, nn, random, type Tensor, tree, valueAndGrad } from "aronnax";
import { describe, expect, it } from "vitest";

const size = { vocabSize: 32, hiddenSize: 16, intermediateSize: 24, layers: 2, heads: 4, keyValueHeads: 2 };
const experts = { count: 4, perToken: 2, intermediateSize: 8 };
const families: Record<string, () => llm.Decoder> = {
  llama: () => llm.llama(size),
  mistral: () => llm.mistral({ ...size, window: 3 }),
  mixtral: () => llm.mixtral({ ...size, experts }),
  qwen2: () => llm.qwen2(size),
  qwen3: () => llm.qwen3({ ...size, headDim: 8 }),
  qwen3Moe: () => llm.qwen3Moe({ ...size, headDim: 8, experts }),
  gemma2: () => llm.gemma2({ ...size, headDim: 8, window: 3 }),
  gemma3: () => llm.gemma3({ ...size, headDim: 8, window: 3 }),
  phi3: () => llm.phi3({ ...size, rotaryShare: 0.5 }),
  gpt2: () => llm.gpt2({ vocabSize: 32, hiddenSize: 16, layers: 2, heads: 4, maxPositions: 16 }),
};

describe.each(Object.entries(families))("%s", (_, make) => {
  it("names the logical axes of every weight", () => {
    const known = ["embed", "mlp", "heads", "kv", "vocab", "expert", null];
    for (const [path, { shape, axes }] of nn.parameterSpecs(make())) {
      expect(axes.length, path).toBe(shape.length);
      for (const axis of axes) expect(known, path).toContain(axis);
      // All but the norms of heads and the table of positions have something to divide.
      if (!/(qNorm|kNorm)/.test(path))
        expect(
          axes.some((axis) => axis !== null),
          path,
        ).toBe(true);
    }
  });

  it("writes with a cache what it computes without one", async () => {
    const model = nn.initialize(make(), 1);
    const tokens = random.integers(2, [2, 7], 0, 32);
    const step = jit((m: llm.Decoder, cache: nn.KeyValueCache, chunk: Tensor) => {
      const logits = m.forward(chunk, { cache });
      cache.advance(chunk.shape[1]!);
      return { logits, cache };
    });
    const first = step(model, model.newCache(2, 8), tokens.slice(null, [0, 4]));
    const parts = [first.logits];
    for (let i = 4, cache = first.cache; i < 7; i++) {
      const next = step(model, cache, tokens.slice(null, [i, i + 1]));
      parts.push(next.logits);
      cache = next.cache;
    }
    const whole = (await model.forward(tokens).array()) as number[][][];
    const rows = (await Promise.all(parts.map((part) => part.array()))) as number[][][][];
    for (const [b, row] of whole.entries()) {
      const joined = rows.flatMap((part) => part[b]!);
      for (const [t, logits] of row.entries())
        for (const [k, y] of logits.entries()) expect(joined[t]![k]).toBeCloseTo(y, 4);
    }
  });
});

describe("flopsPerToken", () => {
  it("is six for each weight that a token meets, and the attention's", () => {
    // Attention: q and o 16 x 16, k and v 16 x 8; feed-forward 3 x 16 x 24; norms; the output layer 16 x 32.
    const layer = 2 * 256 + 2 * 128 + 3 * 384 + 32;
    const weights = 2 * layer + 16 + 512;
    // Scores and mixed values, 4 heads of width 4, to half of 10 keys, three passes of two.
    expect(llm.llama(size).flopsPerToken(10)).toBe(6 * weights + 2 * 12 * 16 * 5);
    expect(llm.llama({ ...size, tieEmbeddings: true }).flopsPerToken(10)).toBe(6 * weights + 2 * 12 * 16 * 5);
  });

  it("counts the keys within a window, and the experts that are chosen", () => {
    // A window of 4 over 10 tokens: 1, 2, 3, then 4 each, less half of the diagonal.
    const windowed = llm.mistral({ ...size, window: 4 }).flopsPerToken(10);
    expect(llm.llama(size).flopsPerToken(10) - windowed).toBeCloseTo(2 * 12 * 16 * (5 - 3.2), 6);
    const one = llm.mixtral({ ...size, experts: { ...experts, count: 2 } }).flopsPerToken(10);
    const two = llm.mixtral({ ...size, experts }).flopsPerToken(10);
    // Two more experts to choose from cost the router's rows.
    expect(two - one).toBe(6 * 2 * 2 * 16);
  });

  it("counts a published model's parameters", () => {
    const count = (model: llm.Decoder): number => Math.round(model.parameterCount / 1e6);
    expect(count(llm.llama(llm.configs.llama3_8b))).toBe(8030);
    expect(count(llm.llama(llm.configs.llama3_2_1b))).toBe(1236);
    expect(count(llm.mistral(llm.configs.mistral_7b))).toBe(7242);
    expect(count(llm.mixtral(llm.configs.mixtral_8x7b))).toBe(46_703);
    expect(count(llm.qwen2(llm.configs.qwen2_5_0_5b))).toBe(494);
    expect(count(llm.qwen3(llm.configs.qwen3_8b))).toBe(8191);
    expect(count(llm.qwen3Moe(llm.configs.qwen3_30b_a3b))).toBe(30_532);
    expect(count(llm.gemma2(llm.configs.gemma2_2b))).toBe(2614);
    expect(count(llm.gemma3(llm.configs.gemma3_1b))).toBe(1000);
    expect(count(llm.phi3(llm.configs.phi3_mini))).toBe(3821);
    expect(count(llm.gpt2(llm.configs.gpt2))).toBe(124);
  });
});

describe("layers in a loop", () => {
  const deep = { ...size, layers: 5, window: 3, headDim: 8 };
  // Layers of two kinds in turn, and one left over.
  const layerTypes = ["sliding", "full", "sliding", "full", "sliding"] as const;
  const tokens = random.integers(2, [2, 7], 0, 32);
  const step = (options: nn.LayerOptions) => {
    const model = nn.initialize(llm.gemma2({ ...deep, layerTypes }, options), 1);
    const run = jit((m: llm.Decoder, x: Tensor) =>
      valueAndGrad((n: llm.Decoder) => n.loss({ inputs: x, targets: x }))(m),
    );
    return { run, model, text: () => run.lower(model, tokens) };
  };

  // pretrained.test.ts has "dots" for each family.
  it("compute what unrolled ones do", async () => {
    const plain = step({});
    const [loss, gradients] = plain.run(plain.model, tokens);
    for (const remat of ["full", { names: ["attention"] }] as const) {
      const looped = step({ layers: "scan", remat });
      const [value, found] = looped.run(looped.model, tokens);
      expect(await value.item()).toBeCloseTo(await loss.item(), 5);
      const named = tree.named(found);
      for (const path of [
        "model.layers.0.selfAttn.qProj.weight",
        "model.layers.4.mlp.upProj.weight",
        "model.embedTokens.weight",
      ]) {
        const difference = named.get(path)!.sub(tree.named(gradients).get(path)!);
        expect(await difference.abs().max().item(), path).toBeLessThan(1e-5);
      }
    }
  });

  it("are few operations, however many there are", () => {
    const count = (layers: number, how: "unrolled" | "scan"): number =>
      jit((m: llm.Decoder) =>
        valueAndGrad((n: llm.Decoder) => n.loss({ inputs: tokens, targets: tokens }))(m),
      ).lower(llm.llama({ ...size, layers }, { layers: how })).operations;
    expect(count(24, "scan")).toBeLessThan(0.4 * count(24, "unrolled"));
  });

  it("keep less for the derivative when they compute again", () => {
    const stored = (remat: nn.Recompute): number => {
      const { text } = step({ layers: "scan", remat });
      // What the loop's steps record is stacked, two periods of it.
      return text().text.match(/dynamic_update_slice/g)!.length;
    };
    expect(stored("full")).toBeLessThan(stored("dots"));
    expect(stored("dots")).toBeLessThan(stored("none"));
  });
});

describe("a configuration that cannot be", () => {
  it.each<[string, () => unknown, RegExp]>([
    [
      "an unknown field",
      () => llm.llama({ ...size, dropout: 0.1 } as llm.LlamaConfig),
      /llama: there is no field dropout/,
    ],
    [
      "no configuration",
      () => llm.llama(undefined as unknown as llm.LlamaConfig),
      /configuration is undefined/,
    ],
    [
      "missing sizes",
      () => llm.llama({ hiddenSize: 16, heads: 2 } as llm.LlamaConfig),
      /vocabSize, intermediateSize, layers not given/,
    ],
    ["a fraction of a layer", () => llm.llama({ ...size, layers: 2.5 }), /layers is 2.5/],
    ["more layers than memory", () => llm.llama({ ...size, layers: 1e9 }), /layers is 1000000000/],
    ["a mixture without experts", () => llm.mixtral(size as llm.MixtralConfig), /experts not given/],
    [
      "an unknown field of the experts",
      () => llm.mixtral({ ...size, experts: { ...experts, capacty: 2 } as llm.ExpertConfig }),
      /mixtral: experts has no field capacty/,
    ],
    [
      "an unknown field of a scaling",
      () => llm.llama({ ...size, ropeScaling: { type: "linear", factr: 2 } as never }),
      /llama: ropeScaling has no field factr/,
    ],
    [
      "a bound that is none",
      () =>
        llm.llama({
          ...size,
          ropeScaling: { type: "yarn", factor: 2, originalContext: 8, betaFast: "x" as never },
        }),
      /ropeScaling.betaFast is "x"/,
    ],
    [
      "an unknown option",
      () => llm.llama(size, { layer: "scan" } as object),
      /llama: there is no option layer/,
    ],
    ["no heads", () => llm.llama({ ...size, heads: 0 }), /llama: heads is 0/],
    ["a fraction of a head", () => llm.llama({ ...size, hiddenSize: 18 }), /headDim is 4.5/],
    ["an odd head", () => llm.llama({ ...size, headDim: 5 }), /headDim is 5/],
    [
      "heads that cannot share",
      () => llm.qwen2({ ...size, keyValueHeads: 3 }),
      /qwen2: 4 heads cannot share 3/,
    ],
    [
      "no window where layers have one",
      () => llm.qwen2({ ...size, layerTypes: ["full", "sliding"] }),
      /there is no window/,
    ],
    [
      "kinds of other layers",
      () => llm.qwen2({ ...size, window: 4, layerTypes: ["full"] }),
      /layerTypes is \["full"\] for 2 layers/,
    ],
    ["a negative base", () => llm.llama({ ...size, ropeTheta: -1 }), /ropeTheta is -1/],
    ["a cap of nothing", () => llm.gemma2({ ...size, logitSoftCap: 0 }), /logitSoftCap is 0/],
    [
      "factors for other features",
      () =>
        llm.phi3({
          ...size,
          ropeScaling: {
            type: "longrope",
            factor: 2,
            originalContext: 8,
            shortFactor: [1],
            longFactor: [1, 2],
          },
        }),
      /ropeScaling.shortFactor is \[1\]/,
    ],
    [
      "more experts than there are",
      () => llm.mixtral({ ...size, experts: { count: 2, perToken: 3 } }),
      /perToken is 3 of 2/,
    ],
    [
      "a layer that there is not",
      () => llm.mixtral({ ...size, experts: { ...experts, denseLayers: [2] } }),
      /denseLayers is \[2\]/,
    ],
    ["an unknown way of running", () => llm.llama(size, { layers: "loop" as "scan" }), /layers is "loop"/],
    ["an unknown policy", () => llm.llama(size, { remat: "some" as "full" }), /remat is "some"/],
    [
      "tokens of one axis",
      () => llm.llama(size).forward(random.integers(1, [5], 0, 4)),
      /tokens of shape \[5\]/,
    ],
    [
      "a batch that is its tokens alone",
      () => llm.llama(size).loss(random.integers(1, [1, 5], 0, 4) as never),
      /loss of a batch without targets/,
    ],
  ])("names %s", (_, make, message) => {
    expect(make).toThrow(message);
  });

  it("is of no family where it is one's own, and is not saved", async () => {
    const model = new llm.Decoder({
      ...size,
      qkNorm: true,
      norm: "layer",
      activation: "relu2",
      mlp: "plain",
    });
    expect(model.forward(random.integers(1, [1, 5], 0, 4)).shape).toEqual([1, 5, 32]);
    await expect(llm.save(model, "/nowhere")).rejects.toThrow(/of no family/);
  });
});
