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
  it("a cell of 20 MB", async () => {
    const { reply } = await kernel.execute(
      `const big = "${"x".repeat(20 * 1024 * 1024)}"; big.length`,
      {},
      50_000,
    );
    expect(["ok", "error"]).toContain(reply.content.status);
    await alive();
  }, 60_000);

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

  it("a heap that is full: it ends, and says why in the log", async () => {
    await kernel.stop();
    kernel = await KernelClient.start({ flags: ["--max-old-space-size=150"] });
    kernel.startExecution(
      "const hoard: unknown[] = []; while (true) hoard.push(new Array(1e6).fill(hoard.length))",
    );
    await kernel.exit;
    expect(kernel.stderr).toContain("heap out of memory");
    await kernel.stop();
    kernel = await KernelClient.start();
  }, 60_000);
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
