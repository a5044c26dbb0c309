/**
 * Serves a Llama of random weights to clients that ask again as soon as they are answered, and prints lines of JSON: what a client sees (time to the
 * first token, between tokens), what all get together, and how a step's time divides between the device and this process.
 *
 * usage: engine [--model llama1b] [--dtype bfloat16] [--clients 1,32] [--prompt 1000] [--tokens 200] [--rounds 2] [--chunk 512] [--page 64]
 */
import { parseArgs } from "node:util";
import { llm, nn } from "aronnax";
import { Runtime } from "../../core/src/runtime/runtime.js";
import { createEngine, type Engine } from "../../core/src/serve/engine/index.js";
import { bareTokenizer } from "./bare-tokenizer.js";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "llama1b" },
    dtype: { type: "string", default: "bfloat16" },
    clients: { type: "string", default: "1,32" },
    prompt: { type: "string", default: "1000" },
    tokens: { type: "string", default: "200" },
    rounds: { type: "string", default: "2" },
    chunk: { type: "string", default: "512" },
    page: { type: "string", default: "64" },
  },
});
const [prompt, tokens, rounds] = [values.prompt, values.tokens, values.rounds].map(Number) as [
  number,
  number,
  number,
];

interface Seen {
  readonly first: number;
  readonly gaps: number[];
}

let asked = 0;

/** One request; every prompt is another. */
async function ask(engine: Engine): Promise<Seen> {
  const number = ++asked;
  const ids = Array.from({ length: prompt }, (_, i) => (7919 * number + 104729 * i) % engine.vocabSize);
  const begun = performance.now();
  let last = begun;
  let first = 0;
  const gaps: number[] = [];
  const request = { prompt: ids, maxTokens: tokens, sampling: { temperature: 0 }, ignoreEnd: true };
  for await (const piece of engine.submit(request)) {
    if (piece.tokens.length === 0) continue;
    const now = performance.now();
    if (first === 0) first = now - begun;
    else gaps.push(now - last);
    last = now;
  }
  return { first, gaps };
}

/** Of milliseconds, half of them and the slowest hundredth. */
function percentiles(times: readonly number[]): { p50: number; p99: number } {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    Number((sorted[Math.floor(share * (sorted.length - 1))] ?? 0).toFixed(2));
  return { p50: at(0.5), p99: at(0.99) };
}

async function measure(clients: number): Promise<void> {
  const runtime = Runtime.default();
  const { devices } = await runtime.ready;
  const config = llm.configs[values.model as "llama1b"];
  const model = nn.castTree(nn.initialize(llm.llama(config), 0), values.dtype as "bfloat16");
  const pageSize = Number(values.page);
  const engine = createEngine(model, {
    tokenizer: bareTokenizer(config.vocabSize),
    context: prompt + tokens,
    pageSize,
    pages: clients * Math.ceil((prompt + tokens) / pageSize),
    maxBatch: clients,
    chunk: Number(values.chunk),
    prefixCache: false,
  });
  const round = async (): Promise<Seen[]> => Promise.all(Array.from({ length: clients }, () => ask(engine)));
  const started = performance.now();
  await round();
  const warm = performance.now();
  const before = engine.statistics();
  const busy = process.cpuUsage();
  const seen: Seen[] = [];
  for (let i = 0; i < rounds; i++) seen.push(...(await round()));
  const seconds = (performance.now() - warm) / 1000;
  const { user, system } = process.cpuUsage(busy);
  const after = engine.statistics();
  const steps = after.steps - before.steps;
  const { devices: memory } = await runtime.memory();
  console.log(
    JSON.stringify({
      date: new Date().toISOString(),
      device: devices[0]!.kind,
      model: values.model,
      dtype: values.dtype,
      clients,
      prompt,
      tokens,
      compileSeconds: Number(((warm - started) / 1000 - seconds / rounds).toFixed(2)),
      outputTokensPerSecond: Math.round((clients * tokens * rounds) / seconds),
      firstTokenMilliseconds: percentiles(seen.map(({ first }) => first)),
      betweenTokensMilliseconds: percentiles(seen.flatMap(({ gaps }) => gaps)),
      stepMilliseconds: Number(((1000 * seconds) / steps).toFixed(3)),
      processMillisecondsPerStep: Number(((user + system) / 1000 / steps).toFixed(3)),
      peakBytes: memory[0]?.peak,
    }),
  );
  await engine.close();
}

for (const clients of values.clients.split(",").map(Number)) await measure(clients);
await Runtime.default().shutdown();
