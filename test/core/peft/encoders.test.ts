/** The encoders of p-tuning and prefix tuning, which PEFT does not save: their gradients are torch's (fixtures/peft/make.py). */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkpoint, llm, peft, type Tensor, tensor, tree, valueAndGrad } from "aronnax";
import { expect, it, vi } from "vitest";
import { decode } from "../../../core/src/array/hostdata.js";
import type { DType } from "../../../core/src/graph/dtype.js";
import { numbers } from "./support.js";

vi.setConfig({ testTimeout: 240_000 });
const fixtures = fileURLToPath(new URL("../../fixtures", import.meta.url));

async function arrays(path: string): Promise<Map<string, Tensor>> {
  await using file = await checkpoint.SafetensorsFile.open(path);
  const found = new Map<string, Tensor>();
  for (const [name, { shape, dtype }] of file.tensors) {
    const data = decode(await file.read(name), dtype as DType);
    const values = dtype === "int64" ? Int32Array.from(data, Number) : Float32Array.from(data, Number);
    found.set(name.replace("prompt_encoder.default.", ""), tensor(values, { shape: [...shape] }));
  }
  return found;
}

/** The names of torch's modules for ours: of a Sequential the layers stand two apart. */
const torchName = (path: string): string =>
  path
    .replace("adapters.default.", "")
    .replace(/^embedding$/, "embedding.weight")
    .replace(/^mlp\.(\d)/, (_, i) => `mlp_head.${2 * Number(i)}`)
    .replace(/^transform\.(\d)/, (_, i) => `transform.${2 * Number(i)}`)
    .replace(
      /^lstm\.(weight|bias)(Ih|Hh)L(\d)(Reverse)?$/,
      (_, kind, side, layer, reverse) =>
        `lstm_head.${kind}_${side.toLowerCase()}_l${layer}${reverse ? "_reverse" : ""}`,
    );

it.each<[string, string, (m: llm.Llama) => llm.Llama]>([
  ["p-tuning-mlp", "llama", (m) => peft.pTuning(m, { virtualTokens: 4, hidden: 7 })],
  ["p-tuning-lstm", "llama", (m) => peft.pTuning(m, { virtualTokens: 4, hidden: 6, encoder: "lstm" })],
  [
    "prefix-projection",
    "llama",
    (m) => peft.prefixTuning(m, { virtualTokens: 3, projection: true, hidden: 6 }),
  ],
])("%s", async (name, base, attach) => {
  const at = join(fixtures, "peft", name);
  const [encoder, wanted, reference] = await Promise.all(
    ["encoder", "encoder-grads", "reference"].map((file) => arrays(join(at, `${file}.safetensors`))),
  );
  const fresh = attach(await llm.load(join(fixtures, "verify", base), { dtype: "float32" }));
  const model = tree.mapNamed((leaf, path) => encoder!.get(torchName(path)) ?? leaf, fresh);
  const [ids, labels] = [reference!.get("input.input_ids")!, reference!.get("input.labels")!];
  const loss = (m: llm.Llama): Tensor => {
    // PEFT's first token is learnt from the last position before it.
    const logits = m.logits(m.hidden(ids, { withLead: true }));
    const before = logits.shape[1]! - ids.shape[1]!;
    const first = Math.max(0, before - 1);
    const predicted = logits.slice(null, [first, -1]);
    const right = before === 0 ? labels.slice(null, [1]) : labels;
    const chosen = predicted.logSoftmax(-1).mul(
      right
        .maximum(0)
        .expandDims(-1)
        .equal(tensor(Int32Array.from({ length: predicted.shape[2]! }, (_, i) => i)))
        .astype("float32"),
    );
    const counted = right.notEqual(-100).astype("float32");
    return chosen.sum(-1).mul(counted).sum().neg().div(counted.sum());
  };
  const [value, gradient] = valueAndGrad(loss)(model);
  expect(await value.item()).toBeCloseTo((await numbers(reference!.get("loss")!))[0]!, 5);
  const found = [...tree.named(gradient)].filter(([path]) => wanted!.has(torchName(path)));
  expect(found.length).toBe(wanted!.size);
  for (const [path, leaf] of found) {
    const [ours, theirs] = [await numbers(leaf), await numbers(wanted!.get(torchName(path))!)];
    const error = Math.hypot(...ours.map((v, i) => v - theirs[i]!)) / Math.hypot(...theirs);
    expect(error, path).toBeLessThan(1e-5);
  }
});
