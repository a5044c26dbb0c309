import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { pythonCommand, runtimePackage } from "../../core/src/runtime/locate.js";
import { privateFolder, stopAll, until } from "./support.js";
import { frame, WireClient } from "./wire.js";

/** Memory of a process in MiB. */
function resident(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;
}

describe("who has not shown the token", () => {
  const token = randomBytes(16).toString("hex");
  let directory: string;
  let port: number;
  let pid: number;

  beforeAll(async () => {
    directory = privateFolder();
    const server = net.createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    ({ port } = server.address() as net.AddressInfo);
    await new Promise((resolve) => server.close(resolve));
    const log = fs.openSync(path.join(directory, "start.log"), "a");
    spawn(
      pythonCommand(),
      [
        ...["-P", "-m", "aronnax_runtime", "--directory", directory, "--devices", "cpu"],
        ...["--listen", `127.0.0.1:${port}`],
      ],
      {
        stdio: ["ignore", log, log],
        env: { ...process.env, PYTHONPATH: runtimePackage(), ARONNAX_RUNTIME_TOKEN: token },
      },
    );
    await until(() => fs.existsSync(path.join(directory, "cpu.sock")), 60);
    pid = Number(fs.readFileSync(path.join(directory, "cpu.lock"), "utf8"));
  });
  afterAll(stopAll);

  const greeted = async (hello: object) => {
    const client = new WireClient(port);
    await client.send(frame({ op: "hello", id: 0, protocol: 1, ...hello }));
    await client.until(() => client.replies.length > 0);
    client.destroy();
    return client.replies[0];
  };

  it("keeps nobody out by coming in crowds and being silent", async () => {
    const silent = Array.from({ length: 400 }, () => net.connect(port, "127.0.0.1").on("error", () => {}));
    await Promise.all(silent.map((socket) => new Promise((resolve) => socket.once("connect", resolve))));
    expect((await greeted({ token }))!.result).toMatchObject({ platform: "cpu" });
    const local = new WireClient(path.join(directory, "cpu.sock"));
    await local.hello();
    expect(local.replies[0]!.error).toBeUndefined();
    local.destroy();
    // Nor by sending a byte from time to time: the time for all of the hello is one.
    const [first] = silent.filter((socket) => !socket.closed && !socket.destroyed).slice(-1);
    const dripping = setInterval(() => first!.write(frame({ op: "hello" }).subarray(0, 1)), 500);
    await new Promise((resolve) => first!.once("close", resolve));
    clearInterval(dripping);
    for (const socket of silent) socket.destroy();
  });

  it("is not read from when it sends much", async () => {
    const before = resident(pid);
    for (const headerLength of [4097, 1 << 24]) {
      const client = new WireClient(port);
      await client.send(frame(Buffer.alloc(4097, 0x80), undefined, { headerLength }));
      await client.until(() => false);
      expect(client.replies[0]?.error?.message ?? "closed").toMatch(/header of \d+ bytes|closed/);
    }
    const client = new WireClient(port);
    await client.send(frame({ op: "hello", id: 0, token: "x" }, undefined, { payloadLength: 1n << 35n }));
    await client.until(() => false);
    expect(client.replies[0]!.error!.message).toContain("without a payload");
    expect(resident(pid) - before).toBeLessThan(50);
    expect((await greeted({ token: "x".repeat(32) }))!.error!.message).toContain("token is wrong");
    expect((await greeted({ token: ["a"] }))!.error!.message).toContain("token is wrong");
  });

  it("writes no lines of its own into the log", async () => {
    const name = "x\n2026-11-30 00:00:00,000 ERROR forged \u001b[31mred\r\u2028";
    expect((await greeted({ token, client: name }))!.error).toBeUndefined();
    const log = () => fs.readFileSync(path.join(directory, "cpu.log"), "utf8");
    await until(() => log().includes("forged"), 60);
    for (const line of log().trimEnd().split("\n")) expect(line).toMatch(/^\d{4}-\d\d-\d\d \d\d:/);
    expect(log()).not.toMatch(/^2026-11-30 00:00:00,000/m);
    expect(log()).toContain("x\\n2026-11-30");
    expect(log()).not.toContain("\u001b");
  });
});
