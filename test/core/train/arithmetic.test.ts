/** A whole training beside the same in double precision, written out here: weights, accumulation, clipping, AdamW, schedule, average, resume. */
import "../../support/runtime.js";
import { adamw, cosine, nn, type Tensor, Trainer, type TrainerConfig, type text } from "aronnax";
import { expect, it } from "vitest";
import { altered, folder, source } from "./support.js";

const size = 257;

/** Logits of the next token by the token before it. */
class Bigram extends nn.Module {
  table = new nn.Embedding(size, size);
  forward(tokens: Tensor): Tensor {
    return this.table.forward(tokens);
  }
}

const [steps, peak, final, warmup, decay, limit] = [12, 0.05, 0.001, 4, 0.1, 0.05];
const seen: text.Batch[] = [];

/** Rows that weigh differently, the second half of a batch (its second part) far less. */
function weighed(batch: text.Batch, index: number): text.Batch {
  const weights = Float32Array.from(batch.inputs, (id, i) => (((id + i) % 5) / 4) * (i < 32 ? 1 : 0.1));
  const changed = { ...batch, weights };
  seen[index] = changed;
  return changed;
}

function config(more: Partial<TrainerConfig<Bigram>> = {}): TrainerConfig<Bigram> {
  return {
    name: "arithmetic",
    folder,
    model: new Bigram(),
    seed: 3,
    data: altered(source(), weighed),
    steps,
    accumulate: 2,
    average: { decay: 0.9 },
    checkpoints: { every: 50 },
    printEvery: 0,
    optimizer: adamw({
      learningRate: cosine({ peak, warmup, final }),
      weightDecay: decay,
      clipNorm: limit,
      beta2: 0.95,
    }),
    ...more,
  };
}

/** Mean loss by weights, and its gradient. */
function lossAndGradient(table: Float64Array, { inputs, targets, weights }: text.Batch) {
  const gradient = new Float64Array(table.length);
  const total = weights!.reduce((sum, w) => sum + w, 0);
  let loss = 0;
  for (const [i, id] of inputs.entries()) {
    const share = weights![i]! / total;
    const exponentials = table.subarray(id * size, (id + 1) * size).map(Math.exp);
    const sum = exponentials.reduce((a, b) => a + b, 0);
    loss += share * (Math.log(sum) - table[id * size + targets[i]!]!);
    for (let k = 0; k < size; k++) gradient[id * size + k]! += (share * exponentials[k]!) / sum;
    gradient[id * size + targets[i]!]! -= share;
  }
  return { loss, gradient };
}

it("gives every loss, norm and rate, the parameters and their average", async () => {
  const untouched = new Trainer(
    config({ name: "start", steps: 1, optimizer: adamw({ learningRate: 0 }), data: source() }),
  );
  await untouched.fit();
  const table = Float64Array.from((await untouched.model.table.weight.data()) as Float32Array);
  const average = table.slice();
  const [mean, square] = [new Float64Array(table.length), new Float64Array(table.length)];

  const half = {
    onStep: ({ step }: { step: number }, t: { stop(why: string): void }) =>
      void (step === 5 && t.stop("half")),
  };
  await new Trainer(config({ callbacks: [half] })).fit();
  const resumed = new Trainer(config({ resume: true }));
  await resumed.fit();
  const rows = resumed.rows.filter((row) => row.loss !== undefined);
  expect(rows).toHaveLength(steps);

  for (const [i, row] of rows.entries()) {
    const { loss, gradient } = lossAndGradient(table, seen[i]!);
    const norm = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
    const turn = Math.cos((Math.PI * (i - warmup)) / (steps - warmup));
    const rate = i < warmup ? (peak * (i + 1)) / warmup : final + ((peak - final) * (1 + turn)) / 2;
    expect(Math.abs(row.loss! - loss) / loss, `loss of step ${i + 1}`).toBeLessThan(3e-6);
    expect(Math.abs(row.gradient_norm! - norm) / norm, `norm of step ${i + 1}`).toBeLessThan(3e-6);
    expect(Math.abs(row.learning_rate! - rate) / rate, `rate of step ${i + 1}`).toBeLessThan(3e-6);
    const factor = Math.min(1, limit / (norm + 1e-6));
    const [meanShare, squareShare] = [1 - 0.9 ** (i + 1), 1 - 0.95 ** (i + 1)];
    for (let k = 0; k < table.length; k++) {
      const g = gradient[k]! * factor;
      mean[k] = 0.9 * mean[k]! + 0.1 * g;
      square[k] = 0.95 * square[k]! + 0.05 * g * g;
      const direction = mean[k]! / meanShare / (Math.sqrt(square[k]! / squareShare) + 1e-8);
      table[k]! -= rate * (direction + decay * table[k]!);
      average[k] = 0.9 * average[k]! + 0.1 * table[k]!;
    }
  }
  const farthest = async (found: Tensor, wanted: Float64Array): Promise<number> => {
    const values = (await found.data()) as Float32Array;
    return wanted.reduce((most, x, k) => Math.max(most, Math.abs(x - values[k]!)), 0);
  };
  expect(await farthest(resumed.model.table.weight, table)).toBeLessThan(2e-6);
  expect(await farthest(resumed.averaged!.table.weight, average)).toBeLessThan(2e-6);
});
