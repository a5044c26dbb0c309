/** Fine-tuning what a run has left, measured by what the model writes: the checkpoint with the most right answers is kept. */
import { adamw, data, llm, Trainer, text } from "aronnax";

const tokenizer = text.byteTokenizer();
const config = { ...llm.configs.tiny, hiddenSize: 64, intermediateSize: 128, layers: 2 };
const letter = (n: number) => String.fromCharCode(97 + (n % 8));
const [batchSize, asked] = [64, 4];

/** Lines such as "adb>adb": three letters, and each moved on by `shift`; only what comes after the ">" counts. */
const lines = (shift: number) =>
  data.generated({
    batchSize,
    validation: 1,
    make: ({ random }) => {
      const texts = Array.from({ length: batchSize }, () => {
        const letters = Array.from({ length: asked - 1 }, () => random.below(8));
        return `${letters.map(letter).join("")}>${letters.map((n) => letter(n + shift)).join("")}`;
      });
      const ids = texts.map((line) => [...tokenizer.encode(line)]);
      const shape = [batchSize, 2 * asked - 2];
      return {
        inputs: { data: Int32Array.from(ids.flatMap((line) => line.slice(0, -1))), shape },
        // -100 does not count.
        targets: {
          data: Int32Array.from(ids.flatMap((line) => line.map((id, i) => (i < asked ? -100 : id)).slice(1))),
          shape,
        },
      };
    },
  });

const trainerOf = (name: string, model: llm.Llama, shift: number, steps: number) =>
  new Trainer({
    name,
    model,
    data: lines(shift),
    optimizer: adamw({ learningRate: 5e-3, clipNorm: 1 }),
    steps,
    printEvery: 0,
    checkpoints: { every: 40, keepBest: { count: 1, by: "valid_right", mode: "max" } },
    validation: {
      every: 40,
      async measure({ model: writer, batches }) {
        let right = 0;
        for await (const { inputs, targets } of batches) {
          const [question, answer] = [inputs.data, targets.data].map((ids) =>
            Array.from({ length: batchSize }, (_, row) => [
              ...ids.subarray(row * (2 * asked - 2), (row + 1) * (2 * asked - 2)),
            ]),
          ) as [number[][], number[][]];
          const prompts = question.map((ids) => tokenizer.decode(ids.slice(0, asked)));
          const wanted = answer.map((ids) => tokenizer.decode(ids.slice(asked - 1)));
          const options = { tokenizer, maxTokens: asked - 1, temperature: 0, batchSize };
          const written = await llm.complete(writer, prompts, options);
          right = written.filter((each, i) => each.text === wanted[i]).length / batchSize;
        }
        return { right };
      },
    },
  });

export async function run() {
  const first = trainerOf("copy", llm.llama(config), 0, 80);
  const copied = (await first.fit()).validation!.valid_right!;
  const trainer = trainerOf("shift", await llm.load("runs/copy"), 1, 80);
  const before = (await trainer.evaluate())!.valid_right!;
  const { validation } = await trainer.fit();
  return { copied, before, after: validation!.valid_right! };
}

if (import.meta.main) console.log(await run());
