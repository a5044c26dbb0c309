/**
 * What each feature of the Trainer costs on this device: optimizers, accumulation, statistics, leaving bad updates out, averaging, checkpoints.
 * One JSON line for each: milliseconds a step (median), share of the peak, measured peak memory beside what was predicted before launch.
 *
 * usage: training-features [--model llama1b] [--batch 8] [--time 2048] [--steps 20] [--only name,name]
 */
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  adafactor,
  adam,
  adamw,
  lion,
  llm,
  metrics,
  muon,
  nn,
  sgd,
  type Tensor,
  Trainer,
  type TrainerConfig,
} from "aronnax";
import { RandomTokens } from "../../core/src/recipes/random-tokens.js";
import { Runtime } from "../../core/src/runtime/runtime.js";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "llama1b" },
    batch: { type: "string", default: "8" },
    time: { type: "string", default: "2048" },
    steps: { type: "string", default: "20" },
    precision: { type: "string", default: "bf16" },
    only: { type: "string" },
  },
});
const [batchSize, sequenceLength, steps] = [Number(values.batch), Number(values.time), Number(values.steps)];
const modelConfig = llm.configs[values.model as keyof typeof llm.configs] as llm.LlamaConfig;
const folder = mkdtempSync(join(tmpdir(), "aronnax-features-"));

class Adapter extends nn.Module {
  down: nn.Linear;
  up: nn.Linear;
  constructor(readonly base: nn.Linear) {
    super();
    const [outputs, inputs] = base.weight.shape as [number, number];
    this.down = new nn.Linear(inputs, 16);
    this.up = new nn.Linear(16, outputs, { init: nn.constantInit(0) });
  }
  forward(x: Tensor): Tensor {
    return this.base.forward(x).add(this.up.forward(this.down.forward(x)));
  }
}

function withAdapters(): ReturnType<typeof llm.llama> {
  const base = nn.castTree(nn.initialize(llm.llama(modelConfig), 0), "bfloat16");
  return nn.replace(nn.freeze(base), /selfAttn\.\w+Proj$/, (linear) => new Adapter(linear as nn.Linear));
}

type Config = TrainerConfig<ReturnType<typeof llm.llama>>;
const rate = { learningRate: 1e-4, weightDecay: 0.1, clipNorm: 1 };

const cases: Record<string, () => Partial<Config>> = {
  adamw: () => ({}),
  adamw_bfloat16_states: () => ({ optimizer: adamw({ ...rate, stateDType: "bfloat16" }) }),
  adam: () => ({ optimizer: adam({ learningRate: 1e-4 }) }),
  sgd: () => ({ optimizer: sgd({ learningRate: 1e-2 }) }),
  lion: () => ({ optimizer: lion({ ...rate, learningRate: 3e-5 }) }),
  adafactor: () => ({ optimizer: adafactor({ learningRate: 1e-3 }) }),
  muon: () => ({ optimizer: muon(rate) }),
  frozen_layers: () => ({ optimizer: adamw({ ...rate, groups: [{ match: "model.layers", frozen: true }] }) }),
  accumulate_2: () => ({ accumulate: 2 }),
  accumulate_8: () => ({ accumulate: 8 }),
  skip: () => ({ onDivergence: "skip", spikes: { deviations: 8 } }),
  average: () => ({ average: { decay: 0.999 } }),
  statistics_every_1: () => ({ statistics: { every: 1 } }),
  activations_every_1: () => ({ statistics: { every: 1, activations: true } }),
  // Low-rank products beside every projection of attention, on a frozen bfloat16 base.
  adapters: () => ({ model: withAdapters() }),
  bfloat16_checkpoint: () => ({ model: nn.castTree(nn.initialize(llm.llama(modelConfig), 0), "bfloat16") }),
  bfloat16_parameters: () => ({ precision: { compute: "bfloat16", parameters: "bfloat16" } }),
  float16: () => ({ precision: "float16" }),
  metrics: () => ({
    loss: (m, batch) => ({
      loss: m.loss(batch),
      metrics: {
        weight: metrics.mean(m.model.norm.weight.square()),
        largest: metrics.max(m.model.norm.weight),
      },
    }),
  }),
  checkpoints: () => ({ checkpoints: { every: Math.ceil(steps / 2), keep: 1 } }),
};

const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1]!;
const info = await Runtime.default().ready;

/** Bytes of all files below a folder. */
function bytesBelow(path: string): number {
  if (!existsSync(path)) return 0;
  return readdirSync(path, { recursive: true, encoding: "utf8" }).reduce((sum, name) => {
    const stat = statSync(join(path, name));
    return sum + (stat.isFile() ? stat.size : 0);
  }, 0);
}

async function measure(name: string, more: Partial<Config>): Promise<void> {
  const arrivals: number[] = [];
  const saves: number[] = [];
  const trainer = new Trainer<ReturnType<typeof llm.llama>>({
    name,
    folder,
    model: llm.llama(modelConfig),
    data: new RandomTokens({ batchSize, sequenceLength, vocabSize: modelConfig.vocabSize }),
    optimizer: adamw(rate),
    steps,
    precision: values.precision as "bf16",
    printEvery: 0,
    ...more,
    callbacks: [
      {
        onStep: () => void arrivals.push(performance.now()),
        onCheckpoint: () => void saves.push(performance.now()),
      },
    ],
  });
  const began = performance.now();
  const { loss } = await trainer.fit();
  const ended = performance.now();
  const gaps = arrivals.slice(1).map((at, i) => at - arrivals[i]!);
  const { devices } = await Runtime.default().memory();
  const row = trainer.rows[0]!;
  const saved = bytesBelow(join(folder, name, "checkpoints"));
  console.log(
    JSON.stringify({
      case: name,
      loss,
      stepMilliseconds: median(gaps.slice(Math.min(3, gaps.length >> 1))),
      longestStepMilliseconds: Math.max(...gaps.slice(3)),
      firstStepSeconds: (arrivals[0]! - began) / 1000,
      mfu: trainer.rows.at(-1)!.mfu ?? null,
      predicted: {
        parameters: row.memory_parameters,
        optimizer: row.memory_optimizer,
        activations: row.memory_activations,
      },
      // The process's highest so far: start a process for each case (--only) to compare it with the prediction.
      peakBytes: devices[0]?.peak ?? null,
      ...(saves.length > 0 && {
        checkpointBytes: saved,
        // Nothing but the last save happens after the last step.
        lastSaveSeconds: (ended - arrivals.at(-1)!) / 1000,
      }),
    }),
  );
}

try {
  const only = values.only?.split(",");
  console.log(
    JSON.stringify({
      model: values.model,
      batchSize,
      sequenceLength,
      steps,
      devices: info.devices.map((d) => d.kind),
      versions: { ...info.versions, node: process.version },
    }),
  );
  for (const [name, more] of Object.entries(cases)) {
    if (only !== undefined && !only.includes(name)) continue;
    await measure(name, more());
    globalThis.gc?.();
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
Runtime.default().close();
