import "../../support/runtime.js";
import { readFileSync } from "node:fs";
import { llm, nn, text } from "aronnax";
import { expect, it } from "vitest";

interface Reference {
  text: string;
  alphabet: string;
  context: number;
  stride: number;
  nats: number;
  tokens: number;
  documented: number;
}

const fixtures = new URL("../../fixtures/", import.meta.url).pathname;
const reference = (
  JSON.parse(readFileSync(`${fixtures}generation/reference.json`, "utf8")) as { perplexity: Reference }
).perplexity;

/** A letter a token, numbered as in the reference. */
function letters(): text.HuggingFaceTokenizer {
  const json = text.byteTokenizer().toJSON();
  const vocab = Object.fromEntries(Array.from(reference.alphabet, (c, id) => [c === " " ? "Ġ" : c, id]));
  return new text.HuggingFaceTokenizer({ ...json, added_tokens: [], model: { ...json.model, vocab } });
}

it("is that of transformers' documentation, each token counted once", async () => {
  const model = await llm.load(`${fixtures}verify/llama`);
  const { context, stride, nats, tokens, documented } = reference;
  const found = await llm.perplexity(model, reference.text, {
    tokenizer: letters(),
    context,
    stride,
    batchSize: 4,
  });
  expect(found.tokens).toBe(tokens);
  expect(Math.abs(found.nats / nats - 1)).toBeLessThan(1e-5);
  expect(found.perplexity).toBeCloseTo(Math.exp(nats / tokens), 2);
  // That page weights a window by one token less than it predicts.
  expect(Math.abs(Math.log(found.perplexity / documented))).toBeLessThan(0.02);
  expect(found.bytes).toBe(reference.text.length);
  expect(found.words).toBe(reference.text.split(" ").length);
  expect(found.bytePerplexity).toBeCloseTo(Math.exp(found.nats / found.bytes), 5);
  expect(found.wordPerplexity / Math.exp(found.nats / found.words)).toBeCloseTo(1, 5);
  expect(found.bitsPerByte).toBeCloseTo(found.nats / found.bytes / Math.LN2, 5);
});

it("does not depend on how windows are batched, and takes texts one by one", async () => {
  const tokenizer = text.byteTokenizer();
  const model = nn.initialize(
    llm.llama({ vocabSize: 257, hiddenSize: 16, intermediateSize: 32, layers: 1, heads: 2 }),
    1,
  );
  const texts = ["Call me Ishmael.", "x", "Some years ago, never mind how long"];
  const options = { tokenizer, context: 8, stride: 3 };
  const together = await llm.perplexity(model, texts, { ...options, batchSize: 5 });
  const apart = await Promise.all(
    [texts[0]!, texts[2]!].map((one) => llm.perplexity(model, one, { ...options, batchSize: 1 })),
  );
  expect(together.tokens).toBe(apart[0]!.tokens + apart[1]!.tokens);
  expect(together.nats).toBeCloseTo(apart[0]!.nats + apart[1]!.nats, 3);
  // Every token but the first of each text; with a token before the text that one as well.
  expect(together.tokens).toBe(texts.reduce((n, one) => n + one.length - 1, 0));
  const started = await llm.perplexity(model, texts, { ...options, startId: 256 });
  expect(started.tokens).toBe(texts.reduce((n, one) => n + one.length, 0));
});

it("refuses windows that leave tokens out, and texts without any", async () => {
  const tokenizer = text.byteTokenizer();
  const model = llm.llama({ vocabSize: 257, hiddenSize: 16, intermediateSize: 32, layers: 1, heads: 2 });
  await expect(llm.perplexity(model, "abc", { tokenizer, context: 4, stride: 5 })).rejects.toThrow(
    /stride is 5/,
  );
  await expect(llm.perplexity(model, ["", "a"], { tokenizer, context: 8 })).rejects.toThrow(
    /no token to predict/,
  );
  const none = llm.perplexity(model, "abc", { context: 8 } as llm.PerplexityOptions);
  await expect(none).rejects.toThrow(/no tokenizer/);
  const odd = llm.perplexity(model, 5 as never, { tokenizer, context: 8 });
  await expect(odd).rejects.toThrow(/the texts are number/);
});
