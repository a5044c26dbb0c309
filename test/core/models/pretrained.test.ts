/** Checkpoints of Hugging Face's transformers (fixtures/verify/make.py made the references). */
import "../../support/runtime.js";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkpoint, jit, llm, nn, type Tensor, tensor, text, tree, valueAndGrad } from "aronnax";
import { afterAll, describe, expect, it } from "vitest";

const fixtures = fileURLToPath(new URL("../../fixtures/verify", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "aronnax-pretrained-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function reference(name: string): Promise<Map<string, Float32Array | Int32Array>> {
  const files = await checkpoint.TensorFiles.open(join(fixtures, `${name}.safetensors`));
  const found = new Map<string, Float32Array | Int32Array>();
  for (const [tensor, { dtype }] of files.tensors) {
    const { buffer } = (await files.read(tensor)).slice();
    found.set(tensor, dtype === "int32" ? new Int32Array(buffer) : new Float32Array(buffer));
  }
  await files.close();
  return found;
}

/** The checkpoint alone, without the reference beside it. */
function checkpointOf(name: string, change: (config: Record<string, unknown>) => void = () => {}): string {
  const target = mkdtempSync(join(folder, `${name}-`));
  const config = JSON.parse(readFileSync(join(fixtures, name, "config.json"), "utf8")) as Record<
    string,
    unknown
  >;
  change(config);
  writeFileSync(join(target, "config.json"), JSON.stringify(config));
  copyFileSync(join(fixtures, name, "model.safetensors"), join(target, "model.safetensors"));
  return target;
}

function relative(actual: ArrayLike<number | bigint>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let [difference, size] = [0, 0];
  for (let i = 0; i < actual.length; i++) {
    difference += (Number(actual[i]) - expected[i]!) ** 2;
    size += expected[i]! ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / size);
}

/** Values by the names that a checkpoint has for them. */
async function asStored(name: string, values: llm.Decoder): Promise<Map<string, ArrayLike<number | bigint>>> {
  const out = join(folder, `${name}-values`);
  await llm.save(values, out);
  const files = await checkpoint.TensorFiles.open(out);
  const found = new Map<string, ArrayLike<number>>();
  for (const tensor of files.tensors.keys())
    found.set(tensor, new Float32Array((await files.read(tensor)).slice().buffer));
  await files.close();
  return found;
}

const names = readdirSync(fixtures, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name);

describe.each(names)("%s", (name) => {
  const compute = async (model: llm.Decoder) => {
    const expected = await reference(name);
    const tokens = tensor(expected.get("tokens") as Int32Array, { shape: [2, 25] });
    const [inputs, targets] = [tokens.slice(null, [0, -1]), tokens.slice(null, [1])];
    const both = jit((m: llm.Decoder, x: Tensor, y: Tensor) => {
      const [loss, gradients] = valueAndGrad((n: llm.Decoder) => n.loss({ inputs: x, targets: y }))(m);
      return { logits: m.forward(x), loss, gradients };
    });
    return { expected, ...both(model, inputs, targets) };
  };
  const check = async (model: llm.Decoder): Promise<void> => {
    const { expected, logits, loss, gradients } = await compute(model);
    expect(relative(await logits.data(), expected.get("logits")!)).toBeLessThan(1e-5);
    expect(relative(await loss.data(), expected.get("loss")!)).toBeLessThan(1e-5);
    const stored = await asStored(name, gradients);
    expect(stored.size).toBe([...expected.keys()].filter((key) => key.startsWith("gradient.")).length);
    for (const [key, gradient] of stored) {
      expect(relative(gradient, expected.get(`gradient.${key}`)!), key).toBeLessThan(1e-5);
    }
  };

  it("has the logits, the loss and every gradient that transformers computes", async () => {
    await check(await llm.load(checkpointOf(name)));
  });

  // Models of layers of one kind; decoder.test.ts has others.
  if (["gpt2", "llama", "mixtral", "phi3"].includes(name)) {
    it("has them with the layers in a loop that computes again", async () => {
      await check(await llm.load(checkpointOf(name), { layers: "scan", remat: "dots" }));
    });
  }

  it("is saved byte for byte as it was loaded, in one file or several, and opens again", async () => {
    const original = checkpointOf(name);
    const model = await llm.load(original);
    const theirs = await checkpoint.TensorFiles.open(original);
    for (const options of [{}, { maxFileBytes: 10_000 }, {}]) {
      const out = join(folder, `${name}-copy`);
      await llm.save(model, out, options);
      expect(readdirSync(out).length > 3).toBe(options.maxFileBytes !== undefined);
      const ours = await checkpoint.TensorFiles.open(out);
      expect([...ours.tensors.keys()].sort()).toEqual([...theirs.tensors.keys()].sort());
      for (const [tensor, { shape }] of theirs.tensors) {
        expect(ours.tensors.get(tensor)).toMatchObject({ dtype: "float32", shape });
        expect(
          Buffer.from(await ours.read(tensor)).equals(Buffer.from(await theirs.read(tensor))),
          tensor,
        ).toBe(true);
      }
      await ours.close();
      expect((await llm.load(out)).config).toEqual(model.config);
    }
    await theirs.close();
    const [before, after] = [original, join(folder, `${name}-copy`)].map(
      (at) => JSON.parse(readFileSync(join(at, "config.json"), "utf8")) as object,
    );
    expect(after).toMatchObject(before!);
  });
});

it("converts on the way", async () => {
  const model = await llm.load(checkpointOf("llama"), { dtype: "bfloat16" });
  for (const leaf of tree.leaves(model)) expect(leaf.dtype).toBe("bfloat16");
  const expected = await reference("llama");
  const tokens = tensor(expected.get("tokens") as Int32Array, { shape: [2, 25] }).slice(null, [0, -1]);
  expect(
    relative(await model.forward(tokens).astype("float32").data(), expected.get("logits")!),
  ).toBeLessThan(0.05);
});

it("is known by its model type where no architecture is named, whatever files lie beside it", async () => {
  const at = checkpointOf("llama", (config) => {
    delete config.architectures;
  });
  copyFileSync(join(fixtures, "qwen2", "model.safetensors"), join(at, "consolidated.safetensors"));
  expect((await llm.load(at)).family?.name).toBe("llama");
});

it("ends texts at the tokens that the checkpoint names, and keeps what says so", async () => {
  const at = checkpointOf("llama", (config) => {
    config.eos_token_id = 3;
  });
  const plain = await llm.load(at);
  expect(plain.stopIds).toEqual([3]);
  const words = new text.HuggingFaceTokenizer({
    version: "1.0",
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: "WhitespaceSplit" },
    post_processor: null,
    decoder: null,
    model: {
      type: "WordLevel",
      vocab: Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`w${i}`, i])),
      unk_token: "w0",
    },
  });
  const options = { tokenizer: words, maxTokens: 8, temperature: 0 };
  const [free] = await llm.complete(plain, [[1, 2]], { ...options, stopIds: [] });
  const third = free!.ids[2]!;
  const generation = { eos_token_id: [39, third], temperature: 0.6 };
  writeFileSync(join(at, "generation_config.json"), JSON.stringify(generation));
  const model = await llm.load(at);
  const [ended] = await llm.complete(model, [[1, 2]], options);
  expect(ended).toMatchObject({ ids: free!.ids.slice(0, free!.ids.indexOf(third) + 1), ended: "stop-id" });
  const out = join(folder, "generation");
  await llm.save(model, out);
  expect(JSON.parse(readFileSync(join(out, "generation_config.json"), "utf8"))).toEqual(generation);
});

describe("a model of one's own", () => {
  const size = { vocabSize: 257, hiddenSize: 16, intermediateSize: 24, layers: 1, heads: 2 };
  const factors = { shortFactor: [1, 2, 3, 4], longFactor: [2, 3, 4, 5] };
  // With what transformers would take otherwise: a window, other contexts, or integers that it refuses.
  const models: Record<string, [llm.Decoder, RegExp]> = {
    "stretched from its context on": [
      llm.llama({ ...size, ropeScaling: { type: "dynamic", factor: 2, originalContext: 64 } }),
      /"max_position_embeddings": 64,/,
    ],
    "without a window": [llm.mistral(size), /"sliding_window": null,/],
    "with two sets of frequencies": [
      llm.phi3({ ...size, ropeScaling: { type: "longrope", factor: 4, originalContext: 64, ...factors } }),
      /"max_position_embeddings": 256,\n {2}"original_max_position_embeddings": 64,/,
    ],
    "with bounds": [llm.gemma2({ ...size, headDim: 8 }), /"final_logit_softcapping": 30\.0,/],
  };

  it.each(Object.entries(models))("is saved as transformers reads it: %s", async (name, [model, text]) => {
    const out = join(folder, name);
    await llm.save(nn.initialize(model), out);
    const config = readFileSync(join(out, "config.json"), "utf8");
    expect(config).toMatch(text);
    expect(config).toMatch(/"eos_token_id": null,/);
    expect((await llm.load(out)).config).toEqual(model.config);
  });

  it("is saved with its tokenizer", async () => {
    const out = join(folder, "with a tokenizer");
    const tokenizer = text.byteTokenizer();
    await llm.save(nn.initialize(llm.llama(size)), out, { tokenizer });
    expect((await llm.load(out)).stopIds).toEqual([256]);
    expect((await text.loadTokenizer(out)).toJSON()).toEqual(tokenizer.toJSON());
    const small = nn.initialize(llm.llama({ ...size, vocabSize: 50 }));
    await expect(llm.save(small, out, { tokenizer })).rejects.toThrow(/ids up to 256/);
  });
});

it("takes what transformers takes where a file says nothing, and nothing where it says null", async () => {
  const of = async (change: (config: Record<string, unknown>) => void) =>
    (await llm.load(checkpointOf("mistral", change))).config;
  expect((await of((config) => delete config.sliding_window)).window).toBe(4096);
  expect((await of((config) => Object.assign(config, { sliding_window: null }))).window).toBeUndefined();
});

describe("a checkpoint that cannot be opened", () => {
  it.each([
    ["another architecture", "llama", { architectures: ["BertModel"] }, /the architecture is BertModel/],
    ["an unknown activation", "llama", { hidden_act: "quick_gelu" }, /hidden_act is "quick_gelu"/],
    ["an unknown rope type", "llama", { rope_parameters: { rope_type: "spiral" } }, /rope type "spiral"/],
    [
      "a rope type without its factor",
      "llama",
      { rope_parameters: { rope_type: "linear" } },
      /ropeScaling.factor is undefined/,
    ],
    ["quantized weights", "llama", { quantization_config: { quant_method: "awq" } }, /quantized \(awq\)/],
    ["scores that are not scaled", "gpt2", { scale_attn_weights: false }, /scale_attn_weights is false/],
    ["a missing field", "llama", { num_hidden_layers: null }, /num_hidden_layers is missing/],
    ["heads that cannot share", "llama", { num_key_value_heads: 3 }, /4 heads cannot share 3 keyValueHeads/],
    [
      "more experts for a token than there are",
      "mixtral",
      { num_experts_per_tok: 9 },
      /experts.perToken is 9 of 4/,
    ],
    [
      "more layers than it has",
      "llama",
      { num_hidden_layers: 3 },
      /missing: model.layers.2.self_attn.q_proj.weight, .*and 11 more/,
    ],
    [
      "fewer layers than it has",
      "llama",
      { num_hidden_layers: 1 },
      /unexpected: model.layers.1.input_layernorm.weight/,
    ],
    [
      "other shapes",
      "llama",
      { intermediate_size: 64 },
      /gate_proj.weight is \[24, 16\], the configuration says \[64, 16\]/,
    ],
    [
      "fewer experts than it has",
      "mixtral",
      { num_local_experts: 3 },
      /block_sparse_moe.gate.weight is \[4, 16\]/,
    ],
  ])("names %s", async (_, name, fields, message) => {
    await expect(llm.load(checkpointOf(name, (config) => Object.assign(config, fields)))).rejects.toThrow(
      message,
    );
  });

  it("names a missing file of several", async () => {
    const out = join(folder, "several");
    await llm.save(await llm.load(checkpointOf("llama")), out, { maxFileBytes: 5000 });
    const file = readdirSync(out).find((entry) => entry.includes("-00002-of-"))!;
    rmSync(join(out, file));
    await expect(llm.load(out)).rejects.toThrow(new RegExp(file));
  });

  it("names a tokenizer of another size", async () => {
    await expect(llm.load(checkpointOf("llama"), { vocabSize: 41 })).rejects.toThrow(
      /the tokenizer has 41 tokens, the model 40/,
    );
  });

  it("names a folder that is none", async () => {
    await expect(llm.load(join(folder, "nothing"))).rejects.toThrow(/nothing does not exist/);
    await expect(llm.load(undefined as unknown as string)).rejects.toThrow(/the folder is undefined/);
    const cache = join(folder, "models--someone--something");
    mkdirSync(join(cache, "snapshots", "0123abcd"), { recursive: true });
    await expect(llm.load(cache)).rejects.toMatchObject({ fix: expect.stringMatching(/snapshots.0123abcd/) });
  });

  it("names what holds the weights where safetensors do not", async () => {
    const at = checkpointOf("llama");
    renameSync(join(at, "model.safetensors"), join(at, "pytorch_model.bin"));
    await expect(llm.load(at)).rejects.toThrow(/no safetensors file, but pytorch_model.bin/);
  });

  it("names a config.json that is no object", async () => {
    const at = checkpointOf("llama");
    writeFileSync(join(at, "config.json"), "null");
    await expect(llm.load(at)).rejects.toThrow(/config.json holds no JSON object/);
  });
});
