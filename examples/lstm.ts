/** The adding problem (Hochreiter & Schmidhuber 1997, section 5.4): the sum of the two marked numbers of a sequence. */
import { adam, data, nn, type Tensor, Trainer } from "aronnax";

class Adder extends nn.Module {
  lstm = new nn.LSTM(2, 32);
  head = new nn.Linear(32, 1, { bias: true });

  /** [rows, time, 2] to [rows]. */
  forward(x: Tensor, lengths: Tensor): Tensor {
    const { state } = this.lstm.forward(x, { lengths });
    return this.head.forward(state.hidden.slice(-1)).squeeze(-1);
  }
}

const [batchSize, time] = [64, 12];

const sequences = data.generated({
  batchSize,
  validation: 4,
  make: ({ random }) => {
    const x = Float32Array.from({ length: batchSize * time * 2 }, (_, i) =>
      i % 2 === 0 ? random.uniform() : 0,
    );
    const sum = new Float32Array(batchSize);
    const lengths = Int32Array.from(sum, () => 8 + random.below(5));
    for (const [row, length] of lengths.entries()) {
      for (const at of [random.below(length / 2), Math.ceil(length / 2) + random.below(length / 2)]) {
        x[2 * (row * time + at) + 1] = 1;
        sum[row]! += x[2 * (row * time + at)]!;
      }
    }
    return { x: { data: x, shape: [batchSize, time, 2] }, lengths, sum };
  },
});

export async function run() {
  const trainer = new Trainer({
    name: "lstm",
    model: new Adder(),
    data: sequences,
    optimizer: adam({ learningRate: 0.01, clipNorm: 1 }),
    steps: 400,
    printEvery: 0,
    loss: (model, { x, lengths, sum }) => ({
      loss: model.forward(x, lengths).sub(sum).square().mean(),
      // Who always says 1 is as far off as can be known without the marks.
      metrics: { variance: sum.sub(1).square().mean() },
    }),
  });
  await trainer.fit();
  const { valid_loss, valid_variance } = (await trainer.evaluate())!;
  return { error: valid_loss!, constant: valid_variance! };
}

if (import.meta.main) console.log(await run());
