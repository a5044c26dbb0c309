/** Direct preference optimization (Rafailov et al. 2023, equation 7): the reference is the model as it was, in the same memory. */
import { adamw, data, llm, metrics, nn, type Tensor, Trainer } from "aronnax";

const [batchSize, length, vocabSize, beta] = [32, 9, 16, 0.1];
const config = { ...llm.configs.tiny, vocabSize, hiddenSize: 32, intermediateSize: 64, layers: 2, heads: 2 };

/** log p of tokens [rows, time] after the first: [rows]. */
function logProbability(model: llm.LanguageModel, tokens: Tensor): Tensor {
  const next = tokens.slice(null, [1, null]).expandDims(-1);
  return model
    .forward(tokens.slice(null, [0, -1]))
    .logSoftmax()
    .takeAlongAxis(next, -1)
    .sum([1, 2]);
}

/** Pairs of random texts, of which that with the larger sum of tokens is preferred. */
const preferences = data.generated({
  batchSize,
  validation: 4,
  make: ({ random }) => {
    const draw = () => [0, ...Array.from({ length: length - 1 }, () => 1 + random.below(vocabSize - 1))];
    const sum = (text: number[]) => text.reduce((a, b) => a + b);
    const pairs = Array.from({ length: batchSize }, () => [draw(), draw()].sort((a, b) => sum(b) - sum(a)));
    const tokens = (side: 0 | 1) => ({
      data: Int32Array.from(pairs.flatMap((p) => p[side]!)),
      shape: [batchSize, length],
    });
    return { chosen: tokens(0), rejected: tokens(1) };
  },
});

export async function run() {
  const base = nn.initialize(llm.llama(config), 0);
  const trainer = new Trainer({
    name: "dpo",
    model: base,
    references: { base },
    data: preferences,
    optimizer: adamw({ learningRate: 3e-3, clipNorm: 1 }),
    steps: 80,
    printEvery: 0,
    loss: (model, { chosen, rejected }, { references }) => {
      const reward = (tokens: Tensor) =>
        logProbability(model, tokens)
          .sub(logProbability(references.base as typeof base, tokens))
          .mul(beta);
      const margin = reward(chosen).sub(reward(rejected));
      const accuracy = metrics.mean(margin.greater(0).astype("float32"));
      return { loss: margin.logSigmoid().neg().mean(), metrics: { accuracy, margin: metrics.mean(margin) } };
    },
  });
  const untrained = (await trainer.evaluate())!;
  await trainer.fit();
  const { valid_accuracy, valid_loss } = (await trainer.evaluate())!;
  return { accuracy: valid_accuracy!, loss: valid_loss!, untrained: untrained.valid_loss! };
}

if (import.meta.main) console.log(await run());
