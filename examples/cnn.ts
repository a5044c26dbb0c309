/** A convolutional network with batch normalization (Ioffe & Szegedy 2015), whose running statistics are buffers. */
import { adamw, cosine, data, metrics, nn, relu, Trainer } from "aronnax";
import { digits } from "./digits.ts";

const stage = (inputs: number, outputs: number) =>
  nn.sequential(
    new nn.Conv2d(inputs, outputs, 3, { padding: 1, bias: false }),
    new nn.BatchNorm(outputs),
    relu,
  );

export async function run() {
  const trainer = new Trainer({
    name: "cnn",
    model: nn.sequential(
      stage(1, 16),
      new nn.MaxPool(2),
      stage(16, 32),
      new nn.GlobalPool(),
      new nn.Linear(32, 10, { bias: true }),
    ),
    data: data.arrays(digits, { batchSize: 64, validation: 0.2 }),
    optimizer: adamw({ learningRate: cosine({ peak: 0.02, warmup: 10 }), weightDecay: 0.01 }),
    steps: 120,
    printEvery: 0,
    loss: (model, { image, label }, { training }) => {
      const logits = model.forward(image, { training });
      const right = logits.argmax(-1).equal(label).astype("float32");
      return { loss: nn.crossEntropy(logits, label), metrics: { accuracy: metrics.mean(right) } };
    },
  });
  const untrained = (await trainer.evaluate())!.valid_accuracy!;
  await trainer.fit();
  return { accuracy: (await trainer.evaluate())!.valid_accuracy!, untrained };
}

if (import.meta.main) console.log(await run());
