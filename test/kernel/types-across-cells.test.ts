// Cells are checked as one program in the order in which they ran: what `tsc --strict` takes as one file must run here.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Executed, KernelClient, plain } from "./client.js";

/** One kernel for all: its names are those of a long notebook. */
let kernel: KernelClient;
beforeAll(async () => {
  kernel = await KernelClient.start();
});
afterAll(() => kernel.stop());

/** Runs cells that must all be accepted; returns what the last shows. */
async function shown(...cells: string[]): Promise<string | undefined> {
  let last: Executed | undefined;
  for (const cell of cells) {
    last = await kernel.execute(cell);
    const { error } = last;
    expect([cell, error && plain(error.traceback.join("\n"))]).toEqual([cell, undefined]);
  }
  return last?.result?.["text/plain"] as string | undefined;
}

/** Runs cells of which the last must be refused by the checker, with this message. */
async function refused(message: string | RegExp, ...cells: string[]): Promise<void> {
  await shown(...cells.slice(0, -1));
  const { error } = await kernel.execute(cells.at(-1)!);
  expect([cells.at(-1), error?.ename]).toEqual([cells.at(-1), "TypeCheckError"]);
  expect(plain(error!.traceback.join("\n"))).toMatch(message);
}

describe("a type that a later cell gives", () => {
  it("to an empty array", async () => {
    expect(
      await shown(
        "const losses = []",
        "for (let i = 0; i < 3; i++) losses.push(i)",
        "losses.map((l) => l * 2)",
      ),
    ).toBe("[ 0, 2, 4 ]");
    expect(await shown("let rows = []", "rows.push({ a: 1 })", "rows[0].a + rows.length")).toBe("2");
  });

  it("to a variable without a value, and to null", async () => {
    expect(await shown("let total", "total = 5", "total + 1")).toBe("6");
    expect(await shown("let best = null", "best = 3", "best + 1")).toBe("4");
    expect(await shown("var nothing = undefined", "nothing = 'x'", "nothing.length")).toBe("1");
    expect(
      await shown(
        "let bestLoss = Infinity, bestP; for (let i = 0; i < 3; i++) if (i < bestLoss) { bestLoss = i; bestP = { i } }",
        "bestP?.i",
      ),
    ).toBe("0");
    expect(
      await shown("let seen = null", "function note(x: number) { seen = x }", "note(2)", "seen + 1"),
    ).toBe("3");
  });

  it("also after other names were declared again in between", async () => {
    await shown("const found = []", "let last = null", "const again = 1", "found.push({ n: 1 }); last = 'x'");
    expect(await shown("const again = 2", "const again = 3", "found.map((one) => one.n)")).toBe("[ 1 ]");
    expect(await shown("last.length")).toBe("1");
  });
});

describe("a value and a type of one name, in two cells", () => {
  it("const and type, in either order", async () => {
    expect(
      await shown(
        "const User = { parse: (x: unknown) => ({ name: String(x) }) }",
        "type User = ReturnType<typeof User.parse>",
        "const user: User = User.parse('Ned'); user.name",
      ),
    ).toBe("'Ned'");
    expect(
      await shown(
        "interface Pair<T> { both: [T, T] }",
        "const Pair = <T,>(one: T): Pair<T> => ({ both: [one, one] })",
        "const pair: Pair<number> = Pair(2); pair.both",
      ),
    ).toBe("[ 2, 2 ]");
    await refused("TS2322", "const wrong: Pair<string> = Pair(2)");
  });

  it("each of which can be declared again", async () => {
    await shown("const Pt = (x: number) => ({ x })", "interface Pt { x: number }");
    expect(await shown("const Pt = (x: number, y = 1): Pt => ({ x: x + y })", "Pt(1).x")).toBe("2");
    expect(await shown("type Pt = { z: number }", "const z: Pt = { z: 5 }; z.z")).toBe("5");
    await refused("TS2353", "const x: Pt = { x: 5 }");
  });

  it("class and interface, function and namespace, enum and namespace, class and namespace", async () => {
    expect(
      await shown(
        "class Cfg { a = 1 }",
        "interface Cfg { b?: string }",
        "const cfg: Cfg = new Cfg(); cfg.b ?? cfg.a",
      ),
    ).toBe("1");
    expect(
      await shown(
        "enum Dir { Up }",
        "namespace Dir { export function label(d: Dir) { return Dir[d] } }",
        "Dir.label(Dir.Up)",
      ),
    ).toBe("'Up'");
    expect(
      await shown(
        "function make() { return 7 }",
        "namespace make { export const count = 7 }",
        "make() * make.count",
      ),
    ).toBe("49");
    expect(
      await shown(
        "class Shape { n = 1 }",
        "namespace Shape { export const sides = 4 }",
        "new Shape().n + Shape.sides",
      ),
    ).toBe("5");
    // The declaration that begins the name, run again, begins anew.
    await refused("TS2339", "enum Dir { Down }", "Dir.label(Dir.Down)");
  });
});

describe("narrowing", () => {
  it("holds in later cells, for names, constants and paths", async () => {
    await shown("function find(): { n: string } | undefined { return { n: 'x' } }");
    expect(await shown("const el = find()", "if (!el) throw new Error('none')", "el.n")).toBe("'x'");
    expect(
      await shown(
        "import assert from 'node:assert'",
        "let match = 'abc'.match(/b/)",
        "assert(match)",
        "match.index",
      ),
    ).toBe("1");
    expect(
      await shown("const holder = { value: null as null | number }", "holder.value = 5", "holder.value + 1"),
    ).toBe("6");
    expect(await shown("const other = 1", "const other = 2", "el.n + match[0]")).toBe("'xb'");
    await refused("TS2339", "el.m");
    // A cell that is run again as it was takes nothing from what is known by now.
    expect(
      await shown(
        "const stable = { a: 1 }; class Stable { b = 2 }",
        "const box = { inner: null as null | { n: number } }",
        "if (!box.inner) box.inner = { n: stable.a }",
        "const stable = { a: 1 }; class Stable { b = 2 }",
        "box.inner.n + new Stable().b",
      ),
    ).toBe("3");
  });

  it("is no reason to refuse what a function or a timer may have changed", async () => {
    await shown("let done = false; setTimeout(() => { done = true }, 1)");
    await shown("while (!done) await new Promise((go) => setTimeout(go, 1))");
    expect(await shown("done === true")).toBe("true");
  });

  it("ends at a cell that does not come to its end", async () => {
    await shown("let maybe: string | undefined = 'a'");
    await kernel.execute("throw new Error('on purpose')");
    await kernel.execute("while (true) { if (maybe) throw new Error('on purpose') }");
    expect(await shown("maybe.length", "maybe === undefined")).toBe("false");
    await refused("TS2339", "maybe.nothing");
  });
});

describe("without a tsconfig.json", () => {
  it("a type that is any for want of an annotation is let pass, and so is a new global", async () => {
    expect(await shown("function add(a, b) { return a + b }", "add(1, 2)")).toBe("3");
    expect(await shown("globalThis.counter = 1", "counter + globalThis.counter")).toBe("2");
    expect(await shown("Object.assign(globalThis, { shared: 'x' })", "shared.length")).toBe("1");
    await shown("try { JSON.parse('{') } catch (error) { console.log(error.message) }");
    await refused("Cannot find name 'unknownName'", "unknownName + 1");
    await refused("TS18047", "const nothing2: { a: number } | null = JSON.parse('null')", "nothing2.a");
  });

  it("a message names no place of the checker's own", async () => {
    await shown("class Anchor { #weight = 1 }", "const again = 9", "class Anchor { #weight = 1; more = 2 }");
    const { error } = await kernel.execute("const anchor: Anchor = { weight: 1 }; Anchor.prototype.none");
    expect(plain(error!.traceback.join("\n"))).not.toMatch(/aronnax-cells|flow-|declared-|__\d/);
  });
});

describe("the cost of a check", () => {
  it("does not grow with how often a cell was run", async () => {
    const took = async (code: (i: number) => string, runs: number) => {
      const times: number[] = [];
      for (let i = 0; i < runs; i += 1) {
        const begun = performance.now();
        await shown(code(i));
        times.push(performance.now() - begun);
      }
      const median = (list: number[]) => list.sort((a, b) => a - b)[list.length >> 1]!;
      return { first: median(times.slice(0, 30)), last: median(times.slice(-30)) };
    };
    await shown("let sum = 0; const state = { n: 0 };");
    for (const code of [
      (i: number) => `const q = ${i}; q`,
      () => "const step = sum + 1; sum = step; sum",
      (i: number) => (i % 2 ? "const next = { ...state }" : "const state = { ...(next ?? { n: 0 }) }"),
    ]) {
      if (code(0).includes("next")) await shown("const next = { n: 0 }");
      const { first, last } = await took(code, 200);
      // Before, the last took forty times as long as the first.
      expect([code(0), last < 4 * first + 20, first, last]).toEqual([code(0), true, first, last]);
    }
  }, 300_000);
});
