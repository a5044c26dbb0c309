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
import { checkpoint, jit, llm, nn, tensor, text, tree, valueAndGrad } from "aronnax";
import { afterAll, describe, expect, it } from "vitest";

const fixtures = fileURLToPath(new URL("../../fixtures/verify", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "aronnax-pretrained-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Reference = Map<string, { shape: readonly number[]; data: Float32Array | Int32Array }>;

/** What transformers was given and computed, and its gradients by name. */
async function reference(name: string, file = "reference"): Promise<Reference> {
  await using files = await checkpoint.TensorFiles.open(join(fixtures, name, `${file}.safetensors`));
  const found: Reference = new Map();
  for (const [tensor, { dtype, shape }] of files.tensors) {
    const { buffer } = (await files.read(tensor)).slice();
    const data =
      dtype === "int64" ? Int32Array.from(new BigInt64Array(buffer), Number) : new Float32Array(buffer);
    found.set(tensor, { shape, data });
  }
  return found;
}

/** The call of the Python model as a batch of ours: the label of a token is the next one. */
function batchOf(expected: Reference): llm.TokenBatch {
  const int = (values: Int32Array, shape: readonly number[]) => tensor(values, { shape });
  const { shape, data: ids } = expected.get("input.input_ids") as { shape: number[]; data: Int32Array };
  const time = shape[1]!;
  const labels = expected.get("input.labels")!.data;
  const next = Int32Array.from(labels, (_, i) => ((i + 1) % time === 0 ? -100 : labels[i + 1]!));
  const positions = expected.get("input.position_ids")?.data as Int32Array | undefined;
  // Numbers of texts: those where positions jump, or whether it is padding.
  let text = 0;
  const segments =
    positions !== undefined
      ? positions.map((p, i) => (i % time > 0 && p !== positions[i - 1]! + 1 ? ++text : text))
      : (expected.get("input.attention_mask")?.data as Int32Array | undefined);
  return {
    inputs: int(ids, shape),
    targets: int(
      next.map((id) => Math.max(id, 0)),
      shape,
    ),
    weights: tensor(
      Float32Array.from(next, (id) => (id === -100 ? 0 : 1)),
      { shape },
    ),
    ...(segments !== undefined && { segments: int(segments, shape) }),
    ...(positions !== undefined && { positions: int(positions, shape) }),
  };
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

// Those whose embeddings are all learned: `loss` knows of no padding token. verify.test.ts has all.
const names = readdirSync(fixtures, { withFileTypes: true })
  .filter(
    (entry) =>
      entry.isDirectory() && !/^(llama|phi3|mixtral)-(left|eager|packed|summed|padded)$/.test(entry.name),
  )
  .map((entry) => entry.name);

describe.each(names)("%s", (name) => {
  const check = async (model: llm.Decoder): Promise<void> => {
    const expected = await reference(name);
    const both = jit((m: llm.Decoder, batch: llm.TokenBatch) =>
      valueAndGrad((n: llm.Decoder) => n.loss(batch))(m),
    );
    const [loss, gradients] = both(model, batchOf(expected));
    expect(relative(await loss.data(), expected.get("loss")!.data)).toBeLessThan(1e-5);
    const stored = await asStored(name, gradients);
    const theirs = await reference(name, "reference-grads");
    expect([...stored.keys()].sort()).toEqual([...theirs.keys()].sort());
    for (const [key, gradient] of stored)
      expect(relative(gradient, theirs.get(key)!.data), key).toBeLessThan(1e-5);
  };

  it("has the loss and every gradient that transformers computes, the logits never being whole", async () => {
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
    for (const options of [{}, { maxFileBytes: 3000 }, {}]) {
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
  const { inputs } = batchOf(expected);
  const logits = await model.forward(inputs).astype("float32").data();
  expect(relative(logits, expected.get("output.logits")!.data)).toBeLessThan(0.05);
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
