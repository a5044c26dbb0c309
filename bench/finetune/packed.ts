/**
 * Full fine-tuning on packed conversations beside pretraining, of one model in one run: tokens/s, the places that are filled up, and what the compiled step
 * needs beside its arguments, with logits for the learned tokens only and for all. A line of JSON for each, and one with the ratios.
 *
 * usage: finetune-packed [--model llama1b] [--batch 8] [--time 2048] [--steps 30] [--precision bf16] [--answer 0.3] [--vocabulary N]
 *
 * `--answer` is the share of a conversation's characters that the assistant says.
 */
import { parseArgs } from "node:util";
import { adamw, cosine, llm, Trainer, text } from "aronnax";
import { Sfc32 } from "../../core/src/data/random.js";
import { RandomTokens } from "../../core/src/recipes/random-tokens.js";
import { Runtime } from "../../core/src/runtime/runtime.js";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "llama1b" },
    batch: { type: "string", default: "8" },
    time: { type: "string", default: "2048" },
    steps: { type: "string", default: "30" },
    precision: { type: "string", default: "bf16" },
    vocabulary: { type: "string" },
    answer: { type: "string", default: "0.3" },
  },
});
const [batchSize, sequenceLength, steps] = [Number(values.batch), Number(values.time), Number(values.steps)];
const published = llm.configs[values.model as keyof typeof llm.configs] as llm.LlamaConfig;
const config = { ...published, vocabSize: Number(values.vocabulary ?? published.vocabSize) };

const tokenizer = text.byteTokenizer();
tokenizer.config.chat_template =
  "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}{% if m.role == 'assistant' %}<|endoftext|>{% endif %}{% endfor %}" +
  "{% if add_generation_prompt %}a:{% endif %}";

/** Conversations of a 32nd to half of a row, a token a letter, twice as many as the steps take. */
function conversations(): object[] {
  const random = new Sfc32([7]);
  const letters = (count: number) =>
    Array.from({ length: count }, () => String.fromCharCode(97 + random.below(26))).join("");
  const wanted = 2 * steps * batchSize * sequenceLength;
  const made: object[] = [];
  for (let tokens = 0; tokens < wanted; ) {
    const length = Math.floor((sequenceLength / 32) * 16 ** random.uniform());
    const answer = Math.max(1, Math.floor(length * Number(values.answer)));
    made.push({ prompt: letters(Math.max(1, length - answer)), completion: letters(answer) });
    tokens += length;
  }
  return made;
}

const runtime = Runtime.default();
const info = await runtime.ready;
const shape = { batchSize, sequenceLength };
const talks = text.chat(conversations(), { tokenizer, ...shape });
const report = await talks.report();

/** The same batches without the places that count, so that the logits of all are computed. */
const allLogits = {
  ...shape,
  vocabSize: talks.vocabSize,
  prepare: () => talks.prepare(),
  async next() {
    const { supervised: _, ...batch } = await talks.next();
    return batch;
  },
  async *validation() {},
  position: () => talks.position(),
  restore: (position: text.DataPosition) => talks.restore(position),
};
const sources: Record<string, text.BatchSource> = {
  pretraining: new RandomTokens({ ...shape, vocabSize: config.vocabSize }),
  conversations: talks as unknown as text.BatchSource,
  "conversations, all logits": allLogits as unknown as text.BatchSource,
};
const seconds: Record<string, number> = {};
for (const [what, data] of Object.entries(sources)) {
  const trainer = new Trainer({
    name: `bench-${process.pid}-${what.replace(/\W+/g, "-")}`,
    folder: "/tmp/aronnax-bench-runs",
    model: llm.llama(config),
    data,
    optimizer: adamw({ learningRate: cosine({ peak: 1e-5, warmup: 10 }), weightDecay: 0.1, clipNorm: 1 }),
    steps,
    precision: values.precision as "bf16" | "float32",
    printEvery: 0,
  });
  await trainer.fit();
  const rows = trainer.rows.filter((row) => row.loss !== undefined);
  const timed = rows.slice(Math.min(10, rows.length >> 1)).map((row) => row.step_seconds!);
  const median = timed.sort((a, b) => a - b)[timed.length >> 1]!;
  seconds[what] = median;
  console.log(
    JSON.stringify({
      what,
      model: values.model,
      ...shape,
      precision: values.precision,
      device: info.devices[0]!.kind,
      stepMilliseconds: median * 1000,
      tokensPerSecond: (batchSize * sequenceLength) / median,
      stepBytes: trainer.rows.find((row) => row.memory_activations !== undefined)?.memory_activations,
      loss: rows.at(-1)!.loss,
    }),
  );
}
console.log(
  JSON.stringify({
    speedOfPretraining: seconds.pretraining! / seconds.conversations!,
    filledUp: 1 - (report.tokens - report.rows) / report.places,
    learned: report.supervised / report.tokens,
    capacity: report.sizes[0]!.capacity / sequenceLength,
  }),
);
