/**
 * The waiting of a training for a loader whose workers decode at 1.2 times its rate; prints one line of JSON.
 *
 * usage: loader [--workers 1] [--batch 32] [--prefetch 2] [--side 224] [--passes 4 | --milliseconds 10] [--ratio 1.2] [--steps 300]
 */
import { parseArgs } from "node:util";
import { measureLoader } from "./measure.js";

const { values } = parseArgs({
  options: {
    workers: { type: "string", default: "1" },
    batch: { type: "string", default: "32" },
    prefetch: { type: "string", default: "2" },
    side: { type: "string", default: "224" },
    passes: { type: "string", default: "4" },
    milliseconds: { type: "string" },
    ratio: { type: "string", default: "1.2" },
    steps: { type: "string", default: "300" },
  },
});
const result = await measureLoader({
  workers: Number(values.workers),
  batchSize: Number(values.batch),
  prefetch: Number(values.prefetch),
  side: Number(values.side),
  passes: Number(values.passes),
  ...(values.milliseconds !== undefined && { milliseconds: Number(values.milliseconds) }),
  ratio: Number(values.ratio),
  steps: Number(values.steps),
});
console.log(JSON.stringify({ date: new Date().toISOString().slice(0, 10), ...result }));
