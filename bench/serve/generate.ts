/**
 * Writes text with a Llama of random weights and prints its speed as lines of JSON, one for each batch size and number of tokens that a call
 * decodes. `--check` first compares tokens, in float32: a batch against each prompt alone, and cached decoding against none.
 *
 * usage: generate [--model llama1b] [--batches 1,16,64] [--calls 1,8,32] [--prompt 128] [--tokens 128] [--sampling greedy|filters] [--check]
 */
import { parseArgs } from "node:util";
import { llm, nn, tensor } from "aronnax";
import { Runtime } from "../../core/src/runtime/runtime.js";
import { bareTokenizer } from "./bare-tokenizer.js";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "llama1b" },
    batches: { type: "string", default: "1,16,64" },
    calls: { type: "string", default: "1,8,32" },
    prompt: { type: "string", default: "128" },
    tokens: { type: "string", default: "128" },
    sampling: { type: "string", default: "greedy" },
    check: { type: "boolean", default: false },
  },
});
const numbers = (list: string): number[] => list.split(",").map(Number);
const [promptLength, maxTokens] = [Number(values.prompt), Number(values.tokens)];

function prompts(count: number, vocabSize: number, length: (i: number) => number): number[][] {
  return Array.from({ length: count }, (_, i) =>
    Array.from({ length: length(i) }, (_, t) => (7919 * (i + 1) * (t + 1)) % vocabSize),
  );
}

async function check(): Promise<void> {
  const config = { ...llm.configs.tiny, initStd: 0.2 };
  const model = nn.initialize(llm.llama(config), 1);
  const options = { tokenizer: bareTokenizer(config.vocabSize), temperature: 0, maxTokens: 24, stopIds: [] };
  const texts = prompts(5, config.vocabSize, (i) => 3 + 5 * i);
  const together = await llm.complete(model, texts, options);
  for (const [i, ids] of texts.entries()) {
    const [alone] = await llm.complete(model, [ids], options);
    const drawn: number[] = [];
    for (let made = 0; made < 24; made++) {
      const window = Int32Array.from([...ids, ...drawn]);
      const logits = model.forward(tensor(window, { shape: [1, window.length] }));
      drawn.push(await logits.slice(0, -1).argmax().item());
    }
    const same = (a: readonly number[], b: readonly number[]) => a.every((id, t) => id === b[t]);
    console.log(
      JSON.stringify({
        check: `prompt of ${ids.length}`,
        batchEqualsAlone: same(together[i]!.ids, alone!.ids),
        cacheEqualsNone: same(alone!.ids, drawn),
      }),
    );
  }
}

async function measure(): Promise<void> {
  const runtime = Runtime.default();
  const { devices } = await runtime.ready;
  const config = llm.configs[values.model as "llama1b"];
  const model = nn.castTree(nn.initialize(llm.llama(config), 0), "bfloat16");
  const sampling =
    values.sampling === "greedy"
      ? { temperature: 0 }
      : { temperature: 0.8, topP: 0.95, repetitionPenalty: 1.1 };
  for (const batch of numbers(values.batches)) {
    for (const tokensPerCall of numbers(values.calls)) {
      const texts = prompts(batch, config.vocabSize, () => promptLength);
      const write = (count: number) =>
        llm.complete(model, texts, {
          tokenizer: bareTokenizer(config.vocabSize),
          ...sampling,
          stopIds: [],
          batchSize: batch,
          tokensPerCall,
          maxTokens: count,
          context: promptLength + maxTokens,
        });
      const started = performance.now();
      await write(maxTokens);
      const warm = performance.now();
      // Another length of the cache is another program.
      await write(1);
      const first = performance.now();
      await write(1);
      const prefill = performance.now();
      await write(maxTokens);
      const seconds = (performance.now() - prefill) / 1000;
      const readSeconds = (prefill - first) / 1000;
      const { devices: memory } = await runtime.memory();
      console.log(
        JSON.stringify({
          date: new Date().toISOString(),
          device: devices[0]!.kind,
          model: values.model,
          sampling: values.sampling,
          batch,
          promptLength,
          maxTokens,
          tokensPerCall,
          compileSeconds: Number(((warm - started) / 1000 - seconds).toFixed(2)),
          readSeconds: Number(readSeconds.toFixed(4)),
          decodeMillisecondsPerStep: Number(((1000 * (seconds - readSeconds)) / (maxTokens - 1)).toFixed(3)),
          tokensPerSecond: Math.round((batch * (maxTokens - 1)) / (seconds - readSeconds)),
          peakBytes: memory[0]?.peak,
        }),
      );
    }
  }
}

if (values.check) await check();
await measure();
await Runtime.default().shutdown();
