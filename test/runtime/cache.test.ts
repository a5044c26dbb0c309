import { execFileSync } from "node:child_process";
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

  it("is not used while somebody else can write to it, to an entry, or to a folder above", async () => {
    const text = addProgram([11]);
    const made = async () => {
      await restart();
      return (await runtime.compile({ text, outputs: [f32([11]), f32([])] }).info).cached;
    };
    expect(await made()).toBe(false);
    expect(await made()).toBe("disk");
    const outer = path.join(cache, "outer");
    fs.mkdirSync(outer);
    const before = process.env.ARONNAX_CACHE_DIR;
    try {
      process.env.ARONNAX_CACHE_DIR = path.join(outer, "inner");
      expect(await made()).toBe(false);
      expect(await made()).toBe("disk");
      const inner = path.join(outer, "inner", "programs");
      const entry = path.join(inner, fs.readdirSync(inner)[0]!);
      for (const [place, open, closed] of [
        [outer, 0o777, 0o755],
        [inner, 0o777, 0o700],
        [entry, 0o666, 0o600],
      ] as const) {
        fs.chmodSync(place, open);
        expect(await made(), place).toBe(false);
        fs.chmodSync(place, closed);
        expect(fs.readFileSync(path.join(directory, "cpu.log"), "utf8")).toMatch(/program cache: not used/);
        await made();
        expect(await made(), place).toBe("disk");
      }
      // At each use, not only when it starts.
      fs.chmodSync(outer, 0o777);
      expect(await compile(addProgram([4]).replace("model.ts", "a.ts"))).toBe(false);
      expect(fs.readdirSync(inner)).toHaveLength(1);
      fs.chmodSync(outer, 0o755);
      // An entry that is a link or a pipe.
      fs.renameSync(entry, `${entry}.aside`);
      fs.symlinkSync(`${entry}.aside`, entry);
      expect(await made()).toBe(false);
      fs.rmSync(entry);
      execFileSync("mkfifo", [entry]);
      expect(await made()).toBe(false);
      if (process.getuid?.() === 0) {
        fs.chownSync(outer, 65534, 65534);
        await made();
        expect(await made()).toBe(false);
        fs.chownSync(outer, 0, 0);
      }
    } finally {
      process.env.ARONNAX_CACHE_DIR = before;
      fs.chmodSync(outer, 0o755);
    }
  }, 120_000);
});
