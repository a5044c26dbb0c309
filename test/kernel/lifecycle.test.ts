import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { isAlive } from "../runtime/support.js";
import { KernelClient, kernelNode, PATIENCE, repository } from "./client.js";

let kernel: KernelClient;
afterEach(() => kernel.stop());

const gone = (pid: number) => !isAlive(pid);

async function waitUntil(condition: () => boolean, timeout = PATIENCE): Promise<void> {
  const end = performance.now() + timeout;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited ${timeout} ms for ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Child processes of all threads. */
const children = (pid: number): number[] =>
  readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8")
      .trim()
      .split(" ")
      .filter(Boolean)
      .map(Number),
  );

describe("the kernel process", () => {
  it("shuts down when asked, with its checker, also while a cell blocks", async () => {
    for (const code of ["1", "while (true) {}"]) {
      kernel = await KernelClient.start();
      await kernel.execute("let x = 1");
      const checkers = children(kernel.process.pid!);
      expect(checkers.length).toBe(1);
      kernel.startExecution(code);
      await new Promise((resolve) => setTimeout(resolve, 100));
      const reply = await kernel.ask("control", "shutdown_request", { restart: true });
      expect(reply.content).toEqual({ status: "ok", restart: true });
      await kernel.exit;
      for (const pid of checkers) await waitUntil(() => gone(pid));
      await kernel.stop();
    }
  });

  it("takes large arrays in huge pages where Linux has them, and hands that setting to no process of a cell", async () => {
    kernel = await KernelClient.start();
    const { stdout } = await kernel.execute(`
      import { execFileSync } from "node:child_process";
      import { readFileSync } from "node:fs";
      const large = new Uint8Array(2 ** 27).fill(1);
      const smaps = readFileSync("/proc/self/smaps_rollup", "utf8");
      console.log(JSON.stringify({
        huge: Number(/AnonHugePages:\\s+(\\d+)/.exec(smaps)![1]) / 1024,
        inherited: execFileSync("env", { encoding: "utf8" }).includes("GLIBC_TUNABLES"),
      }));`);
    const { huge, inherited } = JSON.parse(stdout) as { huge: number; inherited: boolean };
    expect(inherited).toBe(false);
    const setting = "/sys/kernel/mm/transparent_hugepage/enabled";
    const given = existsSync(setting) && !readFileSync(setting, "utf8").includes("[never]");
    if (given) expect(huge).toBeGreaterThan(8);
  });

  it("leaves no folder behind, and clears up after one that was killed", async () => {
    const folders = (pid: number) =>
      readdirSync(tmpdir()).filter((name) => name.startsWith(`aronnax-cells-${pid}-`));
    kernel = await KernelClient.start();
    const killed = kernel.process.pid!;
    await kernel.execute("1");
    expect(folders(killed).length).toBe(1);
    kernel.process.kill("SIGKILL");
    await kernel.exit;
    await kernel.stop();
    kernel = await KernelClient.start();
    await kernel.execute("1");
    expect(folders(killed)).toEqual([]);
    const ended = kernel.process.pid!;
    await kernel.stop();
    expect(folders(ended)).toEqual([]);
    kernel = await KernelClient.start();
  });

  it("ends cleanly when a cell calls process.exit, and answers the request first", async () => {
    kernel = await KernelClient.start();
    await kernel.ask("control", "debug_request", {
      type: "request",
      seq: 1,
      command: "attach",
      arguments: {},
    });
    const loop = kernel.startExecution("console.log('looping'); while (true) {}");
    await kernel.until((m) => String(m.content.text ?? "").includes("looping"));
    await kernel.interrupt();
    await kernel.finish(loop);
    const { error, reply, stdout } = await kernel.execute("console.log('bye'); process.exit(3)");
    expect(stdout).toBe("bye\n");
    expect(reply.content).toMatchObject({ status: "error", ename: "Exit" });
    expect(error?.evalue).toContain("process.exit(3)");
    expect(await kernel.exit).toBe(3);
  });

  it("does not outlive the process that started it, even while a cell blocks", async () => {
    kernel = await KernelClient.start();
    const file = join(kernel.folder, "second.json");
    writeFileSync(file, JSON.stringify({ ...kernel.connection, ip: join(kernel.folder, "second") }));
    const parent = spawn(
      process.execPath,
      [
        "-e",
        `const c = require("child_process").spawn(process.argv[1], process.argv.slice(2), { stdio: "ignore", detached: true, env: { ...process.env, JPY_PARENT_PID: String(process.pid) } }); console.log(c.pid); setInterval(() => {}, 1000);`,
        kernelNode(),
        join(repository, "kernel/dist/main.js"),
        file,
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    const pid = Number(
      await new Promise<string>((resolve) => parent.stdout!.once("data", (data) => resolve(String(data)))),
    );
    await waitUntil(() => children(pid).length > 0);
    parent.kill("SIGKILL");
    await waitUntil(() => gone(pid));
  });

  it("ends with the reason in the log where its sockets are taken", async () => {
    kernel = await KernelClient.start();
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    const { port } = taken.address() as AddressInfo;
    const ports = Object.fromEntries(
      ["shell", "control", "iopub", "stdin", "hb"].map((name) => [`${name}_port`, port]),
    );
    const file = join(kernel.folder, "taken.json");
    writeFileSync(
      file,
      JSON.stringify({ ...kernel.connection, transport: "tcp", ip: "127.0.0.1", ...ports }),
    );
    const second = spawn(kernelNode(), [join(repository, "kernel/dist/main.js"), file]);
    let said = "";
    second.stderr.on("data", (chunk) => {
      said += chunk;
    });
    expect(await new Promise((resolve) => second.on("exit", resolve))).toBe(1);
    expect(said).toMatch(/sockets of .*taken.json cannot be opened: Address already in use/);
    taken.close();
  });

  it("drops messages that are wrongly signed, replayed or not messages, and lives on", async () => {
    kernel = await KernelClient.start();
    const header = kernel.wire.header("execute_request");
    const message = {
      identities: [],
      header,
      parent: {},
      metadata: {},
      content: { code: "(globalThis as any).forged = 1" },
      buffers: [],
    };
    const frames = kernel.wire.encode(message);
    const forged = [...frames];
    forged[1] = "0".repeat(64);
    kernel.sendFrames("shell", forged);
    kernel.sendFrames("shell", ["no delimiter"]);
    kernel.sendFrames("control", ["<IDS|MSG>", "", "{}"]);
    kernel.sendFrames("shell", frames);
    kernel.sendFrames("shell", frames);
    expect((await kernel.execute("(globalThis as any).forged")).reply.content.execution_count).toBe(2);
    await waitUntil(() => (kernel.stderr.match(/was dropped/g) ?? []).length === 4);
    expect(kernel.stderr).toContain("HMAC signature does not match");
    expect(kernel.stderr).toContain("came twice");
  });

  it("greets subscribers, and serves two front ends at once", async () => {
    kernel = await KernelClient.start();
    const welcome = kernel.log.find((m) => m.header.msg_type === "iopub_welcome");
    expect(welcome?.content).toEqual({ subscription: "" });
    await kernel.execute("let shared = 41");
    const second = new (KernelClient as unknown as new (...args: unknown[]) => KernelClient)(
      kernel.process,
      kernel.connection,
      kernel.folder,
    );
    await second.connect();
    expect((await second.execute("shared + 1")).result).toEqual({ "text/plain": "42" });
    await kernel.until(
      (m) => m.header.msg_type === "execute_result" && m.parent.session === second.wire.session,
    );
    second.disconnect();
  });

  it("asks for input, also for passwords, and refuses where the front end cannot", async () => {
    kernel = await KernelClient.start();
    const id = kernel.startExecution(
      "const name = prompt('Who?');\nconst secret = jupyter.password();\n[name, secret]",
      {
        allow_stdin: true,
      },
    );
    const question = await kernel.until((m) => m.header.msg_type === "input_request");
    expect(question.content).toEqual({ prompt: "Who?", password: false });
    kernel.send("stdin", "input_reply", { value: "Nemo" }, [], question.header);
    const hidden = await kernel.until(
      (m) => m.header.msg_type === "input_request" && m.content.password === true,
    );
    kernel.send("stdin", "input_reply", { value: "20000" }, [], hidden.header);
    expect((await kernel.finish(id)).result).toEqual({ "text/plain": "[ 'Nemo', '20000' ]" });
    expect((await kernel.execute("prompt('x')")).error?.ename).toBe("InputRefused");
    const waiting = kernel.startExecution("prompt('never')", { allow_stdin: true });
    await kernel.until((m) => m.header.msg_type === "input_request" && m.content.prompt === "never");
    await kernel.interrupt();
    expect((await kernel.finish(waiting)).error?.ename).toBe("Interrupted");
  });
});
