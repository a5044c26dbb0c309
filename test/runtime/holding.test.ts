import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, it } from "vitest";
import { BufferDeleted, CompileError, InvalidArgument, RuntimeLost } from "../../core/src/runtime/errors.js";
import { Runtime } from "../../core/src/runtime/runtime.js";
import { saveSafetensors } from "../../core/src/runtime/safetensors.js";
import { describeRunning } from "../../core/src/runtime/waiting.js";
import { addProgram, floats, privateFolder, startRuntime, stopAll, until } from "./support.js";
import { frame, WireClient } from "./wire.js";

const f32 = (shape: number[]) => ({ shape, dtype: "float32" as const });
const patience = 60;

/** `turns` turns of a loop over `size` numbers; without end by default. A small one runs on the thread that starts it. */
function loop(size: number, turns = 2 ** 60, body = "stablehlo.add %x, %x"): string {
  const t = `tensor<${size}xf32>`;
  return `func.func @main(%a: ${t}) -> ${t} {
    %zero = stablehlo.constant dense<0> : tensor<i64>
    %one = stablehlo.constant dense<1> : tensor<i64>
    %end = stablehlo.constant dense<${turns}> : tensor<i64>
    %r:2 = stablehlo.while(%x = %a, %i = %zero) : ${t}, tensor<i64>
      cond { %c = stablehlo.compare LT, %i, %end : (tensor<i64>, tensor<i64>) -> tensor<i1>
        stablehlo.return %c : tensor<i1> }
      do { %y = ${body} : ${t}
        %n = stablehlo.add %i, %one : tensor<i64>
        stablehlo.return %y, %n : ${t}, tensor<i64> }
    return %r#0 : ${t} }`;
}

/** A chain that XLA compiles for minutes. */
function chain(length: number, first = 0): string {
  const t = "tensor<4xf32>";
  const lines = Array.from(
    { length },
    (_, i) => `%v${i + 1} = stablehlo.${i === first ? "cosine" : "sine"} %v${i} : ${t}`,
  );
  return `func.func @main(%v0: ${t}) -> ${t} { ${lines.join("\n")} return %v${length} : ${t} }`;
}

async function computes(client: Runtime): Promise<void> {
  const program = client.compile({ text: addProgram([4]), outputs: [f32([4]), f32([])] });
  const one = client.put(new Float32Array(4).fill(1), f32([4]));
  expect(await floats(client, client.execute(program, [one, one])[1]!)).toEqual([8]);
}

describe("a program that does not end", () => {
  afterAll(stopAll);

  it.each([4, 800_000])("of %d numbers holds up its own client only, which learns of it", async (size) => {
    const { runtime, directory } = await startRuntime();
    const other = new Runtime({ directory, devices: "cpu" });
    const program = runtime.compile({ text: loop(size), outputs: [f32([size])], name: "endless" });
    const input = runtime.put(new Float32Array(size).fill(1), f32([size]));
    const [never] = runtime.execute(program, [input]);
    const get = runtime.get(never!).catch((error: unknown) => error);
    await until(async () => (await other.activity()).running.length === 1, patience);
    await computes(other);
    await runtime.ping();
    const own = (await runtime.activity()).running[0]!;
    expect(own).toMatchObject({ program: "endless", own: true, gone: false, devices: [0] });
    expect(own.client).toContain(`pid ${process.pid}`);
    expect(Date.now() - own.since).toBeLessThan(patience * 1000);
    expect(describeRunning(own)).toMatch(/program endless of this notebook runs since .* for \d+ s/);
    const seen = (await other.activity()).running[0]!;
    expect(seen.own).toBe(false);
    // Others save too, and others who come later are served; the client that goes leaves the program behind.
    const file = path.join(directory, "x.safetensors");
    await saveSafetensors(other, file, { x: other.put(new Float32Array(1), f32([1])) });
    runtime.close();
    expect(await get).toBeInstanceOf(RuntimeLost);
    await until(async () => (await other.activity()).running[0]!.gone, patience);
    await computes(new Runtime({ directory, devices: "cpu" }));
    await computes(other);
  });

  it("is ended by a restart that keeps and brings back what can be read", async () => {
    const { runtime, directory, pid } = await startRuntime();
    const other = new Runtime({ directory, devices: "cpu" });
    const add = runtime.compile({ text: addProgram([4]), outputs: [f32([4]), f32([])] });
    const one = runtime.put(new Float32Array(4).fill(1), { ...f32([4]), tag: "parameter", name: "one" });
    const [two] = runtime.execute(add, [one, one]);
    const bytes = runtime.put(new Uint8Array([1, 2, 3]), { shape: [3], dtype: "uint8" });
    await runtime.workspace("run").set({ two: two!, bytes }, { step: 3 });
    const of = other.put(new Float32Array([7]), f32([1]));
    await other.sync();
    const endless = runtime.compile({ text: loop(4), outputs: [f32([4])], name: "endless" });
    const [never] = runtime.execute(endless, [two!]);
    const [after] = runtime.execute(add, [never!, one]);
    await until(async () => (await other.activity()).running.length === 1, patience);
    // Asked for by a third, who is a stranger to it all.
    const third = new Runtime({ directory, devices: "cpu" });
    const recovery = await third.recover();
    expect(recovery.ended).toMatchObject([{ program: "endless" }]);
    expect((await third.ready).pid).not.toBe(pid);
    for (const client of [runtime, other]) await client.ping();
    expect((await runtime.ready).pid).toBe((await third.ready).pid);
    expect(await floats(runtime, two!)).toEqual([2, 2, 2, 2]);
    expect([...(await runtime.get(bytes))]).toEqual([1, 2, 3]);
    expect(await floats(other, of)).toEqual([7]);
    for (const lost of [never!, after!]) {
      const error = await runtime.get(lost).catch((reason: unknown) => reason);
      expect(error instanceof InvalidArgument || error instanceof BufferDeleted).toBe(true);
      expect((error as Error).message).toMatch(/lost when the runtime was restarted/);
    }
    // The program too.
    expect(await floats(runtime, runtime.execute(add, [two!, one])[1]!)).toEqual([12]);
    const { run } = { run: third.workspace("run") };
    expect((await run.list()).metadata).toEqual({ step: 3 });
    expect(await floats(third, (await run.get(["two"])).two!)).toEqual([2, 2, 2, 2]);
    const table = (await third.memory()).table.find(({ name }) => name === "one");
    expect(table).toEqual({ tag: "parameter", name: "one", buffers: 1, bytes: 16 });
    expect(fs.readdirSync(path.join(directory, "cpu.kept"))).toEqual([]);
    expect((await third.activity()).running).toEqual([]);
    await third.shutdown();
  });

  it("is not begun for a client that has gone", async () => {
    const { runtime, directory } = await startRuntime();
    const { socket } = await runtime.ready;
    const client = new WireClient(socket);
    await client.hello();
    const outputs = [f32([4])];
    const compile = (program: number, text: string, name: string) =>
      client.send(
        frame({ op: "compile", id: program, program, outputs, name }, new TextEncoder().encode(text)),
      );
    await compile(1, loop(4, 3e8), "first");
    await compile(2, loop(4), "second");
    await client.until(() => client.reply(2) !== undefined && client.reply(1) !== undefined);
    await client.send(frame({ op: "put", buffer: 1, shape: [4], dtype: "float32" }, new Uint8Array(16)));
    for (const program of [1, 2, 2]) {
      await client.send(frame({ op: "execute", program, inputs: [1], outputs: 10 + program }));
    }
    const running = async () => (await runtime.activity()).running;
    await until(async () => (await running()).length === 1, patience);
    client.destroy();
    await until(async () => (await running()).every(({ gone }) => gone), patience);
    await until(async () => (await running()).length === 0, patience);
    await sleep(200);
    expect(await running()).toEqual([]);
    expect(fs.readFileSync(path.join(directory, "cpu.log"), "utf8")).not.toContain("Traceback");
  });
});

describe("a compiler that does not end", () => {
  afterAll(stopAll);

  const processes = (folder: string) =>
    fs.readdirSync("/proc").filter((pid) => {
      try {
        return fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(folder);
      } catch {
        return false;
      }
    }).length;

  it("holds nobody else up, and ends with its client", async () => {
    const previous = process.env.ARONNAX_CACHE_DIR;
    process.env.ARONNAX_CACHE_DIR = privateFolder();
    try {
      const { runtime, directory } = await startRuntime();
      const stuck = [0, 1, 2].map(() => new Runtime({ directory, devices: "cpu" }));
      for (const [i, client] of stuck.entries()) {
        for (const part of [0, 1, 2]) {
          client.compile({ text: chain(60_000, 3 * i + part), outputs: [f32([4])], name: `long-${i}` });
        }
      }
      const compiling = async () => (await runtime.activity()).compiling;
      await until(async () => (await compiling()).filter(({ begun }) => begun).length >= 3, patience);
      await computes(runtime);
      const seen = await compiling();
      expect(seen).toHaveLength(9);
      for (const { own, seconds } of seen) expect([own, seconds >= 0]).toEqual([false, true]);
      expect((await stuck[0]!.activity()).compiling.filter(({ own }) => own)).toHaveLength(3);
      // One gives up by itself, and goes on; the others go.
      const program = stuck[0]!.compile({ text: chain(60_000, 100), outputs: [f32([4])] });
      const [output] = stuck[0]!.execute(program, [stuck[0]!.put(new Float32Array(4), f32([4]))]);
      await stuck[0]!.ping();
      expect(await stuck[0]!.giveUpCompiling()).toBe(4);
      await expect(program.info).rejects.toThrow(/given up/);
      await expect(stuck[0]!.get(output!)).rejects.toThrow(CompileError);
      await computes(stuck[0]!);
      for (const client of stuck.slice(1)) client.close();
      await until(async () => (await compiling()).length === 0, patience);
      // Supervisor, runtime, where compilers come from, and two that are ready.
      await until(() => processes(directory) <= 5, patience);
      await computes(runtime);
    } finally {
      if (previous === undefined) delete process.env.ARONNAX_CACHE_DIR;
      else process.env.ARONNAX_CACHE_DIR = previous;
    }
  }, 180_000);
});
