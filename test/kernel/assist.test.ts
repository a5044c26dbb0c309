import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KernelClient } from "./client.js";

let kernel: KernelClient;
beforeAll(async () => {
  kernel = await KernelClient.start();
  await kernel.execute(
    "import { tableFromArrays } from 'apache-arrow';\n/** Adds one. */\nfunction increment(value: number): number { return value + 1; }\nconst table = tableFromArrays({ x: [1] });\nconst wörter = ['a'];",
  );
});
afterAll(() => kernel.stop());

const complete = async (code: string, cursor_pos = [...code].length) =>
  (await kernel.ask("shell", "complete_request", { code, cursor_pos })).content as {
    matches: string[];
    cursor_start: number;
    cursor_end: number;
    metadata: { _jupyter_types_experimental: { text: string; type: string }[] };
  };

describe("completion", () => {
  it("knows the members of values of earlier cells, with their kinds", async () => {
    const { matches, cursor_start, cursor_end, metadata } = await complete("const n = table.num");
    expect(matches).toEqual(["numCols", "numRows"]);
    expect([cursor_start, cursor_end]).toEqual([16, 19]);
    expect(metadata._jupyter_types_experimental[0]).toMatchObject({
      text: "numCols",
      type: "property",
      start: 16,
      end: 19,
    });
  });

  it("knows names of earlier cells, of this cell, and globals", async () => {
    expect((await complete("incr")).matches[0]).toBe("increment");
    expect((await complete("const local1 = 2;\nloc")).matches).toContain("local1");
    expect((await complete("structuredC")).matches).toEqual(["structuredClone"]);
    expect((await complete("function f(inner: number) {\n  inn", 35)).matches).toContain("inner");
  });

  it("knows modules, files and keys in strings, and nothing else there", async () => {
    writeFileSync(join(kernel.folder, "notebooks", "helper.ts"), "export const help = 1;");
    const found = async (code: string) => {
      const { matches, cursor_start, cursor_end } = await complete(code);
      return [matches, cursor_start, cursor_end];
    };
    expect(await found("import { x } from 'apache-")).toEqual([["apache-arrow"], 19, 26]);
    expect(await found("import { x } from 'node:sql")).toEqual([["node:sqlite"], 19, 27]);
    expect(await found("import { x } from './hel")).toEqual([
      [expect.stringMatching(/^helper(\.ts)?$/)],
      21,
      24,
    ]);
    expect(await found("const keys = { increase: 1 };\nkeys['inc")).toEqual([["increase"], 36, 39]);
    expect(await found("// incr")).toEqual([[], 3, 7]);
    expect(await found("'incr")).toEqual([[], 1, 5]);
    expect((await complete("`a ${incr")).matches).toEqual(["increment"]);
  });

  it("counts the cursor in code points", async () => {
    const { cursor_start, cursor_end, matches } = await complete("'😀'; wör");
    expect([matches[0], cursor_start, cursor_end]).toEqual(["wörter", 5, 8]);
  });
});

describe("inspection", () => {
  it("gives signature and documentation as Markdown, wherever in the name or behind it the cursor is", async () => {
    for (const cursor_pos of [0, 4, 9, 10]) {
      const { content } = await kernel.ask("shell", "inspect_request", {
        code: "increment(1)",
        cursor_pos,
        detail_level: 0,
      });
      expect(content.found).toBe(true);
      const markdown = (content.data as Record<string, string>)["text/markdown"];
      expect(markdown).toContain("function increment(value: number): number");
      expect(markdown).toContain("Adds one.");
    }
    const { content } = await kernel.ask("shell", "inspect_request", {
      code: "   ",
      cursor_pos: 1,
      detail_level: 0,
    });
    expect(content).toMatchObject({ status: "ok", found: false });
  });
});

it("inspection among the arguments of a call is of what is called; of what is not there, nothing", async () => {
  const inspect = async (code: string) =>
    (await kernel.ask("shell", "inspect_request", { code, cursor_pos: code.length, detail_level: 0 }))
      .content;
  for (const code of ["increment(1, ", "increment([{ a: (2) }, ", "increment('text "])
    expect(await inspect(code)).toMatchObject({
      found: true,
      data: { "text/plain": expect.stringContaining("function increment") },
    });
  for (const code of ["nowhere", "// increment(1, ", "if (true) { "])
    expect([code, (await inspect(code)).found]).toEqual([code, false]);
});

describe("the checker", () => {
  it("is started anew when it died, and knows the cells so far", async () => {
    const pid = kernel.process.pid!;
    const servers = () =>
      execFileSync("ps", ["--ppid", String(pid), "-o", "pid="])
        .toString()
        .trim()
        .split(/\s+/)
        .map(Number);
    const [server] = servers();
    process.kill(server!, "SIGKILL");
    expect((await kernel.execute("increment(1)")).result).toEqual({ "text/plain": "2" });
    expect((await kernel.execute("increment('x')")).error?.ename).toBe("TypeCheckError");
    expect(servers()).not.toContain(server);
  });

  it("can be interrupted before the cell runs", async () => {
    const pid = kernel.process.pid!;
    const server = Number(execFileSync("ps", ["--ppid", String(pid), "-o", "pid="]).toString());
    process.kill(server, "SIGSTOP");
    try {
      const id = kernel.startExecution("increment(5)");
      await kernel.until((m) => m.header.msg_type === "execute_input" && m.parent.msg_id === id);
      await kernel.interrupt();
      expect((await kernel.finish(id)).error?.ename).toBe("Interrupted");
    } finally {
      process.kill(server, "SIGCONT");
    }
    expect((await kernel.execute("increment(6)")).result).toEqual({ "text/plain": "7" });
  });
});

describe("small requests", () => {
  it("is_complete tells whole from unfinished from wrong, with the indentation", async () => {
    const ask = async (code: string) => (await kernel.ask("shell", "is_complete_request", { code })).content;
    expect(await ask("const a = 1;")).toEqual({ status: "complete" });
    expect(await ask("for (const x of []) {")).toEqual({ status: "incomplete", indent: "  " });
    expect(await ask("const t = `half")).toMatchObject({ status: "incomplete" });
    expect(await ask("let x = = 1; 2")).toEqual({ status: "invalid" });
  });

  it("history answers tail, range and search, with output where asked", async () => {
    await kernel.execute("40 + 2");
    const ask = async (content: object) =>
      (await kernel.ask("shell", "history_request", { output: false, raw: true, ...content })).content
        .history as unknown[][];
    const tail = await ask({ hist_access_type: "tail", n: 1 });
    expect(tail[0]![2]).toBe("40 + 2");
    expect((await ask({ hist_access_type: "tail", n: 1, output: true }))[0]![2]).toEqual(["40 + 2", "42"]);
    expect((await ask({ hist_access_type: "range", session: 0, start: 1, stop: 2 })).length).toBe(1);
    expect((await ask({ hist_access_type: "search", pattern: "*+ 2", n: 5 })).map((row) => row[2])).toEqual([
      "40 + 2",
    ]);
  });

  it("kernel_info describes language and features", async () => {
    const { content } = await kernel.ask("shell", "kernel_info_request");
    expect(content).toMatchObject({
      status: "ok",
      protocol_version: "5.4",
      implementation: "aronnax",
      language_info: { name: "typescript", file_extension: ".ts", mimetype: "text/x-typescript" },
    });
  });

  it("answers while a cell keeps the main thread busy, and says busy again afterwards", async () => {
    const id = kernel.startExecution("const end = Date.now() + 600_000; while (Date.now() < end) {}");
    await kernel.until((m) => m.header.msg_type === "execute_input" && m.parent.msg_id === id);
    expect(await kernel.heartbeat()).toBe("ping");
    await kernel.ask("control", "kernel_info_request");
    expect((await complete("table.num")).matches).toEqual(["numCols", "numRows"]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    const last = kernel.log.filter((m) => m.header.msg_type === "status").at(-1)!;
    expect([last.content.execution_state, last.parent.msg_id]).toEqual(["busy", id]);
    // All that while the cell ran: only the interrupt ends it.
    await kernel.interrupt();
    expect((await kernel.finish(id)).error?.ename).toBe("Interrupted");
  });

  it("answers unknown requests with an error instead of silence", async () => {
    expect((await kernel.ask("shell", "no_such_request")).content.status).toBe("error");
  });
});
