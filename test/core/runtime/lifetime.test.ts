import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { AronnaxError } from "../../../core/src/graph/errors.js";
import { BufferDeleted, InvalidArgument, RuntimeLost } from "../../../core/src/runtime/errors.js";
import { pythonCommand } from "../../../core/src/runtime/locate.js";
import { Runtime } from "../../../core/src/runtime/runtime.js";
import type { RuntimeStatus } from "../../../core/src/runtime/types.js";
import {
  addProgram,
  floats,
  isAlive,
  privateFolder,
  startRuntime,
  stopAll,
  until,
} from "../../runtime/support.js";

const f32 = (shape: number[]) => ({ shape, dtype: "float32" as const });
const library = fileURLToPath(new URL("../../../core/dist/runtime/runtime.js", import.meta.url));

/** Runs a client in a Node process of its own; `runtime` is attached in it. */
function client(directory: string, body: string): ChildProcess & { output: () => string } {
  const script = `import { Runtime } from ${JSON.stringify(library)};
    const runtime = new Runtime({ directory: ${JSON.stringify(directory)}, devices: "cpu" });
    await runtime.ready;
    ${body}`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => (text += chunk));
  child.stderr.on("data", (chunk: Buffer) => (text += chunk));
  return Object.assign(child, { output: () => text });
}

/** Sets variables of the environment back to what they were. */
function restore(variables: Record<string, string | undefined>): void {
  for (const [name, value] of Object.entries(variables)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
}

const ended = (child: ChildProcess) =>
  new Promise<number | null>((resolve) =>
    child.exitCode === null ? child.once("exit", resolve) : resolve(child.exitCode),
  );

describe("the runtime process and its clients", () => {
  afterAll(stopAll);

  it("fails everything that waits, at once and with the reason, when it is killed; the next use starts another", async () => {
    const { runtime, directory, pid } = await startRuntime();
    const program = runtime.compile({ text: addProgram([4]), outputs: [f32([4]), f32([])] });
    const a = runtime.put(new Float32Array(4), f32([4]));
    await runtime.sync();
    const slow = runtime.compile({ text: slowProgram, outputs: [f32([])] });
    const [never] = runtime.execute(slow, [runtime.put(new Float32Array(1), f32([]))]);
    const waiting = [
      runtime.get(never!),
      runtime.sync(),
      runtime.sync([never!]),
      runtime.memory(),
      runtime.ping(),
    ];
    const outcomes = Promise.allSettled(waiting);
    await slow.info;
    const killed = performance.now();
    process.kill(pid, "SIGKILL");
    const errors = (await outcomes).flatMap((o) => (o.status === "rejected" ? [o.reason as Error] : []));
    expect(performance.now() - killed).toBeLessThan(1000);
    expect(errors.length).toBeGreaterThanOrEqual(3);
    for (const error of errors) {
      expect(error).toBeInstanceOf(RuntimeLost);
      expect((error as RuntimeLost).exit).toBe("killed by SIGKILL");
      expect((error as RuntimeLost).log.join("\n")).toContain("killed by SIGKILL");
    }
    expect(runtime.lost).toBe(errors[0]);
    expect(() => runtime.execute(program, [a, a])).toThrow(RuntimeLost);
    await expect(runtime.get(a)).rejects.toThrow(RuntimeLost);
    await expect(runtime.drain()).rejects.toThrow(RuntimeLost);

    const next = new Runtime({ directory, devices: "cpu" });
    expect((await next.ready).pid).not.toBe(pid);
    const five = next.put(new Float32Array([5]), f32([1]));
    expect(await floats(next, five)).toEqual([5]);
    // What the old process held is not taken for something of the new one.
    await expect(next.get(a)).rejects.toBe(runtime.lost);
    expect(() => next.execute(program, [five, five])).toThrow(RuntimeLost);
  });

  it("outlives a killed client, frees its unnamed buffers and keeps its workspace", async () => {
    const { runtime, directory } = await startRuntime();
    const child = client(
      directory,
      `const put = (name) => runtime.put(new Float32Array(1024).fill(7), { shape: [1024], dtype: "float32", tag: "parameter", name });
       globalThis.kept = [put("named"), put("unnamed")];
       await runtime.workspace("run").set({ w: kept[0] }, { step: 3 });
       await runtime.sync();
       console.log("ready");
       setInterval(() => {}, 1000);`,
    );
    await until(() => child.output().includes("ready"));
    const names = async () => (await runtime.memory()).table.map((row) => row.name).sort();
    expect(await names()).toEqual(["named", "unnamed"]);
    child.kill("SIGKILL");
    await ended(child);
    await until(async () => (await names()).join() === "named");
    const workspace = runtime.workspace("run");
    expect(await workspace.list()).toEqual({
      name: "run",
      buffers: { w: { shape: [1024], dtype: "float32", tag: "parameter", name: "named" } },
      metadata: { step: 3 },
    });
    const { w } = await workspace.get();
    expect((await floats(runtime, w!)).slice(0, 3)).toEqual([7, 7, 7]);
    await expect(workspace.get(["x"])).rejects.toThrow(/no buffer named x/);
    await workspace.delete();
    expect((await workspace.list()).buffers).toEqual({});
    expect((await floats(runtime, w!)).length).toBe(1024);
  });

  it("serves two clients at once, with handles of their own", async () => {
    const { runtime, directory } = await startRuntime();
    const other = new Runtime({ directory, devices: "cpu" });
    const work = async (client: Runtime, value: number) => {
      const program = client.compile({ text: addProgram([8]), outputs: [f32([8]), f32([])] });
      const one = client.put(new Float32Array(8).fill(value), f32([8]));
      let x = one;
      for (let i = 0; i < 500; i++) {
        const [sum, total] = client.execute(program, [x, one]);
        x = sum!;
        if (i % 50 === 0) expect(await floats(client, total!)).toEqual([8 * value * (i + 2)]);
      }
      return (await floats(client, x))[0];
    };
    expect(await Promise.all([work(runtime, 1), work(other, 3)])).toEqual([501, 1503]);
    other.close();
    await expect(other.ping()).rejects.toThrow(RuntimeLost);
    await runtime.ping();
  });

  it("lets one client read what another takes by donation: whole, or with the reason why not", async () => {
    const { runtime, directory } = await startRuntime();
    const other = new Runtime({ directory, devices: "cpu" });
    const size = 1 << 20;
    const step = runtime.compile({ text: addProgram([size], true), outputs: [f32([size]), f32([])] });
    const zero = runtime.put(new Float32Array(size), f32([size]));
    let x = runtime.put(new Float32Array(size).fill(1), f32([size]));
    const shared = runtime.workspace("shared");
    await shared.set({ x });
    const read = async () => {
      try {
        const { x: seen } = await other.workspace("shared").get(["x"]);
        const values = await floats(other, seen!);
        expect(values.every((value) => value === 1)).toBe(true);
      } catch (error) {
        // It was taken before it was named, or between that and its reading.
        if (!(error instanceof BufferDeleted || error instanceof InvalidArgument)) throw error;
      }
    };
    const reads: Promise<void>[] = [];
    for (let i = 0; i < 60; i++) {
      reads.push(read(), read(), read());
      [x] = runtime.execute(step, [x, zero]) as [typeof x];
      await shared.set({ x });
    }
    await Promise.all(reads);
    other.close();
    await runtime.shutdown();
  });

  it("ends when several clients ask for it at once, and go on writing", async () => {
    const { runtime, directory } = await startRuntime();
    const clients = [runtime, ...Array.from({ length: 5 }, () => new Runtime({ directory, devices: "cpu" }))];
    await Promise.all(clients.map((client) => client.ready));
    const ended = Promise.all(clients.map((client) => client.shutdown()));
    while (!(await Promise.race([ended.then(() => true), sleep(0).then(() => false)]))) {
      for (const client of clients) if (!client.lost) client.put(new Float32Array(1), f32([1])).free();
    }
    await ended;
  });

  it("is not waited for without end where it hangs", async () => {
    const { directory, pid } = await startRuntime();
    process.kill(pid, "SIGSTOP");
    const client = new Runtime({ directory, devices: "cpu", startTimeout: 0.5 });
    const error = await client.ready.catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: "RuntimeError", fix: expect.stringContaining("restart") as string });
    expect((error as Error).message).toContain("does not answer");
    await expect(client.ping()).rejects.toThrow(RuntimeLost);
  });

  it("is started once by clients that come together", async () => {
    const directory = privateFolder();
    const clients = Array.from({ length: 4 }, () => new Runtime({ directory, devices: "cpu" }));
    const pids = await Promise.all(clients.map(async (c) => (await c.ready).pid));
    expect(new Set(pids).size).toBe(1);
  });

  it("starts over a stale socket and lock", async () => {
    const { directory, pid } = await startRuntime();
    process.kill(pid, "SIGKILL");
    await until(() => !isAlive(pid));
    expect(fs.existsSync(path.join(directory, "cpu.sock"))).toBe(true);
    const next = new Runtime({ directory, devices: "cpu" });
    expect((await next.ready).pid).not.toBe(pid);
  });

  it("ends when nobody can reach it any more", async () => {
    const { runtime, directory, pid } = await startRuntime();
    fs.rmSync(path.join(directory, "cpu.sock"));
    await sleep(2000);
    await runtime.ping();
    runtime.close();
    await until(() => !isAlive(pid));
  });

  it("does not keep a client's process alive when nothing is awaited", async () => {
    const { directory } = await startRuntime();
    const child = client(
      directory,
      `const b = runtime.put(new Float32Array([1, 2]), { shape: [2], dtype: "float32" });
       console.log(new Float32Array((await runtime.get(b)).buffer).join());
       runtime.put(new Float32Array([1, 2]), { shape: [2], dtype: "float32" });`,
    );
    expect(await ended(child)).toBe(0);
    expect(child.output()).toBe("1,2\n");
  });

  it("takes folders and interpreters relative to the working folder, though it runs in another", async () => {
    const here = process.cwd();
    const { ARONNAX_PYTHON, ARONNAX_CACHE_DIR } = process.env;
    const folder = privateFolder();
    try {
      process.env.ARONNAX_PYTHON = path.relative(folder, path.resolve(pythonCommand()));
      process.env.ARONNAX_CACHE_DIR = "cache";
      process.chdir(folder);
      const runtime = new Runtime({ directory: "run", devices: "cpu" });
      await runtime.compile({ text: addProgram([4]), outputs: [f32([4]), f32([])] }).info;
      expect(fs.readdirSync(folder).sort()).toEqual(["cache", "run"]);
      expect(fs.readdirSync(path.join(folder, "cache", "programs")).length).toBe(1);
      await runtime.shutdown();
    } finally {
      process.chdir(here);
      restore({ ARONNAX_PYTHON, ARONNAX_CACHE_DIR });
    }
  });

  it("names the setting that keeps it from starting, not what kept an earlier one", async () => {
    const { ARONNAX_CACHE_BYTES, ARONNAX_RUNTIME_IDLE_SECONDS, XLA_FLAGS } = process.env;
    const directory = privateFolder();
    const settings = {
      ARONNAX_CACHE_BYTES: "8G",
      ARONNAX_RUNTIME_IDLE_SECONDS: "never",
      XLA_FLAGS: "--xla_no_such=1",
    };
    for (const [name, value] of Object.entries(settings)) {
      try {
        process.env[name] = value;
        const error = await new Runtime({ directory, devices: "cpu" }).ready.catch((e: unknown) => e);
        expect(error, name).toBeInstanceOf(RuntimeLost);
        expect(error).toBeInstanceOf(AronnaxError);
        expect((error as RuntimeLost).message).toContain(value);
      } finally {
        restore({ ARONNAX_CACHE_BYTES, ARONNAX_RUNTIME_IDLE_SECONDS, XLA_FLAGS });
      }
    }
  });

  it("says which folder it cannot make", () => {
    expect(() => new Runtime({ directory: "/proc/aronnax", devices: "cpu" })).toThrow(
      /runtime folder \/proc\/aronnax cannot be made/,
    );
  });

  it("turns clients away, and lives on, when no file descriptor is left or too many are attached", async () => {
    const { runtime, directory, pid } = await startRuntime();
    const come = async (count: number) => {
      const clients = Array.from({ length: count }, () => new Runtime({ directory, devices: "cpu" }));
      const outcomes = await Promise.allSettled(clients.map((client) => client.ready));
      for (const client of clients) client.close();
      const refused = outcomes.flatMap((o) => (o.status === "rejected" ? [(o.reason as Error).message] : []));
      // Its answer takes descriptors too.
      const attached = async () =>
        runtime.request({ op: "status" }).then(
          ({ result }) => (result as RuntimeStatus).clients.length,
          () => Number.NaN,
        );
      await until(async () => (await attached()) === 1);
      return refused;
    };
    const crowd = await come(400);
    expect(crowd.length).toBe(400 - 255);
    expect(new Set(crowd)).toEqual(new Set(["256 clients are attached already"]));
    execFileSync("prlimit", ["--pid", `${pid}`, "--nofile=40:40"]);
    const starved = await come(60);
    expect(starved.length).toBeGreaterThan(20);
    for (const message of starved) expect(message).toContain("Too many open files");
    await runtime.ping();
  });

  it("says what is missing when it cannot be started", async () => {
    const previous = process.env.ARONNAX_PYTHON;
    try {
      process.env.ARONNAX_PYTHON = "/nowhere/python";
      const error = await new Runtime({ directory: privateFolder(), devices: "cpu" }).ready.catch(
        (e: unknown) => e,
      );
      expect(error).toBeInstanceOf(RuntimeLost);
      expect((error as RuntimeLost).message).toContain("/nowhere/python");
      expect((error as RuntimeLost).fix).toContain("ARONNAX_PYTHON");
    } finally {
      if (previous === undefined) delete process.env.ARONNAX_PYTHON;
      else process.env.ARONNAX_PYTHON = previous;
    }
    const absent = new Runtime({ directory: privateFolder(), devices: "cpu", start: false });
    await expect(absent.ready).rejects.toMatchObject({ name: "RuntimeLost", exit: "not running" });
  });
});

/** Runs for minutes: a loop of 10^10 turns. */
const slowProgram = `func.func @main(%a: tensor<f32>) -> tensor<f32> {
  %zero = stablehlo.constant dense<0> : tensor<i64>
  %one = stablehlo.constant dense<1> : tensor<i64>
  %end = stablehlo.constant dense<10000000000> : tensor<i64>
  %r:2 = stablehlo.while(%i = %zero, %x = %a) : tensor<i64>, tensor<f32>
    cond { %c = stablehlo.compare LT, %i, %end : (tensor<i64>, tensor<i64>) -> tensor<i1>
      stablehlo.return %c : tensor<i1> }
    do { %n = stablehlo.add %i, %one : tensor<i64>
      %y = stablehlo.sine %x : tensor<f32>
      stablehlo.return %n, %y : tensor<i64>, tensor<f32> }
  return %r#1 : tensor<f32> }`;
