/** Real runtime processes for tests: each in a private folder, stopped afterwards. */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Runtime } from "../../core/src/runtime/runtime.js";

const folders: string[] = [];

/** A fresh folder with a short path, removed by `stopAll`. */
export function privateFolder(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "arx-"));
  folders.push(folder);
  return folder;
}

export interface TestRuntime {
  runtime: Runtime;
  directory: string;
  pid: number;
}

/** A runtime process of its own, attached. */
export async function startRuntime(devices = "cpu", directory = privateFolder()): Promise<TestRuntime> {
  const runtime = new Runtime({ directory, devices });
  const { pid } = await runtime.ready;
  return { runtime, directory, pid };
}

/** Kills what the tests started and removes its folders. */
export async function stopAll(): Promise<void> {
  for (const folder of folders.splice(0)) {
    // The runtime, its supervisor, and any that just starts.
    await until(() => {
      const running = runtimesOf(folder);
      for (const pid of running) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {
          // It has ended by itself.
        }
      }
      return running.length === 0;
    });
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

function runtimesOf(folder: string): number[] {
  return fs
    .readdirSync("/proc")
    .map(Number)
    .filter((pid) => {
      try {
        const command = fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
        return pid > 0 && command.includes("aronnax_runtime") && command.includes(folder);
      } catch {
        return false;
      }
    });
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // A zombie answers signals too. One that ends meanwhile cannot be read.
    return !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Waits until `condition` holds; fails after `seconds`. */
export async function until(condition: () => boolean | Promise<boolean>, seconds = 20): Promise<void> {
  const deadline = Date.now() + seconds * 1000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${condition}`);
    await sleep(10);
  }
}

/** The values of a get, as numbers. */
export async function floats(runtime: Runtime, buffer: Parameters<Runtime["get"]>[0]): Promise<number[]> {
  return [...new Float32Array((await runtime.get(buffer)).buffer)];
}

/** `@main(a, b) -> (a + b, sum(a + b))` on float32 of a shape; `donate` takes the first argument. */
export function addProgram(shape: readonly number[], donate = false): string {
  const t = `tensor<${[...shape, "f32"].join("x")}>`;
  const dims = shape.map((_, i) => i).join(", ");
  return `module @add { func.func public @main(%a: ${t}${donate ? " {tf.aliasing_output = 0 : i32}" : ""}, %b: ${t}) -> (${t}, tensor<f32>) {
    %0 = stablehlo.add %a, %b : ${t} loc("model.ts":42:7)
    %z = stablehlo.constant dense<0.0> : tensor<f32>
    %1 = stablehlo.reduce(%0 init: %z) applies stablehlo.add across dimensions = [${dims}] : (${t}, tensor<f32>) -> tensor<f32>
    return %0, %1 : ${t}, tensor<f32> } }`;
}

/** A small generator of numbers below `n`, the same in each run (mulberry32). */
export function generator(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}
