/** Small language models, tokens and comparisons for the tests of adapters. */
import "../../support/runtime.js";
import { llm, nn, random, type Tensor, tensor, tree } from "aronnax";
import { isUndrawn } from "../../../core/src/nn/module.js";

export const size = {
  vocabSize: 40,
  hiddenSize: 16,
  intermediateSize: 24,
  layers: 2,
  heads: 4,
  keyValueHeads: 2,
};

export const llama = (options: nn.LayerOptions = {}, seed = 3): llm.Llama =>
  nn.initialize(llm.llama({ ...size, initStd: 0.2 }, options), seed);

export const tokens = (rows = 2, time = 7): Tensor =>
  tensor(
    Int32Array.from({ length: rows * time }, (_, i) => (i * 7 + 3) % 40),
    { shape: [rows, time] },
  );

export async function numbers(x: Tensor): Promise<number[]> {
  return Array.from(await x.astype("float32").data(), Number);
}

/** |a - b| / |b|. */
export async function distance(a: Tensor, b: Tensor): Promise<number> {
  const [x, y] = await Promise.all([numbers(a), numbers(b)]);
  const norm = (v: readonly number[]): number => Math.hypot(...v);
  return norm(x.map((value, i) => value - y[i]!)) / norm(y);
}

/** The model with the parameters of its adapters moved from where they began, in a way that follows from their paths. */
export function moved<M extends nn.Module>(model: M, by = 0.2, seed = 11): M {
  let i = 0;
  return tree.mapNamed(
    (leaf, path) =>
      /adapters\.\w+\.(?!squares)/.test(path) && leaf.dtype === "float32"
        ? leaf.add(random.normal(seed * 1000 + i++, leaf.shape).mul(by))
        : leaf,
    nn.initialize(model, 0, undefined, isUndrawn),
  );
}
