import fs from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Runtime } from "../../core/src/runtime/runtime.js";
import { addProgram, floats, isAlive, privateFolder, startRuntime, stopAll, until } from "./support.js";

const f32 = (shape: number[]) => ({ shape, dtype: "float32" as const });

describe("the program cache", () => {
  const previous = process.env.ARONNAX_CACHE_DIR;
  let cache: string;
  let directory: string;
  let runtime: Runtime;
  let pid: number;

  const compile = async (text: string, options = {}) =>
    (await runtime.compile({ text, outputs: [f32([4]), f32([])], options }).info).cached;
  const entries = () =>
    fs.readdirSync(path.join(cache, "programs")).map((name) => path.join(cache, "programs", name));
  const restart = async () => {
    if (runtime !== undefined) {
      await runtime.shutdown();
      await until(() => !isAlive(pid));
    }
    ({ runtime, pid } = await startRuntime("cpu", directory));
  };

  beforeAll(async () => {
    cache = privateFolder();
    directory = privateFolder();
    process.env.ARONNAX_CACHE_DIR = cache;
    await restart();
  });
  afterAll(async () => {
    if (previous === undefined) delete process.env.ARONNAX_CACHE_DIR;
    else process.env.ARONNAX_CACHE_DIR = previous;
    await stopAll();
  });

  it("keeps programs in memory and on disk, apart by text and options", async () => {
    const text = addProgram([4], true);
    expect(await compile(text)).toBe(false);
    expect(await compile(text)).toBe("memory");
    expect(await compile(text, { optimizationLevel: 0 })).toBe(false);
    expect(await compile(text, { noCache: true })).toBe(false);
    expect(await compile(text.replace("model.ts", "other.ts"))).toBe(false);
    expect(entries().length).toBe(3);
    await restart();
    expect(await compile(text)).toBe("disk");
    const program = runtime.compile({ text, outputs: [f32([4]), f32([])] });
    const a = runtime.put(new Float32Array(4).fill(1), f32([4]));
    const b = runtime.put(new Float32Array(4).fill(2), f32([4]));
    expect(await floats(runtime, runtime.execute(program, [a, b])[1]!)).toEqual([12]);
    expect((await program.info).donated).toEqual([0]);
  });

  it("drops what was used longest ago when it is over its size", async () => {
    const texts = [5, 6, 7, 8].map((size) => addProgram([size]));
    const made = async (text: string, size: number) =>
      (await runtime.compile({ text, outputs: [f32([size]), f32([])] }).info).cached;
    const size = () => entries().reduce((sum, file) => sum + fs.statSync(file).size, 0);
    const [before, used] = [size(), entries().length];
    for (const [i, text] of texts.entries()) await made(text, 5 + i);
    const each = (size() - before) / texts.length;
    process.env.ARONNAX_CACHE_BYTES = String(Math.round(3.5 * each));
    try {
      await restart();
      expect(await made(texts[0]!, 5)).toBe("disk");
      expect(entries().length).toBe(used + 4);
      await made(addProgram([9]), 9);
      expect(entries().length).toBe(3);
      await restart();
      expect(await made(texts[0]!, 5)).toBe("disk");
      expect(await made(texts[1]!, 6)).toBe(false);
    } finally {
      delete process.env.ARONNAX_CACHE_BYTES;
      await restart();
    }
  });

  it("recompiles damaged, truncated, empty and foreign entries", async () => {
    const text = addProgram([4], true);
    const damage: ((file: string) => void)[] = [
      (file) => fs.truncateSync(file, fs.statSync(file).size - 1),
      (file) => fs.truncateSync(file, 0),
      (file) => fs.writeFileSync(file, "not an executable"),
      (file) => {
        const bytes = fs.readFileSync(file);
        bytes[bytes.length >> 1]! ^= 1;
        fs.writeFileSync(file, bytes);
      },
    ];
    for (const harm of damage) {
      for (const file of entries()) harm(file);
      await restart();
      expect(await compile(text)).toBe(false);
    }
    await restart();
    expect(await compile(text)).toBe("disk");
  }, 60_000);
});
