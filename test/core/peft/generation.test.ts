/** Texts that adapted models write: with prompts and prefixes in the cache, and with another adapter in each row. */
import { llm, nn, peft, random, tensor, text, tree } from "aronnax";
import { expect, it, vi } from "vitest";
import { moved, numbers, size } from "./support.js";

vi.setConfig({ testTimeout: 240_000 });

const tokenizer = text.byteTokenizer();
const shape = { ...size, vocabSize: tokenizer.vocabSize, initStd: 0.3 };
const base = nn.initialize(llm.llama(shape), 3);
const learnt = nn.initialize(
  llm.gpt2({
    vocabSize: shape.vocabSize,
    hiddenSize: 16,
    layers: 2,
    heads: 4,
    maxPositions: 64,
    initStd: 0.3,
  }),
  4,
);
const prompts = ["Call me", "The sea and", "A"];

/** The likeliest tokens one by one, each from the whole text. */
async function slowly(model: llm.Llama, prompt: string, count: number): Promise<number[]> {
  const ids = [...tokenizer.encode(prompt)];
  const start = ids.length;
  for (let i = 0; i < count; i++) {
    const logits = model.forward(tensor(Int32Array.from(ids), { shape: [1, ids.length] }));
    const last = (await numbers(logits)).slice(-shape.vocabSize);
    ids.push(last.indexOf(Math.max(...last)));
  }
  return ids.slice(start);
}

const written = async (model: llm.Llama, list: string[]) =>
  (await llm.complete(model, list, { tokenizer, maxTokens: 6, temperature: 0, stopIds: [] })).map(
    ({ ids }) => [...ids],
  );

const drawn = <M extends nn.Module>(model: M): M =>
  tree.mapNamed(
    (leaf, path) => (path.includes("adapters.") ? random.normal(path.length, leaf.shape) : leaf),
    model,
  );

it.each<[string, llm.Llama]>([
  ["prompt tuning", drawn(peft.promptTuning(base, { virtualTokens: 3 }))],
  ["p-tuning", drawn(peft.pTuning(base, { virtualTokens: 4, hidden: 5 }))],
  ["prefix tuning", drawn(peft.prefixTuning(base, { virtualTokens: 3 }))],
  ["prefix tuning of GPT-2", drawn(peft.prefixTuning(learnt, { virtualTokens: 2 }))],
  ["prompt tuning of GPT-2", drawn(peft.promptTuning(learnt, { virtualTokens: 2 }))],
])("with a cache are those without one, by %s, of prompts of different lengths", async (_, model) => {
  const together = await written(model, prompts);
  for (const [i, prompt] of prompts.entries()) expect(together[i]).toEqual(await slowly(model, prompt, 6));
});

it("side by side are each as its own adapter's", async () => {
  const first = moved(peft.lora(base, { targetModules: "all-linear", rank: 2, name: "first" }), 0.3, 1);
  const both = moved(peft.lora(first, { targetModules: ["q_proj", "embed_tokens"], name: "second" }), 0.3, 2);
  const names = ["first", "second", null] as const;
  const together = await written(peft.mixed(both, names), prompts);
  const alone = await Promise.all(
    names.map(async (name, i) => (await written(peft.activate(both, name), [prompts[i]!]))[0]!),
  );
  expect(together).toEqual(alone);
  expect(new Set(alone.map((ids) => ids.join())).size).toBe(3);
});

it("of a stack in a loop are those of the unrolled one", async () => {
  const loop = nn.initialize(llm.llama(shape, { layers: "scan" }), 3);
  for (const attach of [
    (m: llm.Llama) => drawn(peft.prefixTuning(m, { virtualTokens: 3 })),
    (m: llm.Llama) => drawn(peft.promptTuning(m, { virtualTokens: 3 })),
    (m: llm.Llama) => moved(peft.lora(m, { targetModules: "all-linear", dora: true })),
    (m: llm.Llama) => moved(peft.qlora(m)),
    (m: llm.Llama) => moved(peft.houlsby(m)),
  ]) {
    const x = tensor(Int32Array.from([1, 5, 9, 200]), { shape: [1, 4] });
    const [a, b] = [await numbers(attach(loop).forward(x)), await numbers(attach(base).forward(x))];
    const error = Math.hypot(...a.map((v, i) => v - b[i]!)) / Math.hypot(...b);
    expect(error).toBeLessThan(2e-6);
  }
  const one = peft.lora(loop, { layersToTransform: [1] });
  expect(() => one.forward(tensor(Int32Array.of(1, 2), { shape: [1, 2] }))).toThrow(/other parameters/);
  const alphas = peft.lora(loop, { alphaPattern: { "layers.1.self_attn.q_proj": 3 } });
  expect(() => alphas.forward(tensor(Int32Array.of(1, 2), { shape: [1, 2] }))).toThrow(
    /other settings than the first/,
  );
});
