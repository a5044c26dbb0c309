/**
 * How fast the runtime process and its client are. Run from the repository after a build, with Node 24:
 *
 *     node bench/runtime/runtime.ts [--devices SET] [--quick] [--output FILE]       one device
 *     node bench/runtime/runtime.ts --matmul                                        the 8192 product alone, in turns with jax
 *     node bench/runtime/runtime.ts --gpus 2 [--devices SET] [--quick] [--output FILE] [--parts REGEXP]   several devices, with faults
 *
 * Prints one JSON object with date, machine and versions. jax's own figures come from bench/runtime/jax_figures.py on the same machine in the
 * same minutes. `--gpus 2 --devices cpu:2` rehearses the second on virtual CPU devices.
 */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { Runtime } from "../../core/dist/runtime/runtime.js";
import { severalDevices } from "./gpus.ts";
import { Jax } from "./jax.ts";
import {
  compiling,
  end,
  execution,
  matmul,
  programCache,
  roundTrips,
  safetensors,
  telemetry,
  transfers,
} from "./parts.ts";

const { values: options } = parseArgs({
  options: {
    devices: { type: "string" },
    gpus: { type: "string" },
    quick: { type: "boolean", default: false },
    matmul: { type: "boolean", default: false },
    output: { type: "string" },
    parts: { type: "string", default: "" },
    scratch: { type: "string", default: os.tmpdir() },
  },
});

const folder = fs.mkdtempSync(path.join(options.scratch, "arx-"));
process.env.ARONNAX_CACHE_DIR = folder;
process.env.NCCL_NVLS_ENABLE = "0";
// A runtime and jax both hold their share of the memory while they take turns, whatever share the user has set for one alone.
delete process.env.XLA_PYTHON_CLIENT_MEM_FRACTION;
process.env.XLA_CLIENT_MEM_FRACTION = "0.4";
process.env.CUDA_DEVICE_MAX_CONNECTIONS ??= "1";
const attach = (devices = options.devices) => new Runtime({ directory: path.join(folder, "run"), devices });

interface Turn {
  who: "aronnax" | "jax";
  flopsPerSecond: number[];
}

/** The matrix product in turns, since clocks drift: ours, jax's, ours, jax's. */
async function matmulBesideJax(runtime: Runtime, jax: Jax, size: number, runs: number) {
  const ours = await matmul(runtime, size);
  const turns: Turn[] = [];
  for (let turn = 0; turn < 3; turn++) {
    turns.push({ who: "aronnax", flopsPerSecond: await ours(runs, 3) });
    turns.push({ who: "jax", ...(await jax.ask<Omit<Turn, "who">>("matmul", { size, runs, turns: 3 })) });
  }
  return { size, runs, turns };
}

async function oneDevice() {
  const scale = options.quick ? 1 / 16 : 1;
  const runtime = attach();
  const info = await runtime.ready;
  const cuda = info.platform === "cuda";
  const [size, runs] = cuda ? [8192, 100] : [512, 20];
  const jax = new Jax(cuda ? {} : { JAX_PLATFORMS: "cpu" });
  try {
    if (options.matmul) return await matmulBesideJax(runtime, jax, 8192, 300);
    const result: Record<string, unknown> = {
      date: new Date().toISOString(),
      machine: machine(),
      versions: { ...info.versions, node: process.version },
      devices: info.devices,
      roundTrip: await roundTrips(runtime),
      compiling: await compiling(runtime),
      execution: await execution(runtime),
      jaxDispatch: await jax.ask("dispatch", { devices: 1, runs: 20_000 }),
    };
    const product = matmulBesideJax(runtime, jax, size, runs);
    if (cuda) result.telemetry = await telemetry(runtime);
    result.matmul = await product;
    jax.close();
    result.transfer = await transfers(runtime, 250_000_000 * scale);
    result.safetensors = await safetensors(runtime, folder, 256 * 2 ** 20 * scale);
    await end(runtime);
    result.programCache = await programCache(attach, 48);
    return result;
  } finally {
    jax.close();
    if (runtime.lost === undefined) await end(runtime);
  }
}

function machine() {
  return {
    processor: os.cpus()[0]?.model,
    processors: os.cpus().length,
    memoryBytes: os.totalmem(),
    loadAverage: os.loadavg(),
  };
}

async function main() {
  const result =
    options.gpus === undefined
      ? await oneDevice()
      : await severalDevices({
          count: Number(options.gpus),
          devices: options.devices,
          quick: options.quick,
          parts: new RegExp(options.parts),
          folder,
          machine: machine(),
          attach,
        });
  const text = JSON.stringify(result, null, 2);
  if (options.output !== undefined) fs.writeFileSync(options.output, `${text}\n`);
  else console.log(text);
  if ("table" in result) console.log((result.table as string[]).join("\n"));
  if ("failures" in result && (result.failures as string[]).length > 0) process.exitCode = 1;
}

try {
  await main();
} finally {
  fs.rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
}
