// What reaches the cell beside `console.log`: writes to descriptors, child processes, timers and callbacks.
import { afterAll, beforeAll, expect, it } from "vitest";
import { KernelClient } from "./client.js";

let kernel: KernelClient;
beforeAll(async () => {
  kernel = await KernelClient.start();
  await kernel.execute(
    "import fs, { writeSync } from 'node:fs'; import { execFileSync, execSync, fork, spawn, spawnSync } from 'node:child_process';",
  );
});
afterAll(() => kernel.stop());

it("takes writes to descriptors 1 and 2, in order with what is printed", async () => {
  const { stdout, stderr, error } = await kernel.execute(`
console.log("1");
writeSync(1, "2\\n");
process.stdout.write("3\\n");
fs.writeSync(1, Buffer.from("..4\\n.."), 2, 2);
fs.writevSync(1, [Buffer.from("5"), Buffer.from("\\n")]);
fs.appendFileSync(1, "6\\n");
fs.writeFileSync("/dev/stdout", "7\\n");
await new Promise((done) => fs.write(1, "8\\n", done));
await new Promise((done) => fs.createWriteStream("", { fd: 1, autoClose: false }).write("9\\n", done));
await new Promise((done) => fs.createWriteStream("/dev/stdout").end("10\\n", () => done(0)));
console.log("11");
fs.writeSync(2, "trouble\\n");`);
  expect(error).toBeUndefined();
  expect(stdout).toBe("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n");
  expect(stderr).toBe("trouble\n");
});

it("takes output of child processes with inherited descriptors, in order, of both streams and without a limit", async () => {
  const { stdout, stderr, error } = await kernel.execute(`
console.log("1");
execSync("echo 2; echo first >&2", { stdio: "inherit" });
console.log("3");
spawnSync("sh", ["-c", "seq 4 60000"], { stdio: ["ignore", 1, 2] });
console.log("60001");
execFileSync("echo", ["60002"], { stdio: ["ignore", process.stdout, "pipe"] });
const child = spawn("sh", ["-c", "echo 60003; echo second >&2"], { stdio: "inherit" });
await new Promise((done) => child.on("exit", done));
console.log("60004");
execSync("echo '60005 ≠ 6'; sh -c 'echo 60006'", { stdio: [0, 1, 2] });`);
  expect(error).toBeUndefined();
  const numbers = Array.from({ length: 60_004 }, (_, i) => `${i + 1}\n`).join("");
  expect(stdout === `${numbers}60005 ≠ 6\n60006\n`, `${stdout.slice(0, 200)} ... ${stdout.slice(-200)}`).toBe(
    true,
  );
  expect(stderr).toBe("first\nsecond\n");
});

it("shows the output of a child while it runs and the cell waits for it", async () => {
  const id = kernel.startExecution("execSync('echo early; sleep 600', { stdio: 'inherit' })");
  await kernel.until((m) => m.parent.msg_id === id && String(m.content.text ?? "").includes("early"));
  await kernel.interrupt();
  expect((await kernel.finish(id)).error?.ename).toBe("Interrupted");
});

it("takes output of forked modules, and leaves alone what a cell reads itself", async () => {
  const { stdout, result } = await kernel.execute(`
fs.writeFileSync("forked.cjs", "console.log('from the fork')");
await new Promise((done) => fork("./forked.cjs").on("exit", done));
[String(execSync("echo captured")), spawnSync("echo", ["x"]).stdout.length]`);
  expect(stdout).toBe("from the fork\n");
  expect(result).toEqual({ "text/plain": "[ 'captured\\n', 2 ]" });
});

it("gives timers, callbacks and children to the cell that made them, also after it ended", async () => {
  const first = kernel.startExecution(`
setTimeout(() => { console.log("timer"); display("shown"); }, 200);
setImmediate(async () => { await new Promise((go) => setTimeout(go, 250)); console.error("callback"); });
Promise.resolve().then(() => new Promise((go) => setTimeout(go, 150))).then(() => console.log("promise"));
const events = new (require("node:events"))(); events.on("later", () => console.log("listener"));
spawn("sh", ["-c", "sleep 0.3; echo child"], { stdio: "inherit" });
setTimeout(() => Promise.reject(new Error("rejected")), 100);
0`);
  await kernel.finish(first);
  const second = await kernel.execute(
    "await new Promise((go) => setTimeout(go, 100)); console.log('own'); events.emit('later')",
  );
  const textOf = (id: string) =>
    kernel.log
      .filter((m) => m.parent.msg_id === id && m.header.msg_type === "stream")
      .map((m) => String(m.content.text));
  await kernel.until((m) => m.parent.msg_id === first && String(m.content.text ?? "").includes("child"));
  for (const text of ["timer", "callback", "promise"])
    await kernel.until((m) => m.parent.msg_id === first && String(m.content.text ?? "").includes(text));
  await kernel.until((m) => m.parent.msg_id === first && m.header.msg_type === "display_data");
  expect(second.stdout).toContain("own\n");
  expect(textOf(second.reply.parent.msg_id!).join("")).not.toMatch(/timer|callback|promise|child/);
  expect((await kernel.execute("'alive'")).result).toEqual({ "text/plain": "'alive'" });
});
