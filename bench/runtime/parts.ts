/** What bench/runtime/runtime.ts measures of one device, part by part. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { DeviceBuffer, Runtime } from "../../core/dist/runtime/runtime.js";
import { loadSafetensors, saveSafetensors } from "../../core/dist/runtime/safetensors.js";
import { subscribeTelemetry } from "../../core/dist/runtime/telemetry.js";
import type { Sharding, TelemetrySample } from "../../core/dist/runtime/types.js";
import { product } from "./programs.ts";

export const seconds = () => performance.now() / 1000;
export const f32 = (shape: number[]) => ({ shape, dtype: "float32" as const });

/** Asks the process to end, and waits until it is gone: only then are its GPUs' memory and its files free for the next. */
export async function end(runtime: Runtime): Promise<void> {
  const { pid } = await runtime.ready;
  await runtime.shutdown();
  for (const until = seconds() + 20; fs.existsSync(`/proc/${pid}`); ) {
    if (seconds() > until) throw new Error(`the runtime, process ${pid}, does not end`);
    await sleep(20);
  }
}

export async function numbers(runtime: Runtime, buffer: DeviceBuffer): Promise<number[]> {
  return [...new Float32Array((await runtime.get(buffer)).buffer)];
}

export function check(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}

/** Microseconds of each of `n` calls, in order of size. */
export async function latencies(n: number, call: () => Promise<unknown>): Promise<number[]> {
  const found: number[] = [];
  for (let i = 0; i < n; i++) {
    const start = performance.now();
    await call();
    found.push((performance.now() - start) * 1000);
  }
  return found.sort((a, b) => a - b);
}

export async function roundTrips(runtime: Runtime) {
  await latencies(500, () => runtime.ping());
  const sorted = await latencies(5000, () => runtime.ping());
  return { p50Microseconds: sorted[2500], p99Microseconds: sorted[4950] };
}

export async function execution(runtime: Runtime) {
  const t = "tensor<8xf32>";
  const text = `func.func @main(%a: ${t} {tf.aliasing_output = 0 : i32}, %b: ${t}) -> ${t} {
    %0 = stablehlo.add %a, %b : ${t}
    return %0 : ${t} }`;
  const program = runtime.compile({ text, outputs: [f32([8])] });
  const one = runtime.put(new Float32Array(8).fill(1), f32([8]));
  let x = runtime.put(new Float32Array(8), f32([8]));
  const run = async (n: number) => {
    const start = seconds();
    for (let i = 0; i < n; i++) x = runtime.execute(program, [x, one])[0]!;
    await runtime.sync([x]);
    return (seconds() - start) / n;
  };
  await run(2000);
  const each = Math.min(await run(20_000), await run(20_000));
  const trip = await latencies(1000, async () => {
    x = runtime.execute(program, [x, one])[0]!;
    await runtime.sync([x]);
  });
  return { perSecond: 1 / each, microseconds: each * 1e6, withSyncP50Microseconds: trip[500] };
}

/** Milliseconds from the request to the answer for small programs that are new each time. */
export async function compiling(runtime: Runtime) {
  const compile = (size: number) => {
    const t = `tensor<${size}xf32>`;
    const text = `func.func @main(%a: ${t}) -> ${t} { %0 = stablehlo.sine %a : ${t} %1 = stablehlo.add %0, %a : ${t} return %1 : ${t} }`;
    return runtime.compile({ text, outputs: [f32([size])], options: { noCache: true } }).info;
  };
  for (let size = 1; size <= 10; size++) await compile(size);
  let size = 10;
  const sorted = await latencies(50, () => compile(++size));
  return { p50Milliseconds: sorted[25]! / 1000, p90Milliseconds: sorted[45]! / 1000 };
}

export async function transfers(runtime: Runtime, elements: number, sharding?: Sharding) {
  const data = new Float32Array(elements).fill(1);
  const bytes = data.byteLength;
  const found = { bytes, putBytesPerSecond: [] as number[], getBytesPerSecond: [] as number[] };
  for (let i = 0; i < 8; i++) {
    let start = seconds();
    const buffer = runtime.put(data, { ...f32([elements]), sharding, transfer: true });
    await runtime.sync([buffer]);
    found.putBytesPerSecond.push(bytes / (seconds() - start));
    start = seconds();
    const back = await runtime.get(buffer);
    found.getBytesPerSecond.push(bytes / (seconds() - start));
    if (back.byteLength !== bytes || back[2] !== 0x80) throw new Error("the bytes came back changed");
    buffer.free();
  }
  return found;
}

export async function safetensors(runtime: Runtime, folder: string, elements: number) {
  const file = path.join(folder, "weights.safetensors");
  const names = Array.from({ length: 16 }, (_, i) => `w${i}`);
  const shape = [elements / 16];
  const buffers: Record<string, DeviceBuffer> = {};
  for (const name of names) buffers[name] = runtime.put(new Float32Array(shape[0]!).fill(2), f32(shape));
  let start = seconds();
  const { bytes } = await saveSafetensors(runtime, file, buffers);
  const save = bytes / (seconds() - start);
  for (const buffer of Object.values(buffers)) buffer.free();
  const cat: number[] = [];
  const load: number[] = [];
  for (let i = 0; i < 4; i++) {
    start = seconds();
    execFileSync("sh", ["-c", 'cat "$1" >/dev/null', "sh", file]);
    cat.push(bytes / (seconds() - start));
    start = seconds();
    const loaded = await loadSafetensors(
      runtime,
      file,
      names.map((tensor) => ({ tensor, ...f32(shape) })),
    );
    await runtime.sync(loaded);
    load.push(bytes / (seconds() - start));
    for (const buffer of loaded) buffer.free();
  }
  fs.rmSync(file);
  return { bytes, saveBytesPerSecond: save, catBytesPerSecond: cat, loadBytesPerSecond: load };
}

/** A stack of layers, each with weights of its own shape, so that the compiler has work. */
function layersProgram(layers: number): string {
  const width = (i: number) => 64 + 8 * (i % 7);
  const weights = Array.from(
    { length: layers },
    (_, i) => `%w${i}: tensor<${width(i)}x${width(i + 1)}xf32>`,
  ).join(", ");
  let body = "";
  for (let i = 0; i < layers; i++) {
    const [a, b] = [`tensor<32x${width(i)}xf32>`, `tensor<32x${width(i + 1)}xf32>`];
    const w = `tensor<${width(i)}x${width(i + 1)}xf32>`;
    body += `%d${i} = stablehlo.dot_general ${i === 0 ? "%x" : `%s${i - 1}`}, %w${i}, contracting_dims = [1] x [0] : (${a}, ${w}) -> ${b}
      %t${i} = stablehlo.tanh %d${i} : ${b}
      %s${i} = stablehlo.multiply %t${i}, %d${i} : ${b}\n`;
  }
  const result = `tensor<32x${width(layers)}xf32>`;
  return `func.func @main(%x: tensor<32x${width(0)}xf32>, ${weights}) -> ${result} { ${body} return %s${layers - 1} : ${result} }`;
}

export async function programCache(attach: () => Runtime, layers: number) {
  const text = layersProgram(layers);
  const shape = [32, 64 + 8 * (layers % 7)];
  const timed = async () => {
    const runtime = attach();
    await runtime.ready;
    await runtime.ping();
    const start = seconds();
    const info = await runtime.compile({ text, outputs: [f32(shape)] }).info;
    const took = seconds() - start;
    await end(runtime);
    return { seconds: took, cached: info.cached };
  };
  const compile = await timed();
  const load = await timed();
  if (compile.cached !== false || load.cached !== "disk") throw new Error("the cache did not work");
  return {
    compileSeconds: compile.seconds,
    cachedSeconds: load.seconds,
    ratio: load.seconds / compile.seconds,
  };
}

/** A square bfloat16 product, ready to run: gives the rates of `turns` times `runs` queued products. */
export async function matmul(runtime: Runtime, size: number) {
  const described = { shape: [size, size], dtype: "bfloat16" as const };
  const program = runtime.compile({ text: product(size), outputs: [described] });
  // The bits of bench/runtime/jax_figures.py: the power that a product draws, and with it the clock, depends on them.
  const data = new Uint16Array(size * size).map((_, i) => 0x3c00 + ((i * 40503) & 0x3ff));
  const a = runtime.put(data, described);
  const b = runtime.put(data, described);
  const run = async (n: number) => {
    const start = seconds();
    for (let i = 0; i < n - 1; i++) runtime.execute(program, [a, b])[0]!.free();
    const [last] = runtime.execute(program, [a, b]);
    await runtime.sync([last!]);
    last!.free();
    return (2 * size ** 3 * n) / (seconds() - start);
  };
  await run(3);
  return async (runs: number, turns: number): Promise<number[]> => {
    await run(3);
    const flops: number[] = [];
    for (let i = 0; i < turns; i++) flops.push(await run(runs));
    return flops;
  };
}

export async function telemetry(runtime: Runtime): Promise<TelemetrySample> {
  const samples: TelemetrySample[] = [];
  const stop = await subscribeTelemetry(runtime, (sample) => samples.push(sample), 10);
  while (samples.length < 5) await new Promise((resolve) => setTimeout(resolve, 50));
  stop();
  return samples.at(-1)!;
}
