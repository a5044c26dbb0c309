import "../../support/runtime.js";
import { grad, llm, nn, random, type Tensor, tree } from "aronnax";
import { describe, expect, it } from "vitest";

const small = { vocabSize: 64, hiddenSize: 16, intermediateSize: 32, layers: 2, heads: 4, keyValueHeads: 2 };

const weightOf = (model: llm.Llama, layer: number): Tensor =>
  model.model.layers[layer]!.selfAttn.vProj!.weight;

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
    const first = await weightOf(a, 1).array();
    expect(await weightOf(b, 1).array()).toEqual(first);
    expect(await weightOf(c, 1).array()).not.toEqual(first);
    expect(await weightOf(a, 0).array()).not.toEqual(first);
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
