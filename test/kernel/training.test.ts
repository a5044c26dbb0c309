/** A training in a cell of the real kernel, and what becomes of it when the kernel or the runtime is killed. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import type { Json } from "../../kernel/src/protocol/wire.js";
import { isAlive, privateFolder, stopAll } from "../runtime/support.js";
import { KernelClient, plain } from "./client.js";

const runtimeFolder = privateFolder();
const home = mkdtempSync(join(tmpdir(), "aronnax-training-"));
const cwd = join(home, "notebooks");
mkdirSync(cwd);
const timeout = 180_000;

let kernel: KernelClient;

/** A small model on a small text: a step takes some milliseconds, its compilation some seconds. */
const setup = `
import { adamw, llm, text, Trainer } from "aronnax";
const tokenizer = text.byteTokenizer();
const documents = Array.from({ length: 40 }, (_, i) => "There she blows! " + i + " barrels of oil. ".repeat(30));
function trainer(options: { resume?: boolean } = {}) {
  return new Trainer({
    name: "whaling",
    model: llm.llama({ vocabSize: 257, hiddenSize: 32, intermediateSize: 64, layers: 1, heads: 2 }),
    data: text.packed(documents, { tokenizer, sequenceLength: 32, batchSize: 4 }),
    optimizer: adamw({ learningRate: 1e-3 }),
    steps: 100_000,
    checkpoints: { every: 20, keep: 2 },
    printEvery: 10,
    ...options,
  });
}
`;

async function start(): Promise<KernelClient> {
  return KernelClient.start({ cwd, env: { ARONNAX_RUNTIME_DIR: runtimeFolder, ARONNAX_DEVICES: "cpu" } });
}

/** Waits until the training of an execution has printed a step at or after `step`. */
function reached(client: KernelClient, id: string, step: number) {
  return client.until((m) => {
    if (m.header.msg_type !== "stream" || m.parent.msg_id !== id) return false;
    const printed = /step\s+(\d+)\//.exec(String(m.content.text));
    return printed !== null && Number(printed[1]) >= step;
  }, timeout);
}

function runtimePid(): number {
  return Number(readFileSync(join(runtimeFolder, "cpu.lock"), "utf8"));
}

beforeAll(async () => {
  kernel = await start();
  const prepared = await kernel.execute(setup, {}, timeout);
  expect(prepared.error).toBeUndefined();
}, timeout);

afterEach(({ task }) => {
  if (task.result?.state === "fail")
    console.error(kernel.log.slice(-5).map((m) => JSON.stringify(m.content).slice(0, 500)));
});

afterAll(async () => {
  await kernel?.stop();
  await stopAll();
  rmSync(home, { recursive: true, force: true });
});

it("is shown by an id of its run, and brought up to date when the run is interrupted, ends or fails", {
  timeout,
}, async () => {
  const cells = `
const kept = new Trainer({ ...trainer().config, name: "kept", steps: 1000, checkpoints: undefined });
kept`;
  const [shown] = (await kernel.execute(cells, {}, timeout)).displays as Json[];
  const { display_id: id } = shown!.transient as { display_id: string };
  const data = shown!.data as Record<string, string>;
  const reference = data["application/vnd.aronnax.run+json"] as unknown as { id: string; path: string };
  expect(id).toBe(`aronnax-run-${reference.id}`);
  expect(reference.path).toBe("runs/kept/metrics.arrow");
  expect(data["text/plain"]).toBe('Trainer "kept": step 0 of 1000');
  const updateOf = async (code: string, interruptAt?: number) => {
    const run = kernel.startExecution(code);
    if (interruptAt !== undefined) {
      await reached(kernel, run, interruptAt);
      await kernel.interrupt();
    }
    const { iopub } = await kernel.finish(run, timeout);
    const updates = iopub.filter(({ header }) => header.msg_type === "update_display_data");
    expect(updates).toHaveLength(1);
    expect(updates[0]!.content.transient).toEqual({ display_id: id });
    return updates[0]!.content.data as Record<string, string>;
  };
  const stopped = await updateOf("await kept.fit()", 10);
  expect(stopped["text/plain"]).toMatch(/run "kept": interrupted, step \d+ of 1000/);
  const ended = await updateOf("await kept.fit()");
  expect(ended["text/plain"]).toMatch(
    /^Trainer "kept": step 1000 of 1000, loss .*\nrun "kept": finished, step 1000 of 1000/,
  );
  expect(ended["text/html"]).toMatch(
    /<td>1000 of 1000<\/td>[\s\S]*<img alt="[^"]+" src="data:image\/svg\+xml;base64,/,
  );
  expect(ended["image/svg+xml"]).toMatch(/^<svg /);
  expect(ended["application/vnd.aronnax.run+json"]).toEqual(reference);

  const failing = `
const bad = new Trainer({ ...kept.config, name: "bad", callbacks: [{ onStep() { throw new Error("no more oil"); } }] });
display(bad);
await bad.fit();`;
  const failed = await kernel.execute(failing, {}, timeout);
  expect(failed.error?.evalue).toContain("no more oil");
  const [last] = failed.iopub.filter(({ header }) => header.msg_type === "update_display_data");
  expect((last!.content.data as Record<string, string>)["text/plain"]).toMatch(
    /run "bad": failed, step 1 of 1000[\s\S]*no more oil/,
  );
});

it("stops at a step boundary when the cell is interrupted, and goes on", { timeout }, async () => {
  const first = kernel.startExecution("const run = trainer(); await run.fit()");
  await reached(kernel, first, 10);
  await kernel.interrupt();
  const stopped = await kernel.finish(first, timeout);
  expect(stopped.error?.ename).toBe("Interrupted");
  expect(plain(stopped.error!.traceback.join("\n"))).toContain("call fit() again to go on");
  const step = Number((await kernel.execute("run.step")).result?.["text/plain"]);
  expect(step).toBeGreaterThanOrEqual(10);

  const second = kernel.startExecution("await run.fit()");
  await reached(kernel, second, step + 1);
  await kernel.interrupt();
  const again = await kernel.finish(second, timeout);
  expect(again.error?.ename).toBe("Interrupted");
  const rows = await kernel.execute("run.rows.map((row) => row.step).every((step, i) => step === i + 1)");
  expect(rows.result?.["text/plain"]).toBe("true");
});

it("fails at once with the reason when the runtime is killed, and resumes from the checkpoint", {
  timeout,
}, async () => {
  const id = kernel.startExecution("const second = trainer(); await second.fit()");
  await reached(kernel, id, 40);
  const killed = runtimePid();
  const at = Date.now();
  process.kill(killed, "SIGKILL");
  const failed = await kernel.finish(id, timeout);
  expect(Date.now() - at).toBeLessThan(60_000);
  expect(failed.error?.ename).toBe("RuntimeLost");
  expect(failed.error?.evalue).toMatch(/SIGKILL/);
  expect(failed.stderr).toMatch(/go on from the checkpoint of step \d+/);

  const rerun = kernel.startExecution("await second.fit()");
  const resumed = await kernel.until(
    (m) =>
      m.parent.msg_id === rerun &&
      /resumed "whaling" from the checkpoint of step \d+/.test(String(m.content.text)),
    timeout,
  );
  const from = Number(/step (\d+)/.exec(String(resumed.content.text))![1]);
  expect(from % 20).toBe(0);
  expect(from).toBeGreaterThanOrEqual(20);
  await reached(kernel, rerun, from + 10);
  expect(runtimePid()).not.toBe(killed);
  await kernel.interrupt();
  expect((await kernel.finish(rerun, timeout)).error?.ename).toBe("Interrupted");
});

it("leaves the runtime alive when the kernel is killed; a new kernel resumes the run", {
  timeout,
}, async () => {
  const id = kernel.startExecution("const third = trainer(); await third.fit()");
  // By then the first checkpoint is whole: the second waits for it.
  await reached(kernel, id, 60);
  const pid = runtimePid();
  kernel.process.kill("SIGKILL");
  await kernel.exit;
  kernel.disconnect();
  expect(isAlive(pid)).toBe(true);

  kernel = await start();
  expect((await kernel.execute(setup, {}, timeout)).error).toBeUndefined();
  const resumedId = kernel.startExecution("const fourth = trainer({ resume: true }); await fourth.fit()");
  const resumed = await kernel.until(
    (m) => m.parent.msg_id === resumedId && /resumed "whaling"/.test(String(m.content.text)),
    timeout,
  );
  const from = Number(/step (\d+)/.exec(String(resumed.content.text))![1]);
  expect(from).toBeGreaterThanOrEqual(20);
  await reached(kernel, resumedId, from + 10);
  expect(runtimePid()).toBe(pid);
  await kernel.interrupt();
  expect((await kernel.finish(resumedId, timeout)).error?.ename).toBe("Interrupted");
});
