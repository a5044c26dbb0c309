/** What the runtime does when memory runs out, and when it is killed, with work on a GPU. */
import { setTimeout as sleep } from "node:timers/promises";
import { OutOfDeviceMemory, RuntimeLost } from "../../core/dist/runtime/errors.js";
import type { DeviceBuffer } from "../../core/dist/runtime/runtime.js";
import type { DeviceBench, Part } from "./gpus.ts";
import { check, end, f32, numbers, seconds } from "./parts.ts";
import { product, step, throughGram } from "./programs.ts";

/** A run for which there is no room, and one small buffer after another until there is none; the runtime lives on. */
export async function memory(bench: DeviceBench): Promise<Part> {
  const runtime = await bench.attached();
  const held = runtime.put(new Float32Array(2 ** 20), {
    ...f32([2 ** 20]),
    tag: "parameter",
    name: "held",
  });
  const report = await runtime.memory();
  const limit = report.devices[0]!.limit ?? report.host.totalBytes;
  const huge = Math.ceil((2 * limit) / 4 / 1024) * 1024;
  const start = seconds();
  const [never] = runtime.execute(
    runtime.compile({ text: zeros(huge), outputs: [f32([huge])], name: "huge" }),
    [],
  );
  const refused = await memoryError(runtime.sync([never!]));
  const refusedSeconds = seconds() - start;

  const chunk = bench.cuda ? 2 ** 23 : 2 ** 27;
  const small = runtime.compile({ text: zeros(chunk), outputs: [f32([chunk])], name: "small" });
  await small.info;
  const free = bench.cuda ? limit - (report.devices[0]!.inUse ?? 0) : report.host.availableBytes;
  const many = Array.from(
    { length: Math.max(0, Math.floor(free / chunk / 4) - 4) },
    () => runtime.execute(small, [])[0]!,
  );
  await runtime.sync(many);
  let full: OutOfDeviceMemory | undefined;
  for (let i = 0; i < 12 && full === undefined; i++) {
    const [next] = runtime.execute(small, []);
    many.push(next!);
    full = await runtime.sync([next!]).then(
      () => undefined,
      (error: unknown) => memoryError(Promise.reject(error)),
    );
  }
  check(full !== undefined, "the memory never ran out");
  for (const buffer of many) buffer.free();
  await runtime.sync().catch(() => {});
  const [again] = runtime.execute(small, []);
  await runtime.sync([again!]);
  again!.free();
  check((await runtime.get(held)).byteLength === 2 ** 22, "what was held is gone");
  held.free();
  return {
    refused: { message: refused.message, requested: refused.requested, seconds: refusedSeconds },
    full: { message: full!.message, table: full!.table.slice(0, 3), buffers: many.length },
    line: `refused after ${refusedSeconds.toFixed(1)} s; full after ${many.length} buffers; lives on`,
  };
}

/**
 * Enough memory is free for a run, but in pieces too small for its temporaries: what no check foresees. The run fails, and says so; what
 * was asked for after it fails with it; the runtime lives on.
 */
export async function fragmented(bench: DeviceBench): Promise<Part> {
  const runtime = await bench.attached();
  const size = 16384;
  const gram = runtime.compile({ text: throughGram(size), outputs: [f32([size, 16])], name: "gram" });
  const { memory } = await gram.info;
  check(memory.temporaries >= 4 * size ** 2, `the program has ${memory.temporaries} bytes of temporaries`);
  const ones = () => runtime.put(new Float32Array(16 * size).fill(1), f32([size, 16]));
  const right = async (): Promise<void> => {
    const [made] = runtime.execute(gram, [ones()]);
    const values = await numbers(runtime, made!);
    made!.free();
    check(
      values.every((value) => value === 16 * size),
      `the program gives ${values[0]}`,
    );
  };
  await right();
  const report = await runtime.memory();
  const free = report.devices[0]!.limit! - (report.devices[0]!.inUse ?? 0);
  const chunk = 2 ** 23;
  const piece = runtime.compile({ text: zeros(chunk), outputs: [f32([chunk])], name: "piece" });
  const count = Math.floor(free / chunk / 4) - 8;
  const pieces = Array.from({ length: count }, () => runtime.execute(piece, [])[0]!);
  await runtime.sync(pieces);
  for (let i = 0; i < pieces.length; i += 2) pieces[i]!.free();
  await runtime.sync();
  const start = seconds();
  const [first] = runtime.execute(gram, [ones()]);
  const [second] = runtime.execute(gram, [first!]);
  const error = await memoryError(runtime.sync([second!]));
  const failedSeconds = seconds() - start;
  for (const buffer of pieces) buffer.free();
  await runtime.sync().catch(() => {});
  await right();
  return {
    message: error.message,
    seconds: failedSeconds,
    line: `${(free / 2 ** 31).toFixed(1)} GiB free in pieces; failed after ${failedSeconds.toFixed(1)} s; lives on`,
  };
}

const zeros = (count: number): string =>
  `func.func @main() -> tensor<${count}xf32> { %0 = stablehlo.constant dense<0.0> : tensor<${count}xf32> return %0 : tensor<${count}xf32> }`;

/** A second runtime on GPUs that the first one, and jax, hold: it takes what is left, and says who has the rest when that is full. */
export async function sharedGpus(bench: DeviceBench): Promise<Part> {
  const first = await bench.attached();
  const whole = (await first.memory()).devices[0]!.limit!;
  const start = seconds();
  const second = bench.another("cuda");
  const { devices } = await second.ready;
  const startSeconds = seconds() - start;
  try {
    const share = devices[0]!.memoryBytes!;
    check(share < whole, `the second has ${share} bytes, and the first ${whole}`);
    const chunk = 2 ** 26;
    const held = Array.from({ length: Math.floor(share / (4 * chunk)) + 1 }, () =>
      second.put(new Float32Array(chunk), { ...f32([chunk]), tag: "parameter", name: "held" }),
    );
    const error = await memoryError(second.sync());
    check(error.message.includes("held by"), `the error does not say who holds the memory: ${error.message}`);
    for (const buffer of held) buffer.free();
    const last = second.put(new Float32Array(1), f32([1]));
    check((await numbers(second, last))[0] === 0, "the second does not live on");
    return {
      share,
      whole,
      startSeconds,
      message: error.message,
      line: `the second takes ${(share / 2 ** 30).toFixed(1)} GiB, full and refused ${(seconds() - start).toFixed(1)} s after its start`,
    };
  } finally {
    await end(second);
  }
}

/** Kills the runtime while products are queued, and starts it again. */
export async function kill(bench: DeviceBench): Promise<Part> {
  const runtime = await bench.attached();
  const { pid } = bench;
  const [size, runs] = bench.cuda ? [8192, 3000] : [1024, 300];
  const text = product(size);
  const described = { shape: [size, size], dtype: "bfloat16" as const };
  const program = runtime.compile({ text, outputs: [described], name: "product" });
  const x = runtime.put(new Uint16Array(size * size), described);
  await program.info;
  await runtime.sync([x]);
  let last = x;
  for (let i = 0; i < runs; i++) [last] = runtime.execute(program, [x, x]) as [DeviceBuffer];
  const waiting = runtime.sync([last]).then(
    () => undefined,
    (error: unknown) => error,
  );
  await sleep(300);
  const start = performance.now();
  process.kill(pid, "SIGKILL");
  const error = await waiting;
  const milliseconds = performance.now() - start;
  check(error instanceof RuntimeLost, `not RuntimeLost but ${error}`);
  const restart = seconds();
  const next = await bench.attached();
  check(bench.pid !== pid, "the killed process answers");
  const restartSeconds = seconds() - restart;
  const again = next.compile({ text: step(1), outputs: [f32([8])] });
  const ones = next.put(new Float32Array(8).fill(1), f32([8]));
  check(
    (await numbers(next, next.execute(again, [ones, next.put(new Float32Array(8), f32([8]))])[0]!))[0] === 1,
    "no",
  );
  await bench.close();
  return {
    exit: (error as RuntimeLost).exit,
    milliseconds,
    restartSeconds,
    line: `RuntimeLost (${(error as RuntimeLost).exit}) after ${milliseconds.toFixed(0)} ms; again there after ${restartSeconds.toFixed(1)} s`,
  };
}

async function memoryError(waiting: Promise<unknown>): Promise<OutOfDeviceMemory> {
  const error = await waiting.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof OutOfDeviceMemory)) throw new Error(`not OutOfDeviceMemory but ${error}`);
  check(
    error.table.some(({ name }) => name === "held"),
    "the table lacks a buffer that is held",
  );
  return error;
}
