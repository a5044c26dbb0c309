import "../../support/runtime.js";
import { llm, nn, tensor, text } from "aronnax";
import { expect, it } from "vitest";

const tokenizer = text.byteTokenizer();
const model = nn.initialize(
  llm.llama({ vocabSize: 257, hiddenSize: 16, intermediateSize: 32, layers: 1, heads: 2, initStd: 0.5 }),
  1,
);

/** The likeliest next token of a text, computed without a cache. */
async function likeliest(ids: readonly number[]): Promise<number> {
  const logits = model.forward(tensor(Int32Array.from(ids), { shape: [1, ids.length] }));
  return logits.slice(0, -1).argmax().item();
}

it("writes with a cache what it writes without one", async () => {
  const written = await llm.generate(model, {
    tokenizer,
    prompt: "Call me",
    maxTokens: 5,
    temperature: 0,
    context: 16,
    stopId: -1,
  });
  const ids = [...tokenizer.encode("Call me")];
  for (let i = 0; i < 5; i++) ids.push(await likeliest(ids));
  expect(written).toBe(tokenizer.decode(ids));
});

it("goes on from the last half of a full context", async () => {
  const context = 8;
  const written = await llm.generate(model, {
    tokenizer,
    prompt: "Call me",
    maxTokens: 7,
    temperature: 0,
    context,
    stopId: -1,
  });
  const ids = [...tokenizer.encode("Call me")];
  let from = 0;
  for (let i = 0; i < 7; i++) {
    if (ids.length - from > context) from = ids.length - context / 2;
    ids.push(await likeliest(ids.slice(from)));
  }
  expect(written).toBe(tokenizer.decode(ids));
});

it("draws nothing less likely than minP allows", async () => {
  const draw = (minP: number) =>
    llm.generate(model, { tokenizer, prompt: "x", maxTokens: 6, seed: 2, context: 16, minP, stopId: -1 });
  const greedy = await llm.generate(model, {
    tokenizer,
    prompt: "x",
    maxTokens: 6,
    temperature: 0,
    context: 16,
    stopId: -1,
  });
  expect(await draw(1)).toBe(greedy);
  expect(await draw(0)).not.toBe(greedy);
});

it("draws the same text for the same seed, another for another, and gives it out piece by piece", async () => {
  const draw = async (seed: number): Promise<[string, string]> => {
    let pieces = "";
    const onText = (piece: string): void => {
      pieces += piece;
    };
    const written = await llm.generate(model, {
      tokenizer,
      prompt: "x",
      maxTokens: 12,
      seed,
      context: 16,
      onText,
    });
    return [written, pieces];
  };
  const [first, pieces] = await draw(5);
  expect(`x${pieces}`).toBe(first);
  expect((await draw(5))[0]).toBe(first);
  expect((await draw(6))[0]).not.toBe(first);
});

it("stops at the stop token", async () => {
  const free = await llm.generate(model, {
    tokenizer,
    prompt: "a",
    maxTokens: 4,
    temperature: 0,
    context: 8,
    stopId: -1,
  });
  const [, second] = tokenizer.encode(free);
  const stopped = await llm.generate(model, {
    tokenizer,
    prompt: "a",
    maxTokens: 4,
    temperature: 0,
    context: 8,
    stopId: second!,
  });
  expect(stopped).toBe("a");
  await expect(llm.generate(model, { tokenizer, prompt: "a", temperature: -1 })).rejects.toThrow(
    /temperature is -1/,
  );
});
