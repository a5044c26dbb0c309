import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KernelClient, plain } from "./client.js";

let kernel: KernelClient;
beforeAll(async () => {
  kernel = await KernelClient.start();
});
afterAll(() => kernel.stop());

const failure = async (code: string) => {
  const executed = await kernel.execute(code);
  if (!executed.error) throw new Error(`no error from ${code}`);
  const count = executed.reply.content.execution_count;
  return { ...executed.error, text: plain(executed.error.traceback.join("\n")), count, executed };
};

describe("type errors", () => {
  it("stop the cell before it runs, with line, caret and message", async () => {
    const { ename, text, executed } = await failure("console.log('ran');\nconst a: number = 'x';");
    expect(ename).toBe("TypeCheckError");
    expect(executed.stdout).toBe("");
    expect(text).toContain("TS2322: Type 'string' is not assignable to type 'number'.");
    expect(text).toContain("2 | const a: number = 'x';\n  |       ^");
  });

  it("see the types of earlier cells, whatever kind of declaration made them", async () => {
    await kernel.execute(
      "interface Point { x: number }\ntype Name = 'a' | 'b';\nclass Box<T> { constructor(public value: T) {} }\nlet mutable = 1;\nconst box = new Box('s');\nfunction plus(p: Point) { return p.x + 1; }",
    );
    expect((await failure("const p: Point = { y: 1 }")).text).toContain("'y' does not exist in type 'Point'");
    expect((await failure("const n: Name = 'c'")).text).toContain("TS2322");
    expect((await failure("box.value.toFixed()")).text).toContain(
      "'toFixed' does not exist on type 'string'",
    );
    expect((await failure("mutable = 'text'")).text).toContain("TS2322");
    expect((await failure("box = new Box('other')")).text).toContain("'box' because it is a constant");
    expect((await failure("plus(3)")).text).toContain("TS2345");
    expect((await kernel.execute("mutable = 5; plus({ x: mutable })")).result).toEqual({ "text/plain": "6" });
  });

  it("widen literal types, and do not narrow variables to what was assigned last", async () => {
    await kernel.execute(
      "const five = 5;\nlet maybe: string | undefined = undefined;\nfunction fill() { maybe = 'filled'; }",
    );
    await kernel.execute("let copy = five;\nconst seen = () => maybe;");
    await kernel.execute("const first = maybe;");
    expect((await kernel.execute("copy = 6; fill(); seen()?.toUpperCase()")).result).toEqual({
      "text/plain": "'FILLED'",
    });
    expect((await kernel.execute("first?.length")).reply.content.status).toBe("ok");
  });

  it("follow the newest declaration of a name, and forget those of cells that did not pass", async () => {
    await kernel.execute("const shape = { a: 1 }");
    await kernel.execute("const shape = 'text'");
    expect((await kernel.execute("shape.length")).result).toEqual({ "text/plain": "4" });
    await failure("const unborn: number = 'wrong'");
    expect((await failure("unborn")).text).toContain("Cannot find name 'unborn'");
  });

  it("see what earlier cells declared for all modules", async () => {
    await kernel.execute(
      "declare global { interface Array<T> { second(): T | undefined } }\nArray.prototype.second = function () { return this[1]; };",
    );
    expect((await kernel.execute("[1, 2].second()")).result).toEqual({ "text/plain": "2" });
  });

  it("see the types of imports of earlier cells", async () => {
    await kernel.execute(
      "import { tableFromArrays } from 'apache-arrow';\nconst table = tableFromArrays({ x: [1] });",
    );
    expect((await failure("table.numRow")).text).toContain("Did you mean 'numRows'?");
    expect((await failure("tableFromArrays(3)")).text).toContain("TS2345");
  });

  it("are turned off by // @ts-nocheck", async () => {
    expect((await kernel.execute("// @ts-nocheck\nconst wrong: number = 'x'; wrong")).result).toEqual({
      "text/plain": "'x'",
    });
  });
});

describe("errors at run time", () => {
  it("name cell, line and column, and show the line with a caret", async () => {
    const { ename, evalue, text, count } = await failure(
      "function inner(n: number): never {\n  throw new RangeError('bad ' + n);\n}\n\ninner(2);",
    );
    expect([ename, evalue]).toEqual(["RangeError", "bad 2"]);
    expect(text).toContain("2 |   throw new RangeError('bad ' + n);\n  |         ^^^");
    expect(text).toContain(`at inner cell ${count}:2:9`);
    expect(text).toContain(`at cell ${count}:5:1`);
    expect(text).not.toMatch(/node:inspector|kernel\/dist/);
  });

  it("keep columns exact on lines that the kernel rewrites", async () => {
    const { text } = await failure("const ok: number = 1; throw new Error('here')");
    expect(text).toMatch(/at cell \d+:1:29/);
    const imported = await failure("import { join } from 'node:path'; throw new Error(join('a', 'b'))");
    expect(imported.text).toMatch(/at cell \d+:1:41/);
    const emitted = await failure(
      "enum Kind { A }\n\nclass Q { constructor(public x: Kind) { throw new Error('emit'); } }\nnew Q(Kind.A)",
    );
    expect(emitted.text).toMatch(/cell \d+:3:47[\s\S]*cell \d+:4:1/);
  });

  it("find the line in the cell that defined the function", async () => {
    const { count } = (
      await kernel.execute("const defined = 1;\nfunction later() {\n  return (undefined as any).x;\n}")
    ).reply.content as {
      count?: number;
      execution_count: number;
    } as { count: number };
    expect(count).toBeUndefined();
    const { text } = await failure("later()");
    expect(text).toContain("3 |   return (undefined as any).x;");
  });

  it("name lines of local files, also of those whose code is generated, and where one cannot be parsed", async () => {
    const here = join(kernel.folder, "notebooks");
    writeFileSync(
      join(here, "generated.ts"),
      "export enum Kind { A }\n\nexport function fail(): never {\n  const kind: Kind = Kind.A;\n  throw new Error(String(kind));\n}\n",
    );
    const { error } = await kernel.execute("import { fail } from './generated.ts';\nfail()");
    expect(plain(error!.traceback.join("\n"))).toContain("generated.ts:5:9");
    writeFileSync(join(here, "broken.ts"), "export const x = 1;\nexport const y: number = ;\n");
    const broken = await kernel.execute("// @ts-nocheck\nimport { x } from './broken.ts';");
    expect(broken.error?.evalue).toMatch(/^Unexpected token \(.*broken\.ts:2:26\)$/);
  });

  it("name the column in cells whose code is generated, in the error and in a printed stack", async () => {
    const { error } = await kernel.execute("enum Level { Low } throw new Error('here')");
    expect(plain(error!.traceback.join("\n"))).toMatch(/cell \d+:1:26$/m);
    const { stdout } = await kernel.execute(
      "enum Level { High }\nconst kind = 1; console.log(new Error('x').stack);",
    );
    expect(stdout).toMatch(/cell \d+:2:29$/m);
  });

  it("show the cause chain and the fix of framework errors on its own line", async () => {
    const { text } = await failure(
      "class ShapeError extends Error { override name = 'ShapeError'; fix = 'transpose the second one'; }\nthrow new ShapeError('shapes [2, 3] and [2, 3]', { cause: new TypeError('inner') })",
    );
    expect(text).toMatch(/^ShapeError: shapes \[2, 3\] and \[2, 3\]\nFix: transpose the second one\n/);
    expect(text).toContain("Caused by TypeError: inner");
  });

  it("show thrown values that are not errors, and hostile ones", async () => {
    expect(await failure("throw { code: 7 }")).toMatchObject({ ename: "Object", evalue: "{ code: 7 }" });
    expect(await failure("throw null")).toMatchObject({ ename: "null", evalue: "null" });
    expect(await failure("throw 'text'")).toMatchObject({ ename: "String", evalue: "text" });
    const hostile =
      "// @ts-nocheck\nconst e = new Error('x'); Object.defineProperty(e, 'message', { get() { throw 1; } }); throw e";
    expect((await failure(hostile)).evalue).toContain("could not be shown");
  });

  it("print rejections and throws behind the cell's back as stderr, and live on", async () => {
    const { stderr } = await kernel.execute("Promise.reject(new Error('nobody waits')); 1");
    expect(plain(stderr)).toContain("Error: nobody waits");
    await kernel.execute("setTimeout(() => { throw new Error('from a timer'); }, 1)");
    await kernel.until(
      (m) => m.header.msg_type === "stream" && String(m.content.text).includes("from a timer"),
    );
    expect((await kernel.execute("'alive'")).result).toEqual({ "text/plain": "'alive'" });
  });
});

describe("syntax errors", () => {
  it("name line and column", async () => {
    const { ename, text } = await failure("const ok = 1;\nlet x = = 2;");
    expect(ename).toBe("SyntaxError");
    expect(text).toContain("2 | let x = = 2;\n  |         ^");
  });
});

describe("the stack of an error", () => {
  it("that a cell prints, or shows as its value, ends where the cell began", async () => {
    const thrower = "function deep(): never { throw new RangeError('deep'); }";
    const { stdout } = await kernel.execute(
      `${thrower}\ntry { deep(); } catch (error) { console.log((error as Error).stack); }`,
    );
    expect(stdout).toMatch(/^RangeError: deep\n {4}at deep \(cell \d+:1:\d+\)\n {4}at cell \d+:2:\d+\n$/);
    const { result } = await kernel.execute("new Error('a value')");
    expect(String(result!["text/plain"])).not.toContain("kernel/dist");
    const timer = await kernel.execute(
      "await new Promise<string>((done) => setTimeout(() => done(new Error('late').stack!), 1))",
    );
    expect(String(timer.result!["text/plain"])).not.toMatch(/kernel\/dist|node:/);
  });
});
