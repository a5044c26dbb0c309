/**
 * Trains a Llama on random tokens and prints its speed as one line of JSON: tokens/s over the steps after the first ones, the compile time,
 * the device's memory. Runs from source, or as one bundle where there is neither this repository nor a registry (bench/bundle.mjs).
 *
 * usage: llama-train [--model llama1b] [--batch 16] [--time 2048] [--steps 40] [--precision bf16] [--data 1] [--fsdp 1] [--tensor 1]
 *   [--loss own|plain] [--optimization 0..3] [--no-cache]
 *
 * The batch is that of all devices. `--loss plain` takes the cross-entropy of whole logits instead of the model's own, in chunks.
 */
import { parseArgs } from "node:util";
import { adamw, cosine, jit, llm, nn, random, Trainer, tree, vjp } from "aronnax";
import { RandomTokens } from "../../core/src/recipes/random-tokens.js";
import { Runtime } from "../../core/src/runtime/runtime.js";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "llama1b" },
    batch: { type: "string", default: "16" },
    time: { type: "string", default: "2048" },
    steps: { type: "string", default: "40" },
    precision: { type: "string", default: "bf16" },
    data: { type: "string", default: "1" },
    fsdp: { type: "string", default: "1" },
    tensor: { type: "string", default: "1" },
    loss: { type: "string", default: "own" },
    optimization: { type: "string" },
    "no-cache": { type: "boolean", default: false },
    check: { type: "boolean", default: false },
  },
});
const [batchSize, sequenceLength, steps] = [Number(values.batch), Number(values.time), Number(values.steps)];

/** The fused attention against plain float32 operations on this device: relative error of the output and of each gradient. */
async function checkAttention(): Promise<Record<string, number>> {
  const draw = (seed: number, heads: number) => random.normal(seed, [2, 256, heads, 64]);
  const [q, k, v, g] = [draw(1, 8), draw(2, 2), draw(3, 2), draw(4, 8)];
  const run = (dtype: "bfloat16" | "float32") =>
    jit((a: typeof q, b: typeof k, c: typeof v, d: typeof g) => {
      const attend = (...x: [typeof q, typeof k, typeof v]) =>
        nn.attention(...(x.map((t) => t.astype(dtype)) as [typeof q, typeof k, typeof v])).astype("float32");
      const [out, pull] = vjp(attend, a, b, c);
      return { out, gradients: pull(d) };
    })(q, k, v, g);
  const [narrow, wide] = [tree.named(run("bfloat16")), tree.named(run("float32"))];
  const errors: Record<string, number> = {};
  for (const [path, value] of narrow) {
    const expected = wide.get(path)!;
    const error = value.sub(expected).square().sum().sqrt().div(expected.square().sum().sqrt());
    errors[path] = await error.item();
  }
  return errors;
}

const runtime = Runtime.default();
const info = await runtime.ready;
const compilations: { name: string; seconds: number; cached: unknown }[] = [];
const { compile } = Runtime.prototype;
Runtime.prototype.compile = function (request) {
  const options = {
    ...(values.optimization !== undefined && {
      optimizationLevel: Number(values.optimization) as 0 | 1 | 2 | 3,
    }),
    ...(values["no-cache"] && { noCache: true }),
  };
  const program = compile.call(this, { ...request, options });
  program.info.then(({ name, compileSeconds, cached }) =>
    compilations.push({ name, seconds: compileSeconds, cached }),
  );
  return program;
};
const config = llm.configs[values.model as keyof typeof llm.configs] as llm.LlamaConfig;
const model = llm.llama(config);
const parallel = { data: Number(values.data), fsdp: Number(values.fsdp), tensor: Number(values.tensor) };
const devices = parallel.data * parallel.fsdp * parallel.tensor;
const trainer = new Trainer({
  name: `bench-${process.pid}`,
  folder: "/tmp/aronnax-bench-runs",
  model,
  data: new RandomTokens({ batchSize, sequenceLength, vocabSize: config.vocabSize }),
  optimizer: adamw({ learningRate: cosine({ peak: 3e-4, warmup: 10 }), weightDecay: 0.1, clipNorm: 1 }),
  steps,
  precision: values.precision as "bf16" | "float32",
  ...(values.loss === "plain" && {
    loss: (m, batch) => nn.crossEntropy((m as llm.Llama).forward(batch.inputs), batch.targets),
  }),
  parallel,
  printEvery: 0,
});
const attention = values.check && info.platform === "cuda" ? await checkAttention() : undefined;
await trainer.fit();
const rows = trainer.rows.filter((row) => row.loss !== undefined);
const timed = rows.slice(Math.min(10, rows.length >> 1)).map((row) => row.step_seconds!);
const median = [...timed].sort((a, b) => a - b)[timed.length >> 1]!;
const mean = timed.reduce((a, b) => a + b, 0) / timed.length;
const tokens = batchSize * sequenceLength;
const memory = await runtime.memory();
console.log(
  JSON.stringify({
    what: "aronnax",
    model: values.model,
    parameters: model.parameterCount,
    batchSize,
    sequenceLength,
    precision: values.precision,
    parallel,
    loss: values.loss,
    optimization: values.optimization,
    steps: timed.length,
    stepMilliseconds: { median: median * 1000, mean: mean * 1000 },
    tokensPerSecond: tokens / median,
    tokensPerSecondPerDevice: tokens / median / devices,
    mfu989: (model.flopsPerToken(sequenceLength) * tokens) / median / devices / 989e12,
    compilations: compilations.filter(({ seconds }) => seconds > 0.5),
    firstStepSeconds: rows[0]!.step_seconds,
    losses: { first: rows[0]!.loss, last: rows.at(-1)!.loss },
    peakBytes: memory.devices.slice(0, devices).map(({ peak }) => peak),
    attentionError: attention,
    devices: info.devices.map((d) => d.kind),
    versions: { ...info.versions, node: process.version },
  }),
);
runtime.close();
