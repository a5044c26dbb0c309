import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { pythonCommand, runtimePackage } from "../../../core/src/runtime/locate.js";
import { Runtime } from "../../../core/src/runtime/runtime.js";
import { isAlive, privateFolder, startRuntime, stopAll, until } from "../../runtime/support.js";

const command = fileURLToPath(new URL("../../../core/bin/aronnax.js", import.meta.url));

function aronnax(directory: string, ...args: string[]) {
  const { stdout, stderr, status } = spawnSync(process.execPath, [command, "runtime", ...args], {
    encoding: "utf8",
    env: { ...process.env, ARONNAX_RUNTIME_DIR: directory, ARONNAX_DEVICES: "cpu:2" },
  });
  return { stdout, stderr, status };
}

describe("aronnax runtime", () => {
  afterAll(stopAll);

  it("starts, shows, restarts and stops the process", async () => {
    const directory = privateFolder();
    expect(aronnax(directory, "status")).toMatchObject({ status: 3, stdout: /^not running/ });
    expect(JSON.parse(aronnax(directory, "status", "--json").stdout)).toMatchObject({ running: false });
    expect(aronnax(directory, "start")).toMatchObject({ status: 0, stdout: /^running: pid \d+, 2 x cpu/ });

    const runtime = new Runtime({ directory, devices: "cpu:2" });
    await runtime.workspace("run").set({
      w: runtime.put(new Float32Array(256), { shape: [256], dtype: "float32", tag: "parameter", name: "w" }),
    });
    const status = JSON.parse(aronnax(directory, "status", "--json").stdout) as Record<string, unknown>;
    expect(status).toMatchObject({
      running: true,
      socket: path.join(directory, "cpu-2.sock"),
      devices: [{ id: 0 }, { id: 1 }],
      workspaces: [{ name: "run", buffers: 1, bytes: 1024 }],
      holders: [
        { kind: "workspace", name: "run", buffers: 1, devices: [{ id: 0, bytes: 1024 }] },
        // What is in a workspace is not counted again.
        { kind: "client", buffers: 0, devices: [] },
        { kind: "client", buffers: 0, devices: [] },
      ],
      programs: [],
      memory: { table: [{ tag: "parameter", name: "w", buffers: 1, bytes: 1024 }] },
    });
    expect(aronnax(directory, "status").stdout).toContain("workspace run: 1 buffers");
    expect(aronnax(directory, "start").stdout).toContain(`pid ${status.pid}`);

    const restarted = aronnax(directory, "restart").stdout;
    expect(restarted).toContain(`stopped pid ${status.pid}`);
    await expect(runtime.ping()).rejects.toMatchObject({ name: "RuntimeLost", exit: "stopped on request" });
    expect(aronnax(directory, "logs", "-n", "3").stdout.trim().split("\n").length).toBe(3);
    expect(aronnax(directory, "stop").stdout).toMatch(/^stopped pid/);
    expect(aronnax(directory, "stop").stdout).toBe("not running\n");
    expect(aronnax(directory, "status").stdout).toContain("the last one: stopped on request");
    expect(fs.existsSync(path.join(directory, "cpu-2.sock"))).toBe(false);
  });

  it("stops a process that does not answer", async () => {
    const { directory, pid } = await startRuntime("cpu:2");
    process.kill(pid, "SIGSTOP");
    expect(aronnax(directory, "stop")).toMatchObject({ status: 0, stdout: `stopped pid ${pid}\n` });
    expect(isAlive(pid)).toBe(false);
  }, 60_000);

  it("says what a wrong word should have been", () => {
    const directory = privateFolder();
    expect(aronnax(directory, "stat")).toMatchObject({ status: 2, stderr: /status .*start .*stop/s });
    expect(aronnax(directory, "status", "--devices", "gpu")).toMatchObject({
      status: 1,
      stderr: /fix: .*cuda:0,1/,
    });
    fs.chmodSync(directory, 0o755);
    expect(aronnax(directory, "status").stderr).toMatch(/mode 0700.*fix: .*chmod 700/s);
    expect(aronnax(path.join(directory, "x".repeat(120)), "status").stderr).toContain(
      "107 that Unix sockets allow",
    );
  });

  it("ends after its idle time-out, unless it holds a workspace", async () => {
    process.env.ARONNAX_RUNTIME_IDLE_SECONDS = "1";
    try {
      const { runtime, directory, pid } = await startRuntime();
      await sleep(2500);
      await runtime.ping();
      await runtime
        .workspace("kept")
        .set({ x: runtime.put(new Float32Array(1), { shape: [1], dtype: "float32" }) });
      runtime.close();
      await sleep(2500);
      const again = new Runtime({ directory, devices: "cpu", start: false });
      expect((await again.ready).pid).toBe(pid);
      await again.workspace("kept").delete();
      again.close();
      await until(() => !isAlive(pid));
      await until(() => fs.existsSync(path.join(directory, "cpu.exit.json")));
      expect(fs.readFileSync(path.join(directory, "cpu.exit.json"), "utf8")).toContain("idle time-out");
    } finally {
      delete process.env.ARONNAX_RUNTIME_IDLE_SECONDS;
    }
  });

  it("moves a full log aside and keeps three", () => {
    const log = path.join(privateFolder(), "x.log");
    const script = `import sys; from pathlib import Path
from aronnax_runtime import supervisor
supervisor.LOG_BYTES = 1000
log = supervisor.RotatingLog(Path(sys.argv[1]))
for i in range(60): log.write(f"{i:099}\\n".encode())`;
    const { status, stderr } = spawnSync(pythonCommand(), ["-P", "-c", script, log], {
      encoding: "utf8",
      env: { ...process.env, PYTHONPATH: runtimePackage() },
    });
    expect(stderr).toBe("");
    expect(status).toBe(0);
    const files = fs.readdirSync(path.dirname(log)).sort();
    expect(files).toEqual(["x.log", "x.log.1", "x.log.2", "x.log.3"]);
    const kept = [...files.slice(1).reverse(), "x.log"].map((name) =>
      fs.readFileSync(path.join(path.dirname(log), name), "utf8"),
    );
    const numbers = kept.join("").trim().split("\n").map(Number);
    expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, i) => 60 - numbers.length + i));
    expect(numbers.length).toBeGreaterThan(30);
  });
});
