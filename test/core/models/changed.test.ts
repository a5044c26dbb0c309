/** Saving models that were changed, and opening what trainings and downloads leave. */
import "../../support/runtime.js";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { adamw, checkpoint, llm, nn, ones, type Tensor, Trainer, tensor, text, tree } from "aronnax";
import { afterAll, describe, expect, it, vi } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "aronnax-changed-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;
const fresh = (): string => join(folder, `model-${count++}`);
vi.setConfig({ testTimeout: 120_000 });

const size = { vocabSize: 12, hiddenSize: 8, intermediateSize: 12, layers: 3, heads: 2 };
const make = (config: Partial<llm.LlamaConfig> = {}) => nn.initialize(llm.llama({ ...size, ...config }), 1);
const tokens = tensor([[1, 2, 3, 4]], { dtype: "int32" });

class Adapted extends nn.Module {
  base: nn.Linear;
  down = ones([2, 8]);
  constructor(base: nn.Linear) {
    super();
    this.base = base;
  }
  forward(x: Tensor): Tensor {
    return this.base.forward(x);
  }
}

class Doubled extends nn.Linear {
  override forward(x: Tensor): Tensor {
    return super.forward(x).mul(2);
  }
}

describe("a changed model that its family can describe", () => {
  const rows = (table: Tensor, more: number): Tensor =>
    nn.initialize(new nn.Embedding(table.shape[0]! + more, table.shape[1]!), 9).weight;
  const changes: Record<
    string,
    [Partial<llm.LlamaConfig>, (model: llm.Decoder) => void, Partial<llm.LlamaConfig>]
  > = {
    "more rows in both tables": [
      {},
      (model) => {
        model.model.embedTokens.weight = rows(model.model.embedTokens.weight, 3);
        model.lmHead!.weight = rows(model.lmHead!.weight, 3);
      },
      { vocabSize: 15 },
    ],
    "more rows in a table that the output layer shares": [
      { tieEmbeddings: true },
      (model) => {
        model.model.embedTokens.weight = rows(model.model.embedTokens.weight, 5);
      },
      { vocabSize: 17, tieEmbeddings: true },
    ],
    "an output layer of its own": [
      { tieEmbeddings: true },
      (model) => {
        model.lmHead = nn.initialize(new nn.Linear(8, 12), 4);
      },
      { tieEmbeddings: false },
    ],
    "no output layer of its own": [
      {},
      (model) => {
        model.lmHead = null;
      },
      { tieEmbeddings: true },
    ],
    "fewer layers": [
      {},
      (model) => {
        model.model.layers.pop();
      },
      { layers: 2 },
    ],
  };

  it.each(Object.entries(changes))(
    "is saved with %s, and opens as it is",
    async (_, [before, change, after]) => {
      const model = make(before);
      change(model);
      const at = fresh();
      await llm.save(model, at);
      const opened = await llm.load(at);
      expect(opened.config).toMatchObject(after);
      expect(await opened.forward(tokens).array()).toEqual(await model.forward(tokens).array());
    },
  );
});

describe("a changed model that its family cannot describe", () => {
  const changes: Record<string, [(model: llm.Decoder) => void, RegExp]> = {
    "a wrapped layer": [
      ({ model }) => {
        const { selfAttn } = model.layers[1]!;
        selfAttn.qProj = new Adapted(selfAttn.qProj!) as unknown as nn.Linear;
      },
      /model.layers.1.selfAttn.qProj is a Adapted, the family has a Linear/,
    ],
    "a layer of the same parameters that computes otherwise": [
      ({ model }) => {
        model.layers[0]!.selfAttn.oProj = new Doubled(8, 8);
      },
      /model.layers.0.selfAttn.oProj is a Doubled/,
    ],
    "a further Tensor": [
      (model) => Object.assign(model, { extra: ones([3]) }),
      /extra is a Tensor \[3\], the family has none/,
    ],
    "a further Tensor in a layer": [
      ({ model }) => Object.assign(model.layers[2]!.mlp, { scale: ones([3]) }),
      /model.layers.2.mlp.scale is a Tensor \[3\] more/,
    ],
    "a table of another length than the output layer": [
      ({ model }) => {
        model.embedTokens = new nn.Embedding(15, 8);
      },
      /model.embedTokens.weight is \[15, 8\], the configuration says \[12, 8\]/,
    ],
    "a layer of another width": [
      ({ model }) => {
        model.layers[0]!.mlp = new nn.GatedMlp(8, 16);
      },
      /model.layers.0.mlp.gateProj.weight is \[16, 8\], the configuration says \[12, 8\]/,
    ],
    "a bias that there was not": [
      ({ model }) => {
        model.layers[0]!.selfAttn.qProj = new nn.Linear(8, 8, { bias: true });
      },
      /qProj.bias is a Tensor \[8\], the family has none/,
    ],
    "another activation": [
      ({ model }) => Object.assign(model.layers[0]!.mlp, { activation: "relu" }),
      /mlp.activation is "relu", the family has "silu"/,
    ],
    "integer weights": [
      ({ model }) => {
        model.norm.weight = ones([8], { dtype: "int8" });
      },
      /model.norm.weight is int8/,
    ],
  };

  it.each(Object.entries(changes))(
    "is refused by name, and nothing is written: %s",
    async (_, [change, message]) => {
      const model = make();
      change(model);
      const at = fresh();
      await expect(llm.save(model, at)).rejects.toThrow(message);
      await expect(llm.save(model, at)).rejects.toMatchObject({ fix: expect.stringMatching(/saveTree/) });
      expect(readdirSync(folder)).not.toContain(at.split("/").at(-1));
    },
  );
});

describe("what a training leaves", () => {
  const train = async (name: string, model: llm.Decoder, average?: { decay: number }) => {
    const documents = Array.from({ length: 12 }, (_, i) => `${i} sailors went to sea. `.repeat(3));
    const data = text.packed(documents, {
      tokenizer: text.byteTokenizer(),
      sequenceLength: 16,
      batchSize: 2,
    });
    const config = { name, folder, model, data, optimizer: adamw({ learningRate: 1e-3 }), steps: 4 };
    const trainer = new Trainer({ ...config, checkpoints: { every: 2 }, ...(average && { average }) });
    await trainer.fit();
    return trainer;
  };
  const ids = tensor([[70, 71, 72]], { dtype: "int32" });

  it("opens by the checkpoint's folder, its model's, or the run's, the newest first", async () => {
    const trainer = await train("whole", nn.initialize(llm.llama({ ...size, vocabSize: 257 })));
    const run = join(folder, "whole");
    const trained = await trainer.model.forward(ids).array();
    const newest = join(run, "checkpoints", "step-000004");
    for (const at of [run, join(run, "checkpoints"), newest, join(newest, "model")])
      expect(await (await llm.load(at)).forward(ids).array()).toEqual(trained);
    const earlier = await llm.load(join(run, "checkpoints", "step-000002"));
    expect(await earlier.forward(ids).array()).not.toEqual(trained);
    // A newer one that is not whole is passed over.
    rmSync(join(newest, "trainer.json"));
    expect(await (await llm.load(run)).forward(ids).array()).toEqual(await earlier.forward(ids).array());
  });

  it("says where the model is where it has no config.json", async () => {
    const { model } = await train(
      "other",
      nn.initialize(llm.gpt2({ vocabSize: 257, hiddenSize: 8, layers: 1, heads: 2 })),
    );
    const at = join(folder, "other", "checkpoints", "step-000004", "model");
    const error = (await llm.load(join(folder, "other")).catch((e: unknown) => e)) as Error & { fix: string };
    expect(error.message).toContain(`lies in ${at}`);
    expect(error.fix).toMatch(/checkpoint.loadTree\(model, ".*step-000004\/model"\)/);
    const like = llm.gpt2({ vocabSize: 257, hiddenSize: 8, layers: 1, heads: 2 });
    const back = await checkpoint.loadTree(like, at);
    expect(await back.forward(ids).array()).toEqual(await (model as llm.Decoder).forward(ids).array());
    rmSync(at, { recursive: true });
    await expect(llm.load(join(at, ".."))).rejects.toThrow(/without the folder model/);
  });
});

describe("a checkpoint in several files", () => {
  const several = async () => {
    const at = fresh();
    await llm.save(make(), at, { maxFileBytes: 1500 });
    const files = readdirSync(at)
      .filter((name) => name.endsWith(".safetensors"))
      .sort();
    return { at, files };
  };
  const fails = async (at: string, message: RegExp, fix: RegExp) =>
    expect(await llm.load(at).catch((error: unknown) => error)).toMatchObject({
      message: expect.stringMatching(message),
      fix: expect.stringMatching(fix),
    });

  it("is refused without its index, with or without missing files", async () => {
    const { at, files } = await several();
    rmSync(join(at, "model.safetensors.index.json"));
    // As transformers names them.
    for (const name of files) renameSync(join(at, name), join(at, name.replace(/-[0-9a-f]{8}-/, "-")));
    const total = String(files.length).padStart(5, "0");
    await fails(
      at,
      new RegExp(`holds ${files.length} of the ${files.length} files`),
      /fetch model.safetensors.index.json into/,
    );
    rmSync(join(at, `model-00002-of-${total}.safetensors`));
    await fails(at, /no index/, new RegExp(`index.json, model-00002-of-${total}.safetensors into`));
    await expect(checkpoint.TensorFiles.open(at)).rejects.toThrow(/no index/);
    await expect(checkpoint.loadTree(llm.llama(size), at)).rejects.toThrow(/no index/);
  });

  it("is refused where files are missing, with their names", async () => {
    const { at, files } = await several();
    rmSync(join(at, files[1]!));
    await fails(at, new RegExp(`1 of them are missing: ${files[1]}`), /fetch the missing files/);
    await expect(checkpoint.loadTree(llm.llama(size), at)).rejects.toThrow(/1 of them are missing/);
  });

  it("is refused where a file is another's, or cut short, with its name", async () => {
    const { at, files } = await several();
    const [first, second] = files.map((name) => readFileSync(join(at, name))) as [Buffer, Buffer];
    writeFileSync(join(at, files[1]!), first);
    await fails(at, new RegExp(`cannot be opened: .*${files[0]}.*${files[1]}`), /fetch the file/);
    writeFileSync(join(at, files[1]!), second);
    truncateSync(join(at, files[1]!), second.length - 4);
    await fails(at, new RegExp(`cannot be opened: .*${files[1]}`), /again/);
    writeFileSync(join(at, files[1]!), second);
    expect(tree.leaves(await llm.load(at)).length).toBeGreaterThan(10);
  });
});
