/**
 * Trains adapters on a Llama of random weights and prints a JSON line for each mode: tokens/s over the steps after the first ones, the seconds that
 * attaching and compiling took, the device's memory. The peer is bench/peers/lora_hf.py (Hugging Face + PEFT).
 *
 * usage: lora [--mode lora,dora,fp8,fp8both,int8,qlora,full] [--model llama3_8b] [--batch 4] [--time 4096] [--steps 12] [--rank 16] [--targets all-linear]
 *   [--layers unrolled|scan] [--remat none] [--hlo FOLDER] [--flags xla_gpu_enable_triton_gemm=false,...] [--no-cache]
 *
 * Peak memory is the process's highest so far: start a process for each mode to compare it. `--hlo` keeps what XLA made of each step.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { adamw, full, jit, llm, nn, peft, random, type Tensor, Trainer, tree } from "aronnax";
import { materialize } from "../../core/src/array/evaluate.js";
import { isUndrawn } from "../../core/src/nn/module.js";
import { RandomTokens } from "../../core/src/recipes/random-tokens.js";
import { type Program, Runtime } from "../../core/src/runtime/runtime.js";

const { values } = parseArgs({
  options: {
    mode: { type: "string", default: "lora" },
    model: { type: "string", default: "llama3_8b" },
    batch: { type: "string", default: "4" },
    time: { type: "string", default: "4096" },
    steps: { type: "string", default: "12" },
    rank: { type: "string", default: "16" },
    targets: { type: "string", default: "all-linear" },
    layers: { type: "string", default: "unrolled" },
    remat: { type: "string", default: "none" },
    hlo: { type: "string" },
    flags: { type: "string", default: "" },
    "no-cache": { type: "boolean", default: false },
  },
});
const [batchSize, sequenceLength, steps] = [Number(values.batch), Number(values.time), Number(values.steps)];
const config = llm.configs[values.model as keyof typeof llm.configs] as llm.LlamaConfig;
const folder = mkdtempSync(join(tmpdir(), "aronnax-lora-"));
const runtime = Runtime.default();
const info = await runtime.ready;

interface Compilation {
  readonly name: string;
  readonly seconds: number;
  readonly program: Program;
}
let compilations: Compilation[] = [];
const flags: Record<string, string | boolean> = {};
for (const each of values.flags.split(",").filter((text) => text !== "")) {
  const [name, value] = each.split("=") as [string, string];
  flags[name] = value === "true" ? true : value === "false" ? false : value;
}
const { compile } = Runtime.prototype;
Runtime.prototype.compile = function (request) {
  const options = {
    ...request.options,
    flags: { ...request.options?.flags, ...flags },
    ...(values["no-cache"] && { noCache: true }),
  };
  const program = compile.call(this, { ...request, options });
  program.info.then(
    ({ name, compileSeconds: seconds }) => compilations.push({ name, seconds, program }),
    () => {},
  );
  return program;
};

/** A base in bfloat16 that was never there in float32. */
async function base(): Promise<llm.Llama> {
  const options = { layers: values.layers, remat: values.remat } as nn.LayerOptions;
  let i = 0;
  const model = tree.map((leaf) => drawn(leaf, i++), llm.llama(config, options));
  await runtime.sync();
  return model;
}

const programs = new Map<string, (seed: Tensor) => Tensor>();
function drawn(leaf: Tensor, index: number): Tensor {
  const { shape } = leaf;
  let program = programs.get(shape.join());
  if (program === undefined) {
    const norm = shape.length === 1;
    program = jit(
      (key: Tensor): Tensor =>
        norm
          ? full(shape, 1, { dtype: "bfloat16" })
          : random.normal(key, shape, { dtype: "bfloat16" }).mul(0.02),
      { name: "draw", tag: () => "parameter" },
    );
    programs.set(shape.join(), program);
  }
  return program(random.foldIn(0, index));
}

const adapter = { rank: Number(values.rank), alpha: 2 * Number(values.rank), targetModules: values.targets };
const donated = { donate: true } as const;

/** The model to train, of a base; frees what is not needed of it. */
const modes: Record<string, (model: llm.Llama) => llm.Llama> = {
  lora: (model) => peft.lora(model, adapter),
  dora: (model) => peft.lora(model, { ...adapter, dora: true }),
  fp8: (model) => peft.qlora(model, { ...adapter, quantize: { ...donated, format: "fp8" } }),
  fp8both: (model) => peft.qlora(model, { ...adapter, quantize: { ...donated, format: "fp8", both: true } }),
  int8: (model) => peft.qlora(model, { ...adapter, quantize: { ...donated, format: "int8" } }),
  qlora: (model) => peft.qlora(model, { ...adapter, quantize: donated }),
  ia3: (model) => peft.ia3(model),
  full: (model) => model,
};

async function measure(mode: string): Promise<void> {
  const make = modes[mode];
  if (make === undefined) throw new Error(`--mode ${mode}: one of ${Object.keys(modes).join(", ")}`);
  compilations = [];
  const plain = await base();
  const began = performance.now();
  const made = make(plain);
  // All that attaching makes, on the device; the first time with the programs that make it.
  const attached = drawnAdapters(made);
  materialize(tree.leaves(attached));
  await runtime.sync();
  const attachSeconds = (performance.now() - began) / 1000;
  const held = await runtime.memory();
  const trainer = new Trainer({
    name: mode,
    folder,
    model: attached,
    data: new RandomTokens({ batchSize, sequenceLength, vocabSize: config.vocabSize }),
    optimizer: adamw({ learningRate: 1e-4, clipNorm: 1 }),
    steps,
    precision: "bf16",
    printEvery: 0,
  });
  await trainer.fit();
  const rows = trainer.rows.filter((row) => row.loss !== undefined);
  // The rows' own seconds are means over some steps.
  const each = rows.slice(1).map((row, i) => row.time! - rows[i]!.time!);
  // The last ones are fetched at the end, and may come together.
  const timed = each.slice(0, Math.max(1, each.length - 2)).slice(each.length > 5 ? 1 : 0);
  const mean = timed.reduce((a, b) => a + b, 0) / timed.length;
  const { devices } = await runtime.memory();
  const [first] = rows;
  console.log(
    JSON.stringify({
      what: "aronnax",
      mode,
      model: values.model,
      batchSize,
      sequenceLength,
      rank: adapter.rank,
      targets: values.targets,
      layers: values.layers,
      remat: values.remat,
      flags: values.flags,
      parameters: attached.parameterCount,
      steps: timed.length,
      stepMilliseconds: mean * 1000,
      allMilliseconds: each.map((seconds) => Math.round(seconds * 1000)),
      tokensPerSecond: (batchSize * sequenceLength) / mean,
      mfu: rows.at(-1)!.mfu ?? null,
      attachSeconds,
      heldBytes: held.devices[0]?.buffers,
      peakBytes: devices[0]?.peak ?? null,
      predicted: {
        parameters: first!.memory_parameters,
        optimizer: first!.memory_optimizer,
        activations: first!.memory_activations,
      },
      losses: [first!.loss, rows.at(-1)!.loss],
      compilations: compilations
        .filter(({ seconds }) => seconds > 1)
        .map(({ name, seconds }) => ({ name, seconds })),
      devices: info.devices.map((d) => d.kind),
      versions: { ...info.versions, node: process.version },
    }),
  );
  if (values.hlo !== undefined) {
    const step = compilations.find(({ name }) => name.includes("train_step"));
    mkdirSync(values.hlo, { recursive: true });
    if (step !== undefined) writeFileSync(join(values.hlo, `${mode}.hlo`), await step.program.optimizedHlo());
  }
}

/** The model with the adapters' parameters drawn, which have no values yet. */
function drawnAdapters(model: llm.Llama): llm.Llama {
  return nn.initialize(model, 0, undefined, isUndrawn);
}

try {
  for (const mode of values.mode.split(",")) {
    await measure(mode);
    globalThis.gc?.();
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
// So that the next process finds the device's memory free.
await runtime.shutdown();
