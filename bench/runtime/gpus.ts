/**
 * The runtime on several devices of one machine, and what it does when something goes wrong there; jax takes turns where it has the
 * same figure. A part that fails, or takes too long, is noted, and the parts after it run.
 */
import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { DeviceBuffer, Program, Runtime } from "../../core/dist/runtime/runtime.js";
import { loadSafetensors, saveSafetensors } from "../../core/dist/runtime/safetensors.js";
import { subscribeTelemetry } from "../../core/dist/runtime/telemetry.js";
import type { RuntimeInfo, Sharding, TelemetrySample } from "../../core/dist/runtime/types.js";
import { fragmented, kill, memory, sharedGpus } from "./faults.ts";
import { interleaved } from "./interleaved.ts";
import { Jax } from "./jax.ts";
import { twoNodes } from "./nodes.ts";
import { check, end, f32, latencies, matmul, numbers, seconds, transfers } from "./parts.ts";
import { allReduce, type Element, fill, filled, reduction, ring, spread, step } from "./programs.ts";

export interface Settings {
  /** Devices to use. */
  count: number;
  /** Device set, e.g. `cpu:2`; default the first GPUs. */
  devices?: string;
  quick: boolean;
  /** Matches the names of the parts to run; the first always runs. */
  parts: RegExp;
  folder: string;
  machine: object;
  attach: (devices?: string) => Runtime;
}

/** What a part measures, and its line in the table. */
export type Part = Record<string, unknown> & { line: string };

export async function severalDevices(settings: Settings): Promise<Record<string, unknown>> {
  const { count } = settings;
  const set = settings.devices ?? `cuda:${Array.from({ length: count }, (_, i) => i)}`;
  const bench = new DeviceBench(settings, set);
  const started = seconds();
  await bench.part("devices", 90, () => bench.wholeMachine());
  if (bench.failures.length === 0) {
    await bench.part("sharded program", 60, () => bench.shardedProgram());
    for (const element of ["f32", "bf16"] as const) {
      await bench.part(`all-reduce ${element}`, 60, () => bench.allReduce(element));
    }
    await bench.part("interleaved", 90, () => interleaved(bench, count));
    await bench.part("telemetry", 30, () => bench.telemetry());
    await bench.part("dispatch, one device", 40, () => bench.dispatch(1));
    await bench.part(`dispatch, ${count} devices`, 40, () => bench.dispatch(count));
    await bench.part("matmul", 60, () => bench.matmul());
    await bench.part("transfer, dense", 60, () => bench.transfer());
    await bench.part("transfer, sharded", 60, () => bench.transfer(ring(count)));
    await bench.part("safetensors", 60, () => bench.safetensors());
    await bench.part("memory", 60, () => memory(bench));
    if (bench.cuda) await bench.part("fragmented memory", 60, () => fragmented(bench));
    if (bench.cuda) await bench.part("shared GPUs", 60, () => sharedGpus(bench));
    await bench.part("kill", 60, () => kill(bench));
    await bench.part("two nodes", 90, () => twoNodes(set, settings.folder));
  }
  await bench.close();
  return {
    date: new Date().toISOString(),
    command: ["node", ...process.argv.slice(2)].join(" "),
    machine: settings.machine,
    seconds: seconds() - started,
    ...bench.result,
    failures: bench.failures,
    table: bench.table,
  };
}

export class DeviceBench {
  readonly result: Record<string, unknown> = {};
  readonly failures: string[] = [];
  readonly table: string[] = [];
  readonly #settings: Settings;
  readonly #set: string;
  readonly cuda: boolean;
  readonly #mesh: number[];
  #runtime: Runtime | undefined;
  #info: RuntimeInfo | undefined;
  #jax: Jax | undefined;

  constructor(settings: Settings, set: string) {
    this.#settings = settings;
    this.#set = set;
    this.cuda = set.startsWith("cuda");
    this.#mesh = Array.from({ length: settings.count }, (_, i) => i);
    // A machine's whole memory would take long to fill.
    if (!this.cuda) process.env.ARONNAX_RUNTIME_HOST_BYTES ??= String(3 * 2 ** 30);
  }

  /** Runs one part with a limit in seconds, and takes note. */
  async part(name: string, limit: number, run: () => Promise<Part>): Promise<void> {
    if (this.result.devices !== undefined && !this.#settings.parts.test(name)) return;
    const start = seconds();
    const late = new AbortController();
    try {
      const { line, ...found } = await Promise.race([
        run(),
        sleep(limit * 1000, undefined, { signal: late.signal }).then(() => {
          throw new Error(`not done within ${limit} s`);
        }),
      ]);
      this.result[name] = found;
      this.table.push(`${name.padEnd(22)} ${line}`);
    } catch (error) {
      const reason = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
      this.failures.push(`${name}: ${reason}`);
      this.table.push(`${name.padEnd(22)} FAILED: ${reason.split("\n")[0]}`);
      // What hangs would hang the parts after it too.
      await this.#restart();
    } finally {
      late.abort();
      console.error(`${(seconds() - start).toFixed(1).padStart(6)} s  ${this.table.at(-1)}`);
    }
  }

  async close(): Promise<void> {
    this.#jax?.close();
    if (this.#runtime !== undefined && this.#runtime.lost === undefined) await end(this.#runtime);
  }

  async #restart(): Promise<void> {
    this.#jax?.close();
    this.#jax = undefined;
    if (this.#info !== undefined && this.#runtime?.lost === undefined) {
      try {
        process.kill(this.#info.pid, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    }
    this.#runtime = this.#info = undefined;
  }

  /** The process that is attached. */
  get pid(): number {
    return this.#info!.pid;
  }

  /** The runtime, attached or started. */
  async attached(): Promise<Runtime> {
    if (this.#runtime === undefined || this.#runtime.lost !== undefined) {
      this.#runtime = this.#settings.attach(this.#set);
      this.#info = await this.#runtime.ready;
    }
    return this.#runtime;
  }

  /** A runtime of another device set. */
  another(set: string): Runtime {
    return this.#settings.attach(set);
  }

  #beside(): Jax {
    this.#jax ??= new Jax(
      this.cuda
        ? { CUDA_DEVICE_ORDER: "PCI_BUS_ID" }
        : {
            JAX_PLATFORMS: "cpu",
            PJRT_NPROC: "8",
            XLA_FLAGS: `--xla_force_host_platform_device_count=${this.#settings.count}`,
          },
    );
    return this.#jax;
  }

  /** A program over all devices. */
  compile(text: string, outputs: Parameters<Runtime["compile"]>[0]["outputs"], name: string): Program {
    return this.#runtime!.compile({ text, outputs, devices: this.#mesh, name });
  }

  /** Every device that the machine has, and the set that the other parts use. */
  async wholeMachine(): Promise<Part> {
    const whole = this.cuda ? "cuda" : this.#set;
    const start = seconds();
    const all = this.#settings.attach(whole);
    const info = await all.ready;
    const startSeconds = seconds() - start;
    await end(all);
    await this.attached();
    const chosen = this.#info!;
    check(
      chosen.devices.length === this.#settings.count,
      `${this.#set} has ${chosen.devices.length} devices`,
    );
    const jax = await this.#beside().ask<{ jax: string; devices: number }>("versions");
    check(jax.devices >= this.#settings.count, `jax has ${jax.devices} devices`);
    const versions = { ...chosen.versions, node: process.version };
    const links = chosen.devices[0]!.links?.map(({ device, count }) => `${count} NVLinks to ${device}`);
    return {
      whole: { set: whole, startSeconds, devices: info.devices },
      chosen: { set: this.#set, devices: chosen.devices },
      versions,
      line: `${info.devices.length} x ${info.devices[0]!.kind}; ${this.#set} has ${chosen.devices.length}; ${links?.join(", ") || "no NVLink"}`,
    };
  }

  /** A reduction over the devices, in a program that Shardy partitions, and what the client gets of it. */
  async shardedProgram(): Promise<Part> {
    const runtime = await this.attached();
    const n = this.#settings.count;
    const sharding = ring(n);
    const program = this.compile(reduction(n), [{ ...f32([n, 4]), sharding }, f32([])], "reduction");
    let values = Array.from({ length: 4 * n }, (_, i) => i);
    let x = runtime.put(Float32Array.from(values), { ...f32([n, 4]), sharding });
    for (let i = 0; i < 3; i++) {
      const [next, total] = runtime.execute(program, [x]);
      const sum = values.reduce((a, b) => a + b);
      check((await numbers(runtime, total!))[0] === sum, `the sum is not ${sum}`);
      values = values.map((value) => value + sum);
      x = next!;
    }
    check(String(await numbers(runtime, x)) === String(values), "the sharded result is wrong");
    return { sum: values.reduce((a, b) => a + b), line: "right" };
  }

  /** The all-reduce, right for every element; then its speed in turns with jax's. */
  async allReduce(element: Element): Promise<Part> {
    const runtime = await this.attached();
    const n = this.#settings.count;
    const bytes = this.cuda ? (this.#settings.quick ? 2 ** 26 : 2 ** 30) : 2 ** 22;
    const elements = bytes / (element === "f32" ? 4 : 2);
    const dtype = element === "f32" ? ("float32" as const) : ("bfloat16" as const);
    const array = { shape: [n, elements], dtype, sharding: ring(n) };
    const scalar = { shape: [], dtype: "int32" as const };
    const ones = this.compile(spread(n, elements, element, "ones"), [array], "ones");
    const ramp = this.compile(spread(n, elements, element, "ramp"), [array], "ramp");
    const wrong = this.compile(spread(n, elements, element, "wrong"), [scalar, f32([]), f32([])], "wrong");
    const sum = this.compile(allReduce(n, elements, element), [array], "all-reduce");
    const [summed] = runtime.execute(sum, runtime.execute(ramp, []));
    const [bad] = runtime.execute(wrong, [summed!]);
    const count = new Int32Array((await runtime.get(bad!)).buffer)[0];
    check(count === 0, `${count} elements of the sum are wrong`);
    summed!.free();

    const runs = 20;
    const ours: number[] = [];
    const theirs: number[] = [];
    const turn = async () => {
      let [x] = runtime.execute(ones, []);
      await runtime.sync([x!]);
      const start = seconds();
      for (let i = 0; i < runs; i++) [x] = runtime.execute(sum, [x!]);
      await runtime.sync([x!]);
      ours.push((seconds() - start) / runs);
      const [, least, most] = runtime.execute(wrong, [x!]);
      for (const value of [least!, most!]) {
        check((await numbers(runtime, value))[0] === n ** runs, "the repeated sum is wrong");
      }
      x!.free();
    };
    await turn();
    ours.length = 0;
    for (let i = 0; i < 4; i++) {
      await turn();
      const answer = await this.#beside().ask<{ seconds: number[] }>("all_reduce", {
        devices: n,
        elements,
        dtype,
        runs,
        turns: 1,
      });
      theirs.push(...answer.seconds);
    }
    const bandwidth = (taken: number[]) => taken.map((each) => (2 * (n - 1) * bytes) / n / each);
    const ratio = median(theirs) / median(ours);
    return {
      bytesPerDevice: bytes,
      runs,
      busBytesPerSecond: { aronnax: bandwidth(ours), jax: bandwidth(theirs) },
      ratio,
      line: `${gb(median(bandwidth(ours)))} GB/s on the bus, jax ${gb(median(bandwidth(theirs)))}, ratio ${ratio.toFixed(3)}`,
    };
  }

  /** What NVML says while the devices exchange data. */
  async telemetry(): Promise<Part> {
    const runtime = await this.attached();
    const n = this.#settings.count;
    const elements = this.cuda ? 2 ** 28 : 2 ** 20;
    const array = { ...f32([n, elements]), sharding: ring(n) };
    const ones = this.compile(spread(n, elements, "f32", "ones"), [array], "ones");
    const sum = this.compile(allReduce(n, elements, "f32"), [array], "all-reduce");
    const samples: TelemetrySample[] = [];
    const stop = await subscribeTelemetry(runtime, (sample) => samples.push(sample), 10);
    let [x] = runtime.execute(ones, []);
    for (const until = seconds() + 2; seconds() < until; ) {
      for (let i = 0; i < 10; i++) [x] = runtime.execute(sum, [x!]);
      await runtime.sync([x!]);
    }
    stop();
    x!.free();
    const most: Record<string, number> = {};
    for (const { devices } of samples) {
      for (const device of devices) {
        for (const [name, value] of Object.entries(device)) most[name] = Math.max(most[name] ?? 0, value);
      }
    }
    check(samples.length >= 10, `${samples.length} samples came in two seconds`);
    if (this.cuda) {
      for (const name of ["powerWatts", "temperatureCelsius", "memoryInUse", "smClockMegahertz"]) {
        check((most[name] ?? 0) > 0, `no sample has ${name}`);
      }
      const linked = (this.#info!.devices[0]!.links ?? []).length > 0;
      if (linked) check((most.nvlinkTxBytesPerSecond ?? 0) > 1e9, "no NVLink traffic was seen");
    }
    const line = this.cuda
      ? `${most.powerWatts?.toFixed(0)} W, ${most.temperatureCelsius} degrees, NVLink ${gb(most.nvlinkTxBytesPerSecond ?? Number.NaN)} GB/s out at most`
      : `${samples.length} samples of the host`;
    return { count: samples.length, most, last: samples.at(-1), line };
  }

  /** The time that a run of a trivial program takes from the client, queued, beside jax. */
  async dispatch(devices: number): Promise<Part> {
    const runtime = await this.attached();
    const one = { ...f32([8]), ...(devices > 1 ? { sharding: ring(devices) } : {}) };
    const program = runtime.compile({
      text: step(devices),
      devices: this.#mesh.slice(0, devices),
      outputs: [one],
      name: "step",
    });
    const b = runtime.put(new Float32Array(8).fill(1), one);
    let x = runtime.put(new Float32Array(8), one);
    const runs = 10_000;
    const run = async (times: number) => {
      const start = seconds();
      for (let i = 0; i < times; i++) x = runtime.execute(program, [x, b])[0]!;
      await runtime.sync([x]);
      return ((seconds() - start) / times) * 1e6;
    };
    await run(runs / 10);
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let i = 0; i < 3; i++) {
      ours.push(await run(runs));
      const answer = await this.#beside().ask<{ microseconds: number }>("dispatch", { devices, runs });
      theirs.push(answer.microseconds);
    }
    check((await numbers(runtime, x))[7] === runs / 10 + 3 * runs, "the count of runs is wrong");
    const trips = await latencies(500, async () => {
      x = runtime.execute(program, [x, b])[0]!;
      await runtime.sync([x]);
    });
    return {
      microseconds: { aronnax: ours, jax: theirs },
      withSyncP50Microseconds: trips[250],
      line: `${median(ours).toFixed(1)} us, jax ${median(theirs).toFixed(1)}; with sync ${trips[250]!.toFixed(0)} us`,
    };
  }

  async matmul(): Promise<Part> {
    const runtime = await this.attached();
    const [size, runs] = this.cuda ? [8192, this.#settings.quick ? 50 : 200] : [256, 20];
    const run = await matmul(runtime, size);
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let i = 0; i < 3; i++) {
      ours.push(...(await run(runs, 2)));
      const answer = await this.#beside().ask<{ flopsPerSecond: number[] }>("matmul", {
        size,
        runs,
        turns: 2,
      });
      theirs.push(...answer.flopsPerSecond);
    }
    const ratio = median(ours) / median(theirs);
    return {
      size,
      runs,
      flopsPerSecond: { aronnax: ours, jax: theirs },
      ratio,
      line: `${(median(ours) / 1e12).toFixed(1)} TFLOP/s, jax ${(median(theirs) / 1e12).toFixed(1)}, ratio ${ratio.toFixed(3)}`,
    };
  }

  async transfer(sharding?: Sharding): Promise<Part> {
    const elements = this.cuda && !this.#settings.quick ? 250_000_000 : 16_000_000;
    const found = await transfers(await this.attached(), elements, sharding);
    return {
      ...found,
      line: `put ${gb(median(found.putBytesPerSecond))} GB/s, get ${gb(median(found.getBytesPerSecond))} GB/s`,
    };
  }

  /** A file from the shards of all devices, and back onto them with other shardings, every value compared there. */
  async safetensors(): Promise<Part> {
    const runtime = await this.attached();
    const n = this.#settings.count;
    const tensors = 8;
    const rows = this.cuda && !this.#settings.quick ? 8192 : 512;
    const columns = 4096;
    const shape = [rows, columns];
    const layouts = [ring(n), { ...ring(n), spec: [null, ["x"]] }, { ...ring(n), spec: [] }];
    const file = `${this.#settings.folder}/weights.safetensors`;
    const scalar = { shape: [], dtype: "int32" as const };
    const made = this.compile(fill(n, rows, columns), [{ ...f32(shape), sharding: layouts[0] }], "fill");
    const offset = (i: number) =>
      runtime.put(Float32Array.of(i), { ...f32([]), sharding: { ...ring(n), spec: [] } });
    const buffers: Record<string, DeviceBuffer> = {};
    for (let i = 0; i < tensors; i++) buffers[`w${i}`] = runtime.execute(made, [offset(i)])[0]!;
    await runtime.sync();
    let start = seconds();
    const { bytes } = await saveSafetensors(runtime, file, buffers);
    const save = bytes / (seconds() - start);
    for (const buffer of Object.values(buffers)) buffer.free();
    const load: number[][] = [];
    for (const sharding of layouts) {
      const wanted = Array.from({ length: tensors }, (_, i) => ({
        tensor: `w${i}`,
        ...f32(shape),
        sharding,
      }));
      const rates: number[] = [];
      let loaded: DeviceBuffer[] = [];
      for (let round = 0; round < 3; round++) {
        for (const buffer of loaded) buffer.free();
        start = seconds();
        loaded = await loadSafetensors(runtime, file, wanted);
        await runtime.sync(loaded);
        rates.push(bytes / (seconds() - start));
      }
      load.push(rates);
      const compared = this.compile(filled(n, rows, columns, sharding), [scalar], "compare");
      for (const [i, buffer] of loaded.entries()) {
        const [bad] = runtime.execute(compared, [buffer, offset(i)]);
        const count = new Int32Array((await runtime.get(bad!)).buffer)[0];
        check(count === 0, `${count} values of w${i} are wrong`);
        buffer.free();
      }
    }
    fs.rmSync(file);
    return {
      bytes,
      saveBytesPerSecond: save,
      loadBytesPerSecond: { rows: load[0], columns: load[1], replicated: load[2] },
      line: `save ${gb(save)} GB/s, load by rows ${gb(median(load[0]!))}, by columns ${gb(median(load[1]!))}, replicated ${gb(median(load[2]!))}`,
    };
  }
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

function gb(bytesPerSecond: number): string {
  return (bytesPerSecond / 1e9).toFixed(bytesPerSecond < 1e10 ? 2 : 1);
}
