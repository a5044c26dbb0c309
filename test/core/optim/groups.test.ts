/** Groups of parameters, frozen ones, states in bfloat16, options. */
import "../../support/runtime.js";
import {
  adamw,
  cosine,
  evaluate,
  llm,
  muon,
  nn,
  type Optimizer,
  sgd,
  type Tensor,
  Trainer,
  tensor,
  tree,
} from "aronnax";
import { describe, expect, it } from "vitest";
import { config, small, weights } from "../train/support.js";

const start = {
  embed: { weight: tensor([[1, 2]], { dtype: "float32" }) },
  up: { weight: tensor([[3, 4]], { dtype: "float32" }) },
};
const ones = tree.map((x: Tensor) => x.mul(0).add(1), start);

async function once(optimizer: Optimizer): Promise<number[][]> {
  const [next] = optimizer.update(ones, optimizer.init(start), start, {
    step: tensor(0, { dtype: "int32" }),
    totalSteps: 1,
  });
  return [await next.embed.weight.data(), await next.up.weight.data()].map((x) => Array.from(x, Number));
}

describe("a group", () => {
  it("has a factor of the learning rate, a decay, or stays as it is", async () => {
    const of = (group: object) => sgd({ learningRate: 0.5, groups: [{ match: "embed", ...group }] });
    expect(await once(of({ learningRateFactor: 0.5 }))).toEqual([
      [0.75, 1.75],
      [2.5, 3.5],
    ]);
    expect(await once(of({ weightDecay: 0.5 }))).toEqual([
      [0.25, 1],
      [2.5, 3.5],
    ]);
    expect(await once(of({ frozen: true }))).toEqual([
      [1, 2],
      [2.5, 3.5],
    ]);
  });

  it("has an optimizer of its own, with the norm of all gradients to clip by", async () => {
    const groups = [{ match: /embed/, optimizer: sgd({ learningRate: 1, clipNorm: 1 }) }];
    const [embed, up] = await once(sgd({ learningRate: 0.5, clipNorm: 1, groups }));
    // Four ones have the norm 2.
    expect(embed![0]).toBeCloseTo(0.5, 5);
    expect(up![0]).toBeCloseTo(2.75, 5);
    const state = muon({
      learningRate: 1,
      groups: [{ match: "up", optimizer: sgd({ learningRate: 1, momentum: 0.9 }) }],
    }).init(start);
    expect([...tree.named(state).keys()]).toEqual([
      "adamw.mean.embed.weight",
      "adamw.square.embed.weight",
      "group0.momentum.up.weight",
    ]);
  });

  it("is found by a path with any name in a place, as in the model or as in a checkpoint", async () => {
    const model = llm.llama({ ...small, layers: 2 });
    const frozen = (match: string | RegExp) => {
      const optimizer = adamw({ learningRate: 1, groups: [{ match, frozen: true }] });
      const all = [...tree.named(model)];
      return all.filter(([path, p]) => !optimizer.trains!(path, p)).map(([path]) => path);
    };
    expect(frozen("model.layers.*.selfAttn.qProj")).toEqual(frozen(/self_attn\.q_proj/));
    expect(frozen("model.layers.1.mlp")).toHaveLength(3);
    expect(frozen("lm_head")).toEqual(["lmHead.weight"]);
  });

  it("is refused where it makes no sense or matches nothing", () => {
    const group = (g: object) => () => sgd({ learningRate: 1, groups: [g as never] }).init(start);
    expect(group({ match: "embedding" })).toThrow(/groups\[0\] \(match embedding\) has no parameters/);
    expect(group({ match: "embed", weightDecay: -1 })).toThrow(/groups\[0\].weightDecay is -1/);
    expect(group({ match: "embed", learningRate: 2 })).toThrow(/groups\[0\] has no field learningRate/);
    expect(group({})).toThrow(/groups\[0\].match is undefined/);
  });
});

it("a frozen parameter has no state and stays, bit for bit, while the others train", async () => {
  const groups = [{ match: "model.layers", frozen: true }];
  const trainer = new Trainer(config({ steps: 4, optimizer: adamw({ learningRate: 1e-2, groups }) }));
  await trainer.fit();
  const [before, after] = [await weights(nn.initialize(llm.llama(small), 0)), await weights(trainer.model)];
  for (const [path, values] of Object.entries(after)) {
    if (path.startsWith("model.layers")) expect(values, path).toEqual(before[path]);
    else expect(values, path).not.toEqual(before[path]);
  }
  expect(
    () =>
      new Trainer(config({ optimizer: adamw({ learningRate: 1, groups: [{ match: /./, frozen: true }] }) })),
  ).toThrow(/trains no parameter/);
});

it("states in bfloat16 follow those in float32", async () => {
  const run = async (stateDType: "float32" | "bfloat16") => {
    const optimizer = adamw({ learningRate: 1e-2, stateDType });
    const trainer = new Trainer(config({ optimizer }));
    await trainer.fit();
    return trainer.rows.flatMap((row) => row.loss ?? []);
  };
  const [wide, narrow] = [await run("float32"), await run("bfloat16")];
  for (const [i, loss] of narrow.entries()) expect(Math.abs(loss - wide[i]!)).toBeLessThan(0.02);
  const state = await evaluate(adamw({ learningRate: 1, stateDType: "bfloat16" }).init(start));
  expect(tree.leaves(state).map((x) => x.dtype)).toEqual(Array(4).fill("bfloat16"));
});

it("options can be changed afterwards, and are refused where there are none of the name", () => {
  const optimizer = adamw({ learningRate: cosine({ peak: 1, warmup: 2 }), weightDecay: 0.1 });
  expect(optimizer.with!({ weightDecay: 0.2 }).options).toMatchObject({ weightDecay: 0.2 });
  expect(() => optimizer.with!({ weightDecy: 0.2 })).toThrow(/there is no option weightDecy/);
  expect(() => muon({ learningRate: 1, scale: "big" as "rms" })).toThrow(/scale is big/);
  expect(() => adamw({ learningRate: undefined as unknown as number })).toThrow(/learningRate is undefined/);
  expect(() => adamw({ learningRate: 1, clipValue: 0 })).toThrow(/clipValue is 0/);
});
