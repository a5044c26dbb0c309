import "../../support/runtime.js";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { llm, nn, tensor } from "aronnax";
import { afterAll, expect, it } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "aronnax-vocabulary-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const sizes = { vocabSize: 11, hiddenSize: 8, intermediateSize: 16, layers: 2, heads: 2 };

it.each([true, false])(
  "gives a model more tokens, or fewer, with tied embeddings %s",
  async (tieEmbeddings) => {
    const model = nn.initialize(llm.llama({ ...sizes, tieEmbeddings }), 3);
    const more = llm.resizeVocabulary(model, 14, { pieces: (id) => [id - 11, 5] });
    const ids = tensor([[1, 5, 2]], { dtype: "int32" });
    const [before, after] = [await model.forward(ids).array(), await more.forward(ids).array()] as [
      number[][][],
      number[][][],
    ];
    for (const [t, row] of before[0]!.entries())
      for (const [k, x] of row.entries()) expect(after[0]![t]![k]!).toBeCloseTo(x, 5);
    const table = (await more.model.embedTokens.weight.array()) as number[][];
    for (const k of [0, 7]) expect(table[12]![k]).toBeCloseTo((table[1]![k]! + table[5]![k]!) / 2, 6);
    const plain = (await llm.resizeVocabulary(model, 12).model.embedTokens.weight.array()) as number[][];
    expect(plain[11]![3]).toBeCloseTo(table.slice(0, 11).reduce((s, r) => s + r[3]!, 0) / 11, 6);
    // Saved and opened again as it is.
    await llm.save(more, join(folder, String(tieEmbeddings)));
    const opened = await llm.load(join(folder, String(tieEmbeddings)));
    expect(opened.config.vocabSize).toBe(14);
    expect(await opened.forward(ids).array()).toEqual(await more.forward(ids).array());
    const fewer = llm.resizeVocabulary(more, 11);
    expect(await fewer.forward(ids).array()).toEqual(await model.forward(ids).array());
  },
);

it("names sizes and pieces that there are not", () => {
  const model = llm.llama(sizes);
  expect(() => llm.resizeVocabulary(model, 2.5)).toThrow(/vocabSize is 2.5/);
  expect(() => llm.resizeVocabulary(model, 12, { pieces: () => [11] })).toThrow(
    /token 11 is to begin with token 11/,
  );
});

it("makes a model of another model's configuration, with some of it changed", () => {
  const makers = {
    llama: llm.llama,
    gpt2: llm.gpt2,
    gemma2: llm.gemma2,
    gemma3: llm.gemma3,
    qwen3: llm.qwen3,
  };
  for (const [name, make] of Object.entries(makers)) {
    const model = (make as typeof llm.llama)({
      ...sizes,
      ...(name === "gpt2" && { maxPositions: 32 }),
    } as never);
    expect(make({ ...model.config } as never).config, name).toEqual(model.config);
    const deep = make({ ...model.config, layers: 6 } as never);
    expect([deep.config.layers, deep.config.layerTypes.length], name).toEqual([6, 6]);
  }
  expect(() => llm.llama({ ...sizes, norm: "layer" } as never)).toThrow(/llama: there is no field norm/);
});
