import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KernelClient, plain } from "./client.js";

let kernel: KernelClient;
beforeAll(async () => {
  kernel = await KernelClient.start();
});
afterAll(() => kernel.stop());

const alive = async () => expect((await kernel.execute("6 * 7")).result).toEqual({ "text/plain": "42" });

describe("the kernel lives on after", () => {
  it("a cell of 50 MB, and one of 20,000 lines", async () => {
    const { result } = await kernel.execute(`const big = "${"x".repeat(50 << 20)}"; big.length`, {});
    expect(result).toEqual({ "text/plain": String(50 << 20) });
    const statements = `let lines = 0;\n${"lines += 1;\n".repeat(20_000)}lines`;
    expect((await kernel.execute(statements, {}, 100_000)).result).toEqual({ "text/plain": "20000" });
    await alive();
  }, 240_000);

  it("a cell that prints without end, also between awaits", async () => {
    for (const loop of [
      "while (true) console.log('endless'.repeat(9))",
      "for (;;) { console.log('endless'); await 0; }",
    ]) {
      const id = kernel.startExecution(loop);
      await kernel.until((m) => m.parent.msg_id === id && m.header.msg_type === "stream");
      await new Promise((resolve) => setTimeout(resolve, 500));
      await kernel.interrupt();
      expect((await kernel.finish(id)).error?.ename).toBe("Interrupted");
    }
    await alive();
  });

  it("values thrown that are no errors", async () => {
    for (const [thrown, ename, evalue] of [
      ["'a string'", "String", "a string"],
      ["null", "null", "null"],
      ["undefined", "undefined", "undefined"],
      ["{ code: 7 }", "Object", "{ code: 7 }"],
      ["Symbol('s')", "Symbol", "Symbol(s)"],
      ["10n", "BigInt", "10n"],
      ["Object.create(null)", "Object", "[Object: null prototype] {}"],
    ]) {
      const { error } = await kernel.execute(`// @ts-nocheck\nthrow ${thrown}`);
      expect([thrown, error?.ename, error?.evalue]).toEqual([thrown, ename, evalue]);
    }
    const hostile = await kernel.execute(
      "// @ts-nocheck\nthrow { get constructor() { throw 1; }, toString() { throw 2; }, [Symbol.for('nodejs.util.inspect.custom')]() { throw 3; } }",
    );
    expect(hostile.error?.evalue).toContain("could not be shown");
    await alive();
  });

  it("rejections that nobody handles, and throws in timers, listeners and microtasks: they are shown", async () => {
    const { stderr, result } = await kernel.execute(
      "Promise.reject(new TypeError('unhandled'));\nsetTimeout(() => { throw new Error('in a timer'); }, 1);\nqueueMicrotask(() => { throw new Error('in a microtask'); });\nprocess.nextTick(() => { throw new Error('in a tick'); });\nPromise.reject(undefined);\nawait new Promise((go) => setTimeout(go, 60));\n'after'",
    );
    expect(result).toEqual({ "text/plain": "'after'" });
    for (const text of ["TypeError", "in a timer", "in a microtask", "in a tick", "Thrown undefined"])
      expect(plain(stderr)).toContain(text);
    await alive();
  });

  it("a result that is huge, deep, circular or a throwing proxy", async () => {
    const length = async (code: string) => {
      const { result, error } = await kernel.execute(code);
      return String(result?.["text/plain"] ?? error?.evalue).length;
    };
    expect(await length("new Float64Array(5_000_000)")).toBeLessThan(10_000);
    expect(await length("'y'.repeat(20_000_000)")).toBeLessThan(20_000);
    expect(await length("const loop: any = {}; loop.self = loop; loop")).toBeLessThan(100);
    await kernel.execute("// @ts-nocheck\nnew Proxy({}, { get() { throw new Error('no'); } })");
    await kernel.execute(
      "// @ts-nocheck\n({ get [Symbol.for('Jupyter.display')]() { throw new Error('no'); } })",
    );
    const failing = await kernel.execute(
      "({ [Symbol.for('Jupyter.display')]() { throw new Error('cannot draw'); } })",
    );
    expect(failing.error?.evalue).toBe("cannot draw");
    await alive();
  });

  it("outputs and messages that are no JSON, each an error of its cell", async () => {
    await kernel.execute("const cycle: Record<string, unknown> = {}; cycle.self = cycle;");
    for (const code of [
      "jupyter.comms.open('none', { value: 1n })",
      "display({ 'application/json': cycle }, { raw: true })",
      "display(1, { metadata: { value: 1n } })",
      "jupyter.broadcast('custom', { value: 1n })",
      "({ [Symbol.for('Jupyter.display')]: () => ({ 'application/json': cycle }) })",
    ]) {
      expect([code, (await kernel.execute(code)).error?.ename]).toEqual([code, "TypeError"]);
    }
    const { displays } = await kernel.execute(
      "display({ 'application/json': { when: new Date(0), f() {} }, 'text/html': ['<b>', '</b>'], 'text/plain': 5 }, { raw: true });",
    );
    expect(displays[0]!.data).toEqual({
      "application/json": { when: "1970-01-01T00:00:00.000Z" },
      "text/html": "<b></b>",
      "text/plain": "5",
    });
    await alive();
  });

  it("halves of surrogate pairs, which no notebook can hold", async () => {
    const { stdout, error } = await kernel.execute(
      String.raw`console.log("\ud83d", "😀", "\\ud83d"); throw new Error("\udc00");`,
    );
    expect([stdout, error?.evalue]).toEqual(["\ufffd 😀 \\ud83d\n", "\ufffd"]);
  });

  it("patched globals", async () => {
    await kernel.execute(
      "// @ts-nocheck\nPromise.prototype.then = undefined; JSON.stringify = () => '{'; Array.prototype.map = null; globalThis.console = null; setTimeout = null; process.stdout.write = () => { throw 1; };",
    );
    const { reply } = await kernel.execute("'still'");
    expect(reply.content.status).toBe("ok");
    kernel.process.kill("SIGKILL");
    await kernel.exit;
    await kernel.stop();
    kernel = await KernelClient.start();
  });

  it("a stack overflow, and a very long synchronous print", async () => {
    expect(
      (await kernel.execute("function down(): number { return down() + 1; }\ndown()")).error?.ename,
    ).toBe("RangeError");
    const { stdout } = await kernel.execute("console.log('z'.repeat(10_000_000))", {}, 30_000);
    expect(stdout.length).toBe(10_000_001);
    await alive();
  });

  it("requests whose content is not what it should be", async () => {
    for (const [type, content] of [
      ["complete_request", { code: 5, cursor_pos: "x" }],
      ["inspect_request", {}],
      ["history_request", { hist_access_type: "search", pattern: 7, n: "many" }],
      ["is_complete_request", {}],
      ["comm_info_request", { target_name: 3 }],
    ] as const) {
      const reply = await kernel.ask("shell", type, content);
      expect(["ok", "error", "complete"]).toContain(reply.content.status);
    }
    kernel.send("shell", "execute_request", { code: null, user_expressions: "x" });
    kernel.send("shell", "comm_msg", { comm_id: "nothing" });
    await alive();
  });

  it("a heap that is full: the cell is stopped with the reason, and what it made is kept", async () => {
    await kernel.stop();
    kernel = await KernelClient.start({ flags: ["--max-old-space-size=1600"] });
    const { error } = await kernel.execute(
      "const hoard: object[] = []; for (let n = 0; ; n++) hoard.push({ n });",
      {},
      100_000,
    );
    expect(error?.ename).toBe("HeapExhausted");
    expect(error?.evalue).toMatch(/the heap is full: \d+ of 1600 MB/);
    expect((await kernel.execute("const { length } = hoard; hoard.length = 0; length > 1e6")).result).toEqual(
      {
        "text/plain": "true",
      },
    );
    // Garbage alone is no reason.
    const garbage = await kernel.execute(
      "let made = 0; for (const end = Date.now() + 2_000; Date.now() < end; ) made += Array.from({ length: 1e4 }, (_, n) => ({ n })).length; made > 0",
    );
    expect(garbage.result).toEqual({ "text/plain": "true" });
    await alive();
  });

  it("a single call that takes the rest of the heap: it ends, and says why in the log", async () => {
    await kernel.stop();
    kernel = await KernelClient.start({ flags: ["--max-old-space-size=600"] });
    kernel.startExecution("JSON.parse('[' + '[],'.repeat(2e7) + '[]]').length");
    await kernel.exit;
    expect(kernel.stderr).toContain("heap out of memory");
    await kernel.stop();
    kernel = await KernelClient.start();
  });
});

describe("settings", () => {
  it("take tsconfig.json of the notebook's folder, and ARONNAX_TYPE_CHECK=off", async () => {
    const unchecked = await KernelClient.start({ env: { ARONNAX_TYPE_CHECK: "off" } });
    expect((await unchecked.execute("const n: number = 'x'; n")).result).toEqual({ "text/plain": "'x'" });
    await unchecked.stop();
    const cwd = join(kernel.folder, "configured");
    mkdirSync(cwd, { recursive: true });
    writeFileSync(
      join(cwd, "tsconfig.json"),
      '{ "compilerOptions": { "strict": true, "noUncheckedIndexedAccess": true, "lib": ["esnext"] } }',
    );
    const configured = await KernelClient.start({ cwd });
    const { error } = await configured.execute("const first: number = [1][0]");
    expect(plain(error!.traceback[0]!)).toContain("TS2322");
    await configured.stop();
  });
});
