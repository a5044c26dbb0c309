/** What every language model offers: packed documents, padded batches, caches, and the loss that holds no logits of a whole batch. */
import "../../support/runtime.js";
import { jit, llm, nn, random, type Tensor, tensor, valueAndGrad } from "aronnax";
import { expect, it } from "vitest";

const ints = (values: readonly number[], shape: readonly number[]): Tensor =>
  tensor(Int32Array.from(values), { shape });
const config = { vocabSize: 31, hiddenSize: 16, intermediateSize: 32, layers: 2, heads: 4, keyValueHeads: 2 };
const model = nn.initialize(llm.llama({ ...config, initStd: 0.3 }), 1);
const documents = [
  [4, 8, 15, 16, 23],
  [4, 2, 30],
];
const forward = jit((m: llm.Llama, tokens: Tensor, options: llm.ForwardOptions) =>
  m.forward(tokens, options),
);

/** The logits of one document alone: [time][vocabSize]. */
async function alone(document: readonly number[]): Promise<number[][]> {
  return (await forward(model, ints(document, [document.length]).reshape([1, -1]), {})
    .reshape([-1, 31])
    .array()) as number[][];
}

function expectClose(actual: readonly number[][], expected: readonly number[][]): void {
  expect(actual.length).toBe(expected.length);
  for (const [i, row] of expected.entries()) {
    for (const [k, x] of row.entries()) expect(actual[i]![k]!).toBeCloseTo(x, 4);
  }
}

it("computes for packed documents what it computes for each alone", async () => {
  const flat = documents.flat();
  const options = {
    segments: ints(
      documents.flatMap((d, i) => d.map(() => i + 1)),
      [1, flat.length],
    ),
    positions: ints(
      documents.flatMap((d) => d.map((_, i) => i)),
      [1, flat.length],
    ),
  };
  const packed = (await forward(model, ints(flat, [1, flat.length]), options)
    .reshape([-1, 31])
    .array()) as number[][];
  expectClose(packed.slice(0, 5), await alone(documents[0]!));
  expectClose(packed.slice(5), await alone(documents[1]!));
});

it("computes for padded rows, with a cache and one token at a time, what it computes for each alone", async () => {
  // Texts end together; the cache has room for more.
  const tokens = ints([4, 8, 15, 16, 23, 0, 0, 4, 2, 30], [2, 5]);
  const cache = model.newCache(2, 8, ints([0, 2], [2]));
  const step = jit((c: nn.KeyValueCache, chunk: Tensor) => {
    const logits = model.forward(chunk, { cache: c });
    c.advance(chunk.shape[1]!);
    return { logits, c };
  });
  const first = step(cache, tokens.slice(null, [0, 3]));
  const second = step(first.c, tokens.slice(null, [3, 4]));
  const third = step(second.c, tokens.slice(null, [4, 5]));
  const parts = await Promise.all(
    [first, second, third].map(async ({ logits }) => (await logits.array()) as number[][][]),
  );
  const rows = [0, 1].map((row) => parts.flatMap((part) => part[row]!));
  expectClose(rows[0]!, await alone(documents[0]!));
  expectClose(rows[1]!.slice(2), await alone(documents[1]!));
});

it("has the loss of its logits", async () => {
  const [inputs, targets] = [1, 2].map((seed) => random.integers(seed, [2, 6], 0, 31)) as [Tensor, Tensor];
  const weights = random.uniform(3, [2, 6]);
  const expected = await nn.crossEntropy(model.forward(inputs), targets, weights).item();
  expect(await model.loss({ inputs, targets, weights }).item()).toBeCloseTo(expected, 5);
});

it("learns from packed documents what it learns from each alone", async () => {
  const learned = async (
    rows: readonly (readonly number[])[],
  ): Promise<{ loss: number; gradient: number[] }> => {
    // Each token but a document's last predicts the next one.
    const per = (f: (document: readonly number[]) => readonly number[]): number[] => rows.flatMap(f);
    const shape = [1, rows.flat().length];
    const batch = {
      inputs: ints(rows.flat(), shape),
      targets: ints(
        per((d) => [...d.slice(1), 0]),
        shape,
      ),
      weights: ints(
        per((d) => d.map((_, i) => (i < d.length - 1 ? 1 : 0))),
        shape,
      ).astype("float32"),
      segments: ints(
        rows.flatMap((d, i) => d.map(() => i + 1)),
        shape,
      ),
      positions: ints(
        per((d) => d.map((_, i) => i)),
        shape,
      ),
    };
    const [loss, gradients] = jit((m: llm.Llama, b: llm.TokenBatch) =>
      valueAndGrad((n: llm.Llama) => n.loss(b))(m),
    )(model, batch);
    return {
      loss: await loss.item(),
      gradient: [...(await gradients.model.embedTokens.weight.data())].map(Number),
    };
  };
  const packed = await learned(documents);
  const apart = await Promise.all(documents.map((d) => learned([d])));
  // Documents of 4 and of 2 predictions.
  expect(packed.loss).toBeCloseTo((4 * apart[0]!.loss + 2 * apart[1]!.loss) / 6, 5);
  for (const [i, g] of packed.gradient.entries())
    expect(g).toBeCloseTo((4 * apart[0]!.gradient[i]! + 2 * apart[1]!.gradient[i]!) / 6, 5);
});
