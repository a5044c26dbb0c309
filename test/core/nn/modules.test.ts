import "../../support/runtime.js";
import { evaluate, grad, llm, nn, random, type Tensor, tree, vjp } from "aronnax";
import { describe, expect, it } from "vitest";

const small = { vocabSize: 64, hiddenSize: 16, intermediateSize: 32, layers: 2, heads: 4, keyValueHeads: 2 };

async function relativeError(actual: Tensor, expected: Tensor): Promise<number> {
  const difference = actual.sub(expected).square().sum().sqrt();
  return difference.div(expected.square().sum().sqrt()).item();
}

describe("Module", () => {
  it("is a tree: gradients are a module of the same class", async () => {
    const layer = new nn.Linear(3, 2, { bias: true });
    const x = random.normal(0, [5, 3]);
    const g = grad((l: nn.Linear, input: Tensor) => l.forward(input).sum())(layer, x);
    expect(g).toBeInstanceOf(nn.Linear);
    expect(await g.bias!.array()).toEqual([5, 5]);
    expect(await g.weight.array()).toEqual(await x.sum(0).reshape([1, 3]).broadcastTo([2, 3]).array());
  });

  it("names parameters as Hugging Face's checkpoints do", () => {
    const names = [...tree.named(llm.llama(small)).keys()].map(nn.checkpointName);
    expect(names).toContain("model.layers.1.self_attn.k_proj.weight");
    expect(names).toContain("model.layers.0.post_attention_layernorm.weight");
    expect(names).toContain("lm_head.weight");
    expect(nn.parameterSpecs(llm.llama(small)).get("model.layers.0.mlp.downProj.weight")).toMatchObject({
      shape: [16, 32],
      axes: ["embed", "mlp"],
    });
  });

  it("draws each parameter by its path and the seed alone", async () => {
    const [a, b, c] = [
      nn.initialize(llm.llama(small), 3),
      nn.initialize(llm.llama({ ...small, layers: 3 }), 3),
      nn.initialize(llm.llama(small), 4),
    ];
    const first = await a.model.layers[1]!.mlp.upProj.weight.array();
    expect(await b.model.layers[1]!.mlp.upProj.weight.array()).toEqual(first);
    expect(await c.model.layers[1]!.mlp.upProj.weight.array()).not.toEqual(first);
    expect(await a.model.layers[0]!.mlp.upProj.weight.array()).not.toEqual(first);
    expect(await a.model.norm.weight.mean().item()).toBe(1);
    expect(Math.abs((await a.model.embedTokens.weight.std().item()) - 0.02)).toBeLessThan(0.002);
  });

  it("says which shape does not fit", () => {
    const layer = new nn.Linear(3, 2);
    expect(() => layer.forward(random.normal(0, [5, 4]))).toThrow(/Linear of 3 inputs: x has shape \[5, 4\]/);
    expect(() => llm.llama({ ...small, keyValueHeads: 3 })).toThrow(/4 heads cannot share 3 keyValueHeads/);
    expect(() => llm.llama({ ...small, hiddenSize: 18 })).toThrow(/headDim is 4.5/);
  });
});

describe("attention", () => {
  for (const causal of [true, false]) {
    it(`computes the same fused and plain, forward and backward (causal: ${causal})`, async () => {
      const draw = (seed: number, heads: number) => random.normal(seed, [2, 12, heads, 8]);
      const [q, k, v, g] = [draw(1, 4), draw(2, 2), draw(3, 2), draw(4, 4)];
      // bfloat16 takes the fused path, whose derivative is written by hand; float32 the plain one, differentiated.
      const run = (dtype: "bfloat16" | "float32"): Promise<Tensor[]> => {
        const attend = (...x: [Tensor, Tensor, Tensor]) =>
          nn
            .attention(x[0].astype(dtype), x[1].astype(dtype), x[2].astype(dtype), { causal })
            .astype("float32");
        const [out, pull] = vjp(attend, q, k, v);
        return evaluate([out, ...pull(g)]);
      };
      const [narrow, wide] = [await run("bfloat16"), await run("float32")];
      for (const [i, value] of narrow.entries()) {
        expect(value.shape).toEqual(wide[i]!.shape);
        expect(await relativeError(value, wide[i]!)).toBeLessThan(0.01);
      }
    });
  }

  it("shows no query a later key", async () => {
    const [q, k, v] = [1, 2, 3].map((seed) => random.normal(seed, [1, 6, 2, 4])) as [Tensor, Tensor, Tensor];
    const through = grad((values: Tensor) => nn.attention(q, k, values).slice(null, 2).sum())(v);
    const weights = (await through.abs().sum([0, 2, 3]).array()) as number[];
    for (const [time, weight] of weights.entries()) expect(weight > 0, `key ${time}`).toBe(time <= 2);
  });

  it("computes what the definition says, with grouped heads", async () => {
    const [q, k, v] = [
      random.normal(1, [1, 5, 4, 3]),
      random.normal(2, [1, 5, 2, 3]),
      random.normal(3, [1, 5, 2, 3]),
    ];
    const result = (await nn.attention(q, k, v, { causal: false, scale: 0.5 }).array()) as number[][][][];
    const [a, b, c] = (await Promise.all([q, k, v].map((x) => x.array()))) as number[][][][][];
    for (let head = 0; head < 4; head++) {
      for (let time = 0; time < 5; time++) {
        const shared = head >> 1;
        const scores = b![0]!.map(
          (row) => 0.5 * row[shared]!.reduce((s, x, i) => s + x * a![0]![time]![head]![i]!, 0),
        );
        const exps = scores.map(Math.exp);
        const total = exps.reduce((x, y) => x + y, 0);
        for (let i = 0; i < 3; i++) {
          const expected = exps.reduce((s, e, t) => s + (e / total) * c![0]![t]![shared]![i]!, 0);
          expect(result[0]![time]![head]![i]!).toBeCloseTo(expected, 5);
        }
      }
    }
  });
});
