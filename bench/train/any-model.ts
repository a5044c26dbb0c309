/**
 * Trainings of what is no language model, each a few steps: losses and figures of every step, to be compared between devices; and the memory and
 * time that frozen parts, masters, metrics and buffers cost.
 *
 * usage: any-model [--steps 20] [--scale 1] [--output FILE]
 * compare: ARONNAX_DEVICES=cpu any-model --output a.json; ARONNAX_DEVICES=cuda any-model --output b.json; any-model --compare a.json,b.json
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { adam, adamw, coupled, data, eye, metrics, nn, sgd, softplus, type Tensor, Trainer } from "aronnax";
import { Runtime } from "../../core/src/runtime/runtime.js";

const { values } = parseArgs({
  options: {
    steps: { type: "string", default: "20" },
    scale: { type: "string", default: "1" },
    output: { type: "string" },
    compare: { type: "string" },
  },
});
const [steps, scale] = [Number(values.steps), Number(values.scale)];
const folder = mkdtempSync(join(tmpdir(), "aronnax-any-"));

/** A source of numbers that follow from their index alone. */
function fields<F extends object>(batchSize: number, make: (index: number) => F) {
  return data.generated({ batchSize, make: ({ index }) => make(index) as never }) as data.BatchSource<F>;
}

function waves(index: number, shape: readonly number[]): { data: Float32Array; shape: readonly number[] } {
  const size = shape.reduce((n, d) => n * d, 1);
  return {
    shape,
    data: Float32Array.from(
      { length: size },
      (_, i) => Math.sin(0.37 * i + 1.7 * index) + Math.cos(0.011 * i * (index + 1)),
    ),
  };
}

class ConvNet extends nn.Module {
  stages = [16, 32].map((channels, i) => ({
    conv: new nn.Conv2d(i === 0 ? 3 : 16, channels, 3, { padding: 1, strides: 2 }),
    norm: new nn.BatchNorm(channels),
  }));
  head = new nn.Linear(32, 10, { bias: true });
  forward(x: Tensor, training: boolean): Tensor {
    const h = this.stages.reduce(
      (y, { conv, norm }) => norm.forward(conv.forward(y), { training }).relu(),
      x,
    );
    return this.head.forward(h.mean([2, 3]));
  }
}

class Gan extends nn.Module {
  g = nn.sequential(
    new nn.Linear(8, 64, { bias: true }),
    (x: Tensor) => x.relu(),
    new nn.Linear(64, 16, { bias: true }),
  );
  d = nn.sequential(
    new nn.Linear(16, 64, { bias: true }),
    (x: Tensor) => x.relu(),
    new nn.Linear(64, 1, { bias: true }),
  );
}

class Pair extends nn.Module {
  a = new nn.Linear(24, 16, { bias: true });
  b = new nn.Linear(40, 16, { bias: true });
}

class Wide extends nn.Module {
  base: nn.Linear;
  down: nn.Linear;
  up: nn.Linear;
  constructor(width: number) {
    super();
    this.base = new nn.Linear(width, width);
    this.down = new nn.Linear(width, 8);
    this.up = new nn.Linear(8, width, { init: nn.constantInit(0) });
  }
  forward(x: Tensor): Tensor {
    return this.base.forward(x).add(this.up.forward(this.down.forward(x)));
  }
}

const rows = 16 * scale;
const images = () =>
  fields(rows, (i) => ({
    image: waves(i, [rows, 3, 32, 32]),
    label: Int32Array.from({ length: rows }, (_, k) => (k * 7 + i) % 10),
  }));
const common = (name: string) => ({ name, folder, steps, printEvery: 0, seed: 1 });

const convNet = (name: string, more: object = {}) =>
  new Trainer({
    ...common(name),
    model: new ConvNet(),
    data: images(),
    optimizer: adamw({ learningRate: 3e-3, clipNorm: 1 }),
    loss: (m, { image, label }, { training }) => {
      const logits = m.forward(image.astype(m.head.weight.dtype), training);
      const right = logits.argmax(-1).equal(label).astype("float32");
      return { loss: nn.crossEntropy(logits, label), metrics: { accuracy: metrics.mean(right) } };
    },
    ...more,
  });

const adapted = (name: string, width: number, more: object = {}) =>
  new Trainer({
    ...common(name),
    model: nn.freeze(new Wide(width), "base"),
    data: fields(rows, (i) => ({ x: waves(i, [rows, width]) })),
    optimizer: adamw({ learningRate: 1e-3 }),
    loss: (m, { x }) => m.forward(x.astype(m.down.weight.dtype)).sub(1).square().mean(),
    ...more,
  });

const cases: Record<
  string,
  () => { fit(): Promise<unknown>; readonly rows: readonly Record<string, number>[] }
> = {
  batch_norm: () => convNet("batch-norm"),
  batch_norm_in_parts: () => convNet("batch-norm-parts", { accumulate: 4 }),
  batch_norm_float16: () => convNet("batch-norm-float16", { precision: "float16" }),
  gan: () =>
    new Trainer({
      ...common("gan"),
      model: new Gan(),
      data: fields(rows, (i) => ({ real: waves(i, [rows, 16]), z: waves(i + 1000, [rows, 8]) })),
      optimizers: { g: adam({ learningRate: 1e-3 }), d: adam({ learningRate: 1e-3 }) },
      step({ update }) {
        update("d", (m, { real, z }) =>
          softplus(m.d.forward(real).neg())
            .mean()
            .add(softplus(m.d.forward(m.g.forward(z).stopGradient())).mean()),
        );
        update("g", (m, { z }) => softplus(m.d.forward(m.g.forward(z)).neg()).mean(), { every: 2 });
      },
    }),
  contrastive_in_parts: () =>
    new Trainer({
      ...common("contrastive"),
      model: new Pair(),
      data: fields(rows, (i) => ({ x: waves(i, [rows, 24]), y: waves(i + 500, [rows, 40]) })),
      accumulate: 4,
      optimizer: sgd({ learningRate: 0.1 }),
      loss: coupled<Pair, { readonly x: Tensor; readonly y: Tensor }, { a: Tensor; b: Tensor }>({
        embed: (m, { x, y }) => {
          const unit = (h: Tensor): Tensor => h.div(h.square().sum(-1, { keepDims: true }).sqrt());
          return { a: unit(m.a.forward(x)), b: unit(m.b.forward(y)) };
        },
        loss: (_, { a, b }) => {
          const logits = a.matmul(b.mT).mul(8);
          const own = logits.mul(eye(logits.shape[0]!)).sum(-1);
          return logits.logsumexp(-1).add(logits.logsumexp(0)).mul(0.5).sub(own).mean();
        },
      }),
    }),
  frozen: () => adapted("frozen", 512 * scale),
  frozen_average: () => adapted("frozen-average", 512 * scale, { average: { decay: 0.99 } }),
};

/** The largest relative difference of each case's losses in two files. */
function compare([first, second]: readonly string[]): void {
  type File = { cases: Record<string, { losses: number[] }> };
  const [a, b] = [first!, second!].map((path) => (JSON.parse(readFileSync(path, "utf8")) as File).cases);
  for (const [name, { losses }] of Object.entries(a!)) {
    const differences = losses.map(
      (x, i) => Math.abs(x - b![name]!.losses[i]!) / Math.max(1e-6, Math.abs(x)),
    );
    console.log(JSON.stringify({ case: name, first: differences[0], largest: Math.max(...differences) }));
  }
}

async function measure(): Promise<void> {
  const info = await Runtime.default().ready;
  const found: Record<string, object> = {};
  for (const [name, make] of Object.entries(cases)) {
    const before = (await Runtime.default().memory()).devices[0]!;
    const trainer = make();
    await trainer.fit();
    const after = (await Runtime.default().memory()).devices[0]!;
    const own = trainer.rows.filter((row) => row.loss !== undefined);
    const seconds = own.map((row) => row.step_seconds!).sort((x, y) => x - y)[own.length >> 1]!;
    found[name] = {
      losses: own.map((row) => row.loss!),
      stepMilliseconds: 1000 * seconds,
      parameterBytes: (after.byTag.parameter ?? 0) - (before.byTag.parameter ?? 0),
      optimizerBytes: (after.byTag.optimizer ?? 0) - (before.byTag.optimizer ?? 0),
      ...(own.at(-1)!.loss_scale !== undefined && { lossScale: own.at(-1)!.loss_scale }),
    };
    console.log(JSON.stringify({ case: name, ...found[name], losses: own.slice(-1).map((row) => row.loss) }));
  }
  const result = {
    date: new Date().toISOString(),
    devices: info.devices.map((d) => d.kind),
    versions: { ...info.versions, node: process.version },
    command: `any-model --steps ${steps} --scale ${scale}`,
    cases: found,
  };
  if (values.output !== undefined) writeFileSync(values.output, `${JSON.stringify(result, null, 2)}\n`);
}

try {
  if (values.compare !== undefined) compare(values.compare.split(","));
  else await measure();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
if (values.compare === undefined) Runtime.default().close();
