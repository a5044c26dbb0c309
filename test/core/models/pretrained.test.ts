/** Checkpoints of Hugging Face's transformers (fixtures/llama/make.py made the reference). */
import "../../support/runtime.js";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkpoint, evaluate, llm, nn, type Tensor, tensor, tree, valueAndGrad } from "aronnax";
import { afterAll, describe, expect, it } from "vitest";

const fixture = fileURLToPath(new URL("../../fixtures/llama", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "aronnax-pretrained-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function reference(): Promise<Map<string, Float32Array | Int32Array>> {
  const files = await checkpoint.TensorFiles.open(join(fixture, "reference.safetensors"));
  const found = new Map<string, Float32Array | Int32Array>();
  for (const [name, { dtype }] of files.tensors) {
    const { buffer } = (await files.read(name)).slice();
    found.set(name, dtype === "int32" ? new Int32Array(buffer) : new Float32Array(buffer));
  }
  await files.close();
  return found;
}

async function relative(actual: Tensor, expected: ArrayLike<number>): Promise<number> {
  const data = await actual.data();
  expect(data.length).toBe(expected.length);
  let [difference, size] = [0, 0];
  for (let i = 0; i < data.length; i++) {
    difference += (Number(data[i]) - expected[i]!) ** 2;
    size += expected[i]! ** 2;
  }
  return Math.sqrt(difference / size);
}

describe("load", () => {
  it("computes the logits, the loss and every gradient that transformers does", async () => {
    const model = await llm.load(fixture);
    const expected = await reference();
    const tokens = tensor(expected.get("tokens") as Int32Array, { shape: [2, 24] });
    expect(await relative(model.forward(tokens), expected.get("logits")!)).toBeLessThan(1e-5);

    const loss = (m: llm.Llama) =>
      nn.crossEntropy(m.forward(tokens).slice(null, [0, -1]), tokens.slice(null, [1]));
    const [value, gradients] = await evaluate(valueAndGrad(loss)(model));
    expect(Math.abs((await value.item()) - expected.get("loss")![0]!)).toBeLessThan(1e-5);
    const named = tree.named(gradients);
    expect(named.size).toBe([...expected.keys()].filter((name) => name.startsWith("gradient.")).length);
    for (const [path, gradient] of named) {
      const name = nn.checkpointName(path);
      expect(await relative(gradient, expected.get(`gradient.${name}`)!), name).toBeLessThan(1e-5);
    }
  });

  it("saves what it loaded byte for byte, and opens it again", async () => {
    const out = join(folder, "copy");
    await llm.save(await llm.load(fixture), out);
    const [ours, theirs] = [
      await checkpoint.TensorFiles.open(out),
      await checkpoint.TensorFiles.open(fixture),
    ];
    expect([...ours.tensors.keys()].sort()).toEqual([...theirs.tensors.keys()].sort());
    for (const name of theirs.tensors.keys()) {
      expect(ours.tensors.get(name)).toMatchObject({
        dtype: "float32",
        shape: theirs.tensors.get(name)!.shape,
      });
      expect(Buffer.from(await ours.read(name)).equals(Buffer.from(await theirs.read(name))), name).toBe(
        true,
      );
    }
    await Promise.all([ours.close(), theirs.close()]);
    expect((await llm.load(out)).config).toEqual((await llm.load(fixture)).config);
  });

  it("converts on the way", async () => {
    const model = await llm.load(fixture, { dtype: "bfloat16" });
    for (const leaf of tree.leaves(model)) expect(leaf.dtype).toBe("bfloat16");
    const expected = await reference();
    const tokens = tensor(expected.get("tokens") as Int32Array, { shape: [2, 24] });
    expect(await relative(model.forward(tokens), expected.get("logits")!)).toBeLessThan(0.05);
  });
});

describe("a checkpoint that cannot be opened", () => {
  const changed = (change: (config: Record<string, unknown>) => void): string => {
    const target = mkdtempSync(join(folder, "changed-"));
    const config = JSON.parse(readFileSync(join(fixture, "config.json"), "utf8")) as Record<string, unknown>;
    change(config);
    writeFileSync(join(target, "config.json"), JSON.stringify(config));
    copyFileSync(join(fixture, "model.safetensors"), join(target, "model.safetensors"));
    return target;
  };

  it.each([
    ["another architecture", { architectures: ["GPT2LMHeadModel"] }, /the architecture is GPT2LMHeadModel/],
    ["an unknown activation", { hidden_act: "gelu" }, /hidden_act is "gelu"/],
    ["an unknown rope type", { rope_parameters: { rope_type: "yarn" } }, /rope type "yarn"/],
    [
      "more layers than it has",
      { num_hidden_layers: 3 },
      /model.layers.2.self_attn.q_proj.weight is missing.*and 4 more/,
    ],
    [
      "other shapes",
      { intermediate_size: 64 },
      /gate_proj.weight is \[48, 32\], the configuration says \[64, 32\]/,
    ],
  ])("names %s", async (_, fields, message) => {
    await expect(llm.load(changed((config) => Object.assign(config, fields)))).rejects.toThrow(message);
  });

  it("names a folder that is none", async () => {
    await expect(llm.load(join(folder, "nothing"))).rejects.toThrow(/nothing\/config.json cannot be read/);
  });
});
