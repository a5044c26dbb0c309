/** Group relative policy optimization (Shao et al. 2024, section 4.1): draw, reward, compare within the group, update. */
import { adamw, llm, nn, Trainer, text } from "aronnax";

const [group, maxTokens] = [32, 8];
const tokenizer = text.byteTokenizer();
const prompts = ["a", "b"].flatMap((prompt) => Array.from({ length: group }, () => prompt));
/** The share of digits among the bytes. */
const reward = (ids: readonly number[]) => ids.filter((id) => id >= 48 && id < 58).length / maxTokens;

/** What was drawn after each prompt of one token, as a batch of sequences. */
async function rollOut(model: llm.LanguageModel, seed: number) {
  const options = {
    tokenizer,
    maxTokens,
    seed,
    stopIds: [],
    batchSize: prompts.length,
    logProbabilities: true,
  };
  const drawn = await llm.complete(model, prompts, options);
  const rewards = drawn.map(({ ids }) => reward(ids));
  const advantages = rewards.map((r, i) => {
    const others = rewards.slice(i - (i % group), i - (i % group) + group);
    const mean = others.reduce((a, b) => a + b) / group;
    return (r - mean) / (Math.sqrt(others.reduce((s, x) => s + (x - mean) ** 2, 0) / group) + 1e-4);
  });
  const shape = [prompts.length, maxTokens];
  return {
    reward: rewards.reduce((a, b) => a + b) / rewards.length,
    batch: {
      inputs: {
        data: Int32Array.from(
          drawn.flatMap(({ ids }, i) => [prompts[i]!.charCodeAt(0), ...ids.slice(0, -1)]),
        ),
        shape,
      },
      drawn: { data: Int32Array.from(drawn.flatMap(({ ids }) => ids)), shape },
      was: { data: Float32Array.from(drawn.flatMap((d) => d.logProbabilities!)), shape },
      advantages: Float32Array.from(advantages),
    },
  };
}

export async function run() {
  const model = nn.initialize(
    llm.llama({ ...llm.configs.tiny, hiddenSize: 32, intermediateSize: 64, layers: 1, heads: 2 }),
    0,
  );
  const trainer = new Trainer<typeof model, Awaited<ReturnType<typeof rollOut>>["batch"]>({
    name: "grpo",
    model,
    optimizer: adamw({ learningRate: 0.01, clipNorm: 1 }),
    steps: 30,
    printEvery: 0,
    loss: (policy, { inputs, drawn, was, advantages }) => {
      const now = policy.forward(inputs).logSoftmax().takeAlongAxis(drawn.expandDims(-1), -1).squeeze(-1);
      const ratio = now.sub(was).exp();
      const weighed = (r: typeof ratio) => r.mul(advantages.expandDims(1));
      return weighed(ratio)
        .minimum(weighed(ratio.clip(0.8, 1.2)))
        .mean()
        .neg();
    },
  });
  const rewards: number[] = [];
  for (let step = 0; step < 30; step++) {
    const { reward: mean, batch } = await rollOut(trainer.model, step);
    rewards.push(mean);
    await trainer.update(batch);
  }
  const { reward: last } = await rollOut(trainer.model, 30);
  return { reward: last, untrained: rewards[0]! };
}

if (import.meta.main) console.log(await run());
