/** Top-level loops that run as functions (kernel/src/language/loops.ts): nothing but their speed may tell. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileCell, NameTable } from "../../kernel/src/language/compile.js";
import { parseCell } from "../../kernel/src/language/syntax.js";
import { KernelClient, plain } from "./client.js";

let kernel: KernelClient;
beforeAll(async () => {
  kernel = await KernelClient.start();
});
afterAll(() => kernel.stop());

const text = async (code: string) => {
  const { result, error } = await kernel.execute(code);
  if (error) throw new Error(plain(error.traceback.join("\n")));
  return result?.["text/plain"];
};

/** The names that the loops of these cells take to themselves, cell after cell. */
async function taken(...cells: string[]): Promise<string[][][]> {
  const names = new NameTable();
  const found: string[][][] = [];
  for (const cell of cells) found.push((await compileCell(parseCell(cell), names, "cell://1", true)).loops);
  return found;
}

describe("a loop takes names to itself", () => {
  it("that it assigns to and that no function mentions", async () => {
    expect(
      await taken("let a = 0, b = 1; const list = [1];\nfor (let i = 0; i < 9; i++) { a += list[0]; }"),
    ).toEqual([[["a"]]]);
    expect(await taken("let x = 0;", "outer: while (x < 5) { x++; }")).toEqual([[], [["x"]]]);
    expect(await taken("let k = '', v = 0; for (k in { p: 1 }) [v] = [k.length];")).toEqual([[["k", "v"]]]);
  });

  it("not where anything else could see them, or the loop would mean something else", async () => {
    for (const cells of [
      ["let n = 0; const read = () => n; for (let i = 0; i < 3; i++) n++;"],
      ["// @ts-nocheck\nfunction peek() { return n; }", "let n = 0; while (n < 3) n++;"],
      ["class A { m() { return n; } }", "let n = 0; while (n < 3) n++;"],
      ["let n = 0; for (let i = 0; i < 3; i++) { n++; queueMicrotask(() => i); }"],
      ["let n = 0; for (let i = 0; i < 3; i++) { n++; await 0; }"],
      ["let n = 0; for await (const x of [1]) n += x;"],
      ["let n = 0; for (let i = 0; i < 3; i++) { n++; (0, eval)('n'); }"],
      ["import './local.ts'", "let n = 0; while (n < 3) n++;"],
      ["let n = 0; while (n < 3) { n++; var inner = n; }"],
      ["let n = 0; while (n < 3) { n++; debugger; }"],
      ["let n = 0; while (n < 3) { let n = 1; n++; }"],
      ["let n = 0; while (n < 3) { n++; this; }"],
    ]) {
      expect([cells, ...(await taken(...cells)).at(-1)!]).toEqual([cells]);
    }
  });
});

describe("such a loop", () => {
  it("computes what it would otherwise, with labels, breaks, types and assignments of every kind", async () => {
    expect(
      await text("let total = 0;\nfor (let i: number = 0; i < 1_000; i++) { total += i as number; }\ntotal"),
    ).toBe("499500");
    expect(
      await text(
        "let hits = 0, last = -1\nouter: for (let i = 0; i < 10; i++) { for (let j = 0; ; j++) { if (j > i) continue outer; if (i > 6) break outer; hits++; last = i * j } };\n[hits, last]",
      ),
    ).toBe("[ 28, 36 ]");
    expect(
      await text(
        "let item = 0, rest: number[] = []\nfor (item of [1, 2, 3]) [...rest] = [item, ...rest];\n[item, rest]",
      ),
    ).toBe("[ 3, [ 3, 2, 1 ] ]");
    expect(await text("do { total -= 99_500 } while (total > 1_000);\n[total, typeof total]")).toBe(
      "[ -97500, 'number' ]",
    );
    expect(await text("let total = 'again'\nwhile (total.length < 8) total += '!'\ntotal")).toBe(
      "'again!!!'",
    );
  });

  it("keeps what it assigned before a throw, and the error has its line and column, and no frame more", async () => {
    const { error, reply } = await kernel.execute(
      "let reached = 0;\nfunction fail(at: number) { if (at === 5) throw new RangeError('at five'); }\nfor (let i = 0; i < 9; i++) { reached = i;\n  fail(i);\n}",
    );
    const shown = plain(error!.traceback.join("\n"));
    const count = reply.content.execution_count;
    expect(shown).toContain(`    at fail cell ${count}:2:49\n    at cell ${count}:4:3`);
    expect(shown.match(/^ {4}at /gm)?.length).toBe(2);
    expect(await text("reached")).toBe("5");
    const inLine = await kernel.execute("let q = 0; for (;;) { q++; if (q > 3) throw new Error('here'); }");
    expect(plain(inLine.error!.traceback.join("\n"))).toContain(
      `cell ${inLine.reply.content.execution_count}:1:45`,
    );
    const { stdout } = await kernel.execute(
      "let s = ''; for (const x of [1]) { s = new Error('x').stack!; }\nconsole.log(s)",
    );
    expect(stdout).toMatch(/^Error: x\n {4}at cell \d+:1:\d+\n$/);
  });

  it("keeps what it assigned until an interrupt, to the last turn, also in the function that it calls", async () => {
    for (const body of ["left++; right = left;", "left++; right = left; spin();"]) {
      const id = kernel.startExecution(
        `function spin() { const end = performance.now() + 1; while (performance.now() < end); }\nlet left = 0, right = 0;\nconsole.log('started');\nwhile (true) { ${body} }`,
      );
      await kernel.until((m) => m.parent.msg_id === id && String(m.content.text ?? "").includes("started"));
      await new Promise((resolve) => setTimeout(resolve, 300));
      await kernel.interrupt();
      expect((await kernel.finish(id)).error?.ename).toBe("Interrupted");
      const [left, right] = JSON.parse(
        String(await text("JSON.stringify([left, right])")).slice(1, -1),
      ) as number[];
      expect(left).toBeGreaterThan(2);
      expect(left! - right!).toBeLessThanOrEqual(1);
    }
  });
});
