/**
 * Records what a runtime tells of its devices while it works: the lines of `aronnax runtime watch` (state every two seconds, telemetry every
 * second), through an idle start, compiling, a training over all devices, memory that a workspace keeps, and the end of the process. The
 * tests of the panel of devices read such a recording of GPUs.
 *
 * usage: record-telemetry [--seconds 120] [--devices 2] [--model small|tiny] --out FILE.jsonl.gz
 */
import { createWriteStream, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { PassThrough } from "node:stream";
import { finished } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { createGzip } from "node:zlib";
import { adamw, jit, llm, random, Trainer, workspace } from "aronnax";
import { RandomTokens } from "../../core/src/recipes/random-tokens.js";
import { place } from "../../core/src/runtime/locate.js";
import { Runtime } from "../../core/src/runtime/runtime.js";
import { watchRuntime } from "../../core/src/runtime/watch.js";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "120" },
    devices: { type: "string", default: "2" },
    model: { type: "string", default: "small" },
    out: { type: "string" },
  },
});
if (values.out === undefined) throw new Error("--out FILE.jsonl.gz says where the recording goes");
/** Two states fit into it. */
const idle = 1000 * Math.max(4.5, Math.min(10, Number(values.seconds) / 10));
const [seconds, devices] = [Number(values.seconds), Number(values.devices)];

mkdirSync(dirname(values.out), { recursive: true });
const gzip = createGzip({ level: 9 });
const file = createWriteStream(values.out);
gzip.pipe(file);
const input = new PassThrough();
let lines = 0;
const watching = watchRuntime(place(), input, (line) => {
  lines++;
  gzip.write(`${JSON.stringify(line)}\n`);
});

const note = (text: string): void => console.log(`${new Date().toISOString().slice(11, 19)} ${text}`);
// Nothing runs yet; then a process that only lies there.
await sleep(1500);
const runtime = Runtime.default();
const info = await runtime.ready;
note(`${info.devices.length} x ${info.devices[0]?.kind}`);
await sleep(idle);

const sizes =
  values.model === "tiny"
    ? { vocabSize: 256, hiddenSize: 32, intermediateSize: 64, layers: 1, heads: 2 }
    : { vocabSize: 32_000, hiddenSize: 1536, intermediateSize: 4096, layers: 12, heads: 12 };
const [time, batchSize] = values.model === "tiny" ? [16, 2 * devices] : [1024, 8 * devices];
const folder = mkdtempSync(join(tmpdir(), "aronnax-recording-"));
const until = performance.now() + seconds * 600;
const trainer = new Trainer({
  name: "recorded",
  folder,
  model: llm.llama(sizes),
  data: new RandomTokens({ vocabSize: sizes.vocabSize, sequenceLength: time, batchSize }),
  optimizer: adamw({ learningRate: 1e-4 }),
  precision: values.model === "tiny" ? "float32" : "bf16",
  ...(devices > 1 && { parallel: { fsdp: devices } }),
  steps: 1_000_000,
  printEvery: 0,
  callbacks: [
    {
      onStep: (_event, training) => {
        if (performance.now() > until) training.stop("recorded for long enough");
      },
    },
  ],
});
note("trains");
const result = await trainer.fit();
note(`trained for ${result.step} steps`);

// Products of one device, and arrays that outlive this process.
const product = jit((a: ReturnType<typeof random.normal>) => a.matmul(a).mul(1e-3), { name: "product" });
let a = random.normal(0, values.model === "tiny" ? [64, 64] : [8192, 8192]);
const end = performance.now() + seconds * 200;
while (performance.now() < end) {
  for (let i = 0; i < 20; i++) a = product(a);
  await a.sum().item();
}
await workspace("kept").set({ a });
note("idle, with a workspace");
await sleep(idle);
await runtime.shutdown();
await sleep(3000);
input.end();
await watching;
gzip.end();
await finished(file);
rmSync(folder, { recursive: true, force: true });
note(`${lines} lines in ${values.out}`);
process.exit(0);
