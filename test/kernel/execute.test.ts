import { mkdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
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

describe("execution", () => {
  it("sends busy, input, result and idle in this order, all with the request as parent", async () => {
    const { iopub, reply } = await kernel.execute("21 * 2");
    expect(iopub.map((m) => m.header.msg_type)).toEqual([
      "status",
      "execute_input",
      "execute_result",
      "status",
    ]);
    expect(iopub[2]!.content).toMatchObject({ data: { "text/plain": "42" }, metadata: {} });
    expect(iopub[1]!.content.execution_count).toBe(iopub[2]!.content.execution_count);
    expect(reply.content).toMatchObject({ status: "ok", user_expressions: {}, payload: [] });
  });

  it("awaits at the top level, and iterates with for await", async () => {
    expect(await text("await new Promise<number>((done) => setTimeout(() => done(5), 5))")).toBe("5");
    expect(await text("let sum = 0;\nfor await (const n of [1, Promise.resolve(2)]) sum += n;\nsum")).toBe(
      "3",
    );
  });

  it("awaits a promise that is the last value", async () => {
    expect(await text("Promise.resolve([1, 2])")).toBe("[ 1, 2 ]");
    expect((await kernel.execute("Promise.reject(new RangeError('no'))")).error?.ename).toBe("RangeError");
  });

  it("shows no result for declarations, assignments, statements and undefined", async () => {
    for (const code of [
      "let a1 = 1",
      "a1 = 2",
      "for (let i = 0; i < 3; i++) i",
      "undefined",
      "",
      "// nothing",
    ]) {
      const { result, reply } = await kernel.execute(code);
      expect([code, result, reply.content.status]).toEqual([code, undefined, "ok"]);
    }
  });

  it("redeclares every kind of name as every other kind", async () => {
    const kinds: Record<string, string> = {
      var: "var NAME = 'var'",
      let: "let NAME = 'let'",
      const: "const NAME = 'const'",
      function: "function NAME() {}",
      class: "class NAME {}",
      enum: "enum NAME { A }",
      import: "import { join as NAME } from 'node:path'",
      destructured: "const { NAME, other } = { NAME: 1, other: 2 }",
    };
    for (const first of Object.keys(kinds)) {
      for (const second of Object.keys(kinds)) {
        const name = `n_${first}_${second}`;
        for (const kind of [first, second]) {
          const { reply } = await kernel.execute(kinds[kind]!.replaceAll("NAME", name));
          expect([first, second, reply.content.status, reply.content.evalue]).toEqual([
            first,
            second,
            "ok",
            undefined,
          ]);
        }
        const wanted = {
          function: "function",
          class: "function",
          enum: "object",
          import: "function",
          destructured: "number",
        };
        expect([first, second, await text(`typeof ${name}`)]).toEqual([
          first,
          second,
          `'${(wanted as Record<string, string>)[second] ?? "string"}'`,
        ]);
      }
    }
  });

  it("gives a var its value wherever it stands, also where the name was a let before", async () => {
    await text("let where = 1; let list = [7, 8];");
    expect(await text("for (var where = 0, n = 3; where < n; where++) {}\n[where, n]")).toBe("[ 3, 3 ]");
    expect(await text("where")).toBe("3");
    await text("for (var where of list) {}");
    expect(await text("where")).toBe("8");
    await text("if (list.length > 0) { list.pop()\nvar where: number = 10, other: string = 'x' }");
    expect(await text("[where, other]")).toBe("[ 10, 'x' ]");
    expect(await text("var where = 20\nvar where = 21\nwhere")).toBe("21");
    expect(await text("for (var r = 0; r < 2; r++) {}\nfor (var r = 0; r < 4; r++) {}\nr")).toBe("4");
    // Names of both ways in one declaration, behind a line without a semicolon.
    await text("function lifted() {}");
    expect(await text("let before = 1\nconst lifted = 2, fresh = 3;\n[before, lifted, fresh]")).toBe(
      "[ 1, 2, 3 ]",
    );
  });

  it("lets a cell give a global's name to something else, which stays in the notebook", async () => {
    writeFileSync(
      join(kernel.folder, "notebooks", "timed.ts"),
      "export enum E { A }\nexport const at = performance.now() > 0 && new URL('http://a').host;",
    );
    await text(
      "const performance = { accuracy: 0.5 }, URL = 'http://x';\nlet Promise = 5, Math = 6, Atomics = 7, JSON = 8, Object = 9;",
    );
    await text(
      "class Map<T> { constructor(public value: T) {} static of<T>(value: T) { return new Map(value); } }",
    );
    await text("function fetch(what: string) { return 'fetched ' + what; }");
    expect(await text("[performance.accuracy, URL, Promise, fetch('it'), Map.of(3).value]")).toBe(
      "[ 0.5, 'http://x', 5, 'fetched it', 3 ]",
    );
    expect(
      await text(
        "const { URL: again, performance: { accuracy = 1 } } = { URL, performance };\n[again, accuracy]",
      ),
    ).toBe("[ 'http://x', 0.5 ]");
    expect(
      await text("function inner(performance: number, Map = 2) { return { performance, Map }; }\ninner(1)"),
    ).toBe("{ performance: 1, Map: 2 }");
    expect(
      await text("import { at, E } from './timed.ts';\n[at, E.A, typeof globalThis.fetch('data:,').then]"),
    ).toBe("[ 'a', 0, 'function' ]");
    expect(
      await text("for (let i = 0; i < 3; i++) Promise += i;\nenum Event { Map = 4 }\n[Promise, Event.Map]"),
    ).toBe("[ 8, 4 ]");
    expect(await text("import { performance } from 'node:perf_hooks';\ntypeof performance.now()")).toBe(
      "'number'",
    );
    writeFileSync(
      join(kernel.folder, "notebooks", "where.ts"),
      "export const browser = typeof (globalThis as object as { window?: unknown }).window + eval('typeof window');",
    );
    await text("const window = 512, document = 'a text';");
    expect(await text("import { browser } from './where.ts';\n[browser, window, document]")).toBe(
      "[ 'undefinedundefined', 512, 'a text' ]",
    );
    const { error } = await kernel.execute("const crypto = { performance }; throw new Error(String(Math))");
    expect(plain(error!.traceback.join("\n"))).toMatch(/: 6\n[\s\S]*cell \d+:1:39$/);
  });

  it("keeps bindings live between cells", async () => {
    await text("let count = 3;\nfunction next() { return ++count; }");
    await text("count = 100; next()");
    expect(await text("count")).toBe("101");
  });

  it("hoists functions, also where an earlier cell made the name lexical", async () => {
    await text("let early = 1");
    expect(await text("[early(), early.name];\nfunction early() { return 7; }\n[early(), early.name]")).toBe(
      "[ 7, 'early' ]",
    );
  });

  it("keeps what was declared before a throw", async () => {
    expect((await kernel.execute("const kept = 8;\nthrow new Error('after')")).error?.evalue).toBe("after");
    expect(await text("kept")).toBe("8");
  });

  it("runs enums, decorators, parameter properties, accessors, generics and using", async () => {
    await text("enum Color { Red, Green = 'g' }");
    expect(await text("[Color.Red, Color.Green]")).toBe("[ 0, 'g' ]");
    await text(
      "function twice(f: (this: P) => number, _: ClassMethodDecoratorContext) { return function (this: P) { return 2 * f.call(this); }; }\nclass P { constructor(private x: number) {} @twice get2() { return this.x; } }",
    );
    expect(await text("new P(4).get2()")).toBe("8");
    expect(await text("function same<T>(x: T): T { return x }\nsame<string>('s')")).toBe("'s'");
    await text(
      "const closed: string[] = [];\n{ using r = { [Symbol.dispose]() { closed.push('r'); } }; closed.push('body'); }",
    );
    expect(await text("closed")).toBe("[ 'body', 'r' ]");
  });

  it("disposes of what a cell declares with using when it has ended, in reverse, also after a throw", async () => {
    await text(
      "const ended: string[] = [];\nfunction open(name: string) { return { name, [Symbol.dispose]() { ended.push(name); } }; }\nfunction openAsync(name: string) { return { name, async [Symbol.asyncDispose]() { await 0; ended.push(name); } }; }",
    );
    expect(
      await text(
        "using first = open('first');\nawait using second = openAsync('second'), third = null;\nended.length",
      ),
    ).toBe("0");
    expect(await text("ended")).toBe("[ 'second', 'first' ]");
    const failed = await kernel.execute("using fourth = open('fourth');\nthrow new Error('in the cell')");
    expect(failed.error?.evalue).toBe("in the cell");
    expect(await text("[ended.at(-1), fourth.name]")).toBe("[ 'fourth', 'fourth' ]");
    // Redeclared as another kind, and with types.
    expect(
      await text(
        "enum Side { Left }\nusing first: Disposable & { name: string } = open('again');\nfirst.name",
      ),
    ).toBe("'again'");
    expect(await text("ended.at(-1)")).toBe("'again'");
    const wrong = await kernel.execute("// @ts-nocheck\nusing none = {};");
    expect(wrong.error).toMatchObject({ ename: "TypeError" });
    expect(wrong.error!.traceback.join()).toContain("using none");
    const twice = await kernel.execute(
      "using failing = { [Symbol.dispose]() { throw new Error('while closing'); } };\nthrow new Error('first')",
    );
    expect(twice.error?.ename).toBe("SuppressedError");
  });

  it("takes auto-accessors, and decorators on them", async () => {
    expect(
      await text(
        "function plus(target: ClassAccessorDecoratorTarget<object, number>, _: ClassAccessorDecoratorContext) { return { get(this: object) { return target.get.call(this) + 1; } }; }\nclass Counter { @plus accessor count = 4; accessor plain = 2; }\n[new Counter().count, new Counter().plain]",
      ),
    ).toBe("[ 5, 2 ]");
  });

  it("takes type assertions in angle brackets, aliases of namespaces, merged enums and nameless default exports", async () => {
    expect(await text("<unknown>5")).toBe("5");
    await text("namespace Outer.Inner { export const depth = 2; }");
    expect(await text("import Deep = Outer.Inner;\nDeep.depth")).toBe("2");
    expect(await text("enum Both { A }\nenum Both { B = 5 }\n[Both.A, Both.B]")).toBe("[ 0, 5 ]");
    for (const what of ["function () {}", "class {}", "async () => 1", "5"])
      expect((await kernel.execute(`export default ${what}`)).error).toBeUndefined();
  });

  it("is strict, as modules are", async () => {
    expect((await kernel.execute("// @ts-nocheck\nundeclared = 5")).error?.ename).toBe("ReferenceError");
  });

  it("evaluates user expressions and keeps silent cells silent", async () => {
    const { reply } = await kernel.execute("const base = 20", {
      user_expressions: { double: "base * 2", wrong: "nothing.here" },
    });
    expect(reply.content.user_expressions).toMatchObject({
      double: { status: "ok", data: { "text/plain": "40" } },
      wrong: { status: "error" },
    });
    const before = reply.content.execution_count;
    const silent = await kernel.execute("globalThis.console.log('x'); base", { silent: true });
    expect(silent.iopub.map((m) => m.header.msg_type)).not.toContain("execute_input");
    expect(silent.iopub.map((m) => m.header.msg_type)).not.toContain("execute_result");
    expect((await kernel.execute("base")).reply.content.execution_count).toBe((before as number) + 1);
  });

  it("aborts what waits behind a failure, and only that", async () => {
    const ids = ["throw new Error('stop')", "'second'", "'third'"].map((code) => kernel.startExecution(code));
    const status = [];
    for (const id of ids) status.push((await kernel.finish(id)).reply.content.status);
    expect(status).toEqual(["error", "aborted", "aborted"]);
    expect(await text("'fourth'")).toBe("'fourth'");
    const going = ["throw 1", "'on'"].map((code) => kernel.startExecution(code, { stop_on_error: false }));
    expect((await kernel.finish(going[0]!)).reply.content.status).toBe("error");
    expect((await kernel.finish(going[1]!)).result).toEqual({ "text/plain": "'on'" });
  });
});

describe("modules", () => {
  it("imports packages of the repository, built-ins, JSON, CommonJS and local TypeScript", async () => {
    const here = join(kernel.folder, "notebooks");
    mkdirSync(join(here, "node_modules", "old-style"), { recursive: true });
    writeFileSync(join(here, "node_modules", "old-style", "index.js"), "module.exports = { answer: 42 };");
    writeFileSync(join(here, "settings.json"), '{ "width": 7 }');
    writeFileSync(join(here, "inner.ts"), "export const inner: number = 1;");
    writeFileSync(
      join(here, "local.ts"),
      'import { inner } from "./inner.ts";\nexport const value = () => inner * 10;',
    );
    expect(
      await text(
        "import { tableFromArrays, type Table } from 'apache-arrow';\nimport { basename as base } from 'node:path';\nbase('/a/b') + tableFromArrays({ x: [1, 2] }).numRows",
      ),
    ).toBe("'b2'");
    expect(await text("import settings from './settings.json' with { type: 'json' };\nsettings.width")).toBe(
      "7",
    );
    expect(
      await text(
        "import old from 'old-style';\nimport older = require('old-style');\nold.answer + older.answer",
      ),
    ).toBe("84");
    expect(await text("import { value } from './local';\nvalue()")).toBe("10");
    expect(await text("(await import('./local.ts')).value()")).toBe("10");
  });

  it("picks up changes of local files, also of those that they import", async () => {
    const inner = join(kernel.folder, "notebooks", "inner.ts");
    writeFileSync(inner, "export const inner: number = 2; export const extra = 'new';");
    utimesSync(inner, new Date(), new Date(Date.now() + 5_000));
    expect(await text("import { value } from './local.ts';\nvalue()")).toBe("20");
    expect(await text("import { extra } from './inner.ts';\nextra.toUpperCase()")).toBe("'NEW'");
  });

  it("finds a package that is installed while the kernel runs", async () => {
    const code = "import { depth } from 'late-package';\ndepth";
    const { error } = await kernel.execute(code);
    expect(plain(error!.traceback[0]!)).toContain("Fix: npm install late-package");
    const folder = join(kernel.folder, "notebooks", "node_modules", "late-package");
    mkdirSync(folder, { recursive: true });
    writeFileSync(
      join(folder, "package.json"),
      '{ "name": "late-package", "type": "module", "main": "index.js", "types": "index.d.ts" }',
    );
    writeFileSync(join(folder, "index.js"), "export const depth = 20000;");
    writeFileSync(join(folder, "index.d.ts"), "export const depth: number;");
    expect(await text(code)).toBe("20000");
  });

  it("imports local files with enums, parameter properties and decorators", async () => {
    writeFileSync(
      join(kernel.folder, "notebooks", "rich.ts"),
      "export enum Side { Left = 1, Right }\nfunction mark(_: unknown, context: ClassDecoratorContext) { marked.push(String(context.name)); }\nexport const marked: string[] = [];\n@mark\nexport class Pair { constructor(readonly a: number) {} }\n",
    );
    expect(
      await text("import { marked, Pair, Side } from './rich.ts';\n[Side.Right, new Pair(3).a, marked]"),
    ).toBe("[ 2, 3, [ 'Pair' ] ]");
  });

  it("imports types without a mark, JSON without an attribute, and whatever CommonJS exports", async () => {
    const here = join(kernel.folder, "notebooks");
    writeFileSync(join(here, "shapes.ts"), "export interface Box { width: number }\nexport const unit = 1;");
    writeFileSync(
      join(here, "boxes.ts"),
      'import { unit, Box } from "./shapes";\nimport size from "./size.json";\nconst box: Box = { width: unit + size.more };\n// A Box is a Box.\nexport { box };',
    );
    writeFileSync(join(here, "size.json"), '{ "more": 4 }');
    writeFileSync(
      join(here, "old.cjs"),
      "const { part } = require('./part.cjs');\nmodule.exports = { answer: 40 + part };",
    );
    writeFileSync(join(here, "part.cjs"), "exports.part = 2;");
    expect(await text("import { box } from './boxes';\nimport { Box } from './shapes';\nbox as Box")).toBe(
      "{ width: 5 }",
    );
    expect(await text("import size from './size.json';\nsize.more")).toBe("4");
    expect(await text("import { answer } from './old.cjs';\n[answer, require('./old.cjs').answer]")).toBe(
      "[ 42, 42 ]",
    );
    const part = join(here, "part.cjs");
    writeFileSync(part, "exports.part = 3;");
    utimesSync(part, new Date(), new Date(Date.now() + 5_000));
    expect(await text("import { answer } from './old.cjs';\n[answer, require('./old.cjs').answer]")).toBe(
      "[ 43, 43 ]",
    );
    const { error } = await kernel.execute("// @ts-nocheck\nimport { nothing } from './shapes';\nnothing");
    expect(error?.evalue).toBe('the module "./shapes" does not provide an export named "nothing"');
  });

  it("passes on types as the compiler does, whatever way they take through local files", async () => {
    const files: Record<string, string> = {
      "kinds.ts":
        "export interface Kind { name: string }\ntype Hidden = 1;\nexport { Hidden };\nexport const kind = 3;",
      "barrel.ts": "export {\n  Kind,\n  kind,\n} from './kinds';\nexport * from './enumerated';",
      "enumerated.ts":
        "import { Kind } from './kinds';\nimport type { Hidden } from './kinds';\nexport enum E { A = 4 }\nexport { Kind as Sort, Hidden };",
      "user.ts":
        "import def, { Kind, kind } from './barrel';\nimport { E, Sort, Hidden as H } from './barrel';\nexport const a: Kind & Sort = { name: 'n' }; export const b = [kind, E.A] as const; export const h: H = 1;\nexport default function at() { return new Error('x').stack; }\nexport { Kind };\nvoid (typeof def);",
    };
    files["barrel.ts"] += "\nexport default 0;";
    for (const [name, source] of Object.entries(files))
      writeFileSync(join(kernel.folder, "notebooks", name), source);
    expect(
      await text(
        "import at, { a, b, Kind } from './user';\nconst typed: Kind = a;\n[typed, ...b, at()!.includes('user.ts:4:')]",
      ),
    ).toBe("[ { name: 'n' }, 3, 4, true ]");
  });

  it("names the missing package and the command that installs it", async () => {
    const { error } = await kernel.execute("// @ts-nocheck\nimport x from 'no-such-package-here'");
    expect(error?.ename).toBe("ModuleNotFound");
    expect(plain(error!.traceback.join("\n"))).toContain("Fix: npm install no-such-package-here");
  });

  it("gives import.meta and require as from the notebook's folder", async () => {
    expect(await text("import.meta.dirname === process.cwd()")).toBe("true");
    expect(await text("typeof require('node:fs').readFileSync")).toBe("'function'");
  });
});

describe("streams", () => {
  it("joins 10,000 small prints, loses none, and keeps the order of the two streams", async () => {
    const { iopub, stdout } = await kernel.execute("for (let i = 0; i < 10_000; i++) console.log(i)");
    expect(stdout.split("\n").slice(0, -1)).toEqual(Array.from({ length: 10_000 }, (_, i) => String(i)));
    expect(iopub.filter((m) => m.header.msg_type === "stream").length).toBeLessThan(1_000);
    const mixed = await kernel.execute(
      "console.log('a'); console.error('b'); console.log('c'); display(1); console.log('d')",
    );
    const order = mixed.iopub
      .slice(2, -1)
      .map((m) => `${m.header.msg_type} ${m.content.name ?? ""} ${m.content.text ?? ""}`.trim());
    expect(order).toEqual([
      "stream stdout a",
      "stream stderr b",
      "stream stdout c",
      "display_data",
      "stream stdout d",
    ]);
  });

  it("shows output while the cell still runs, also while it blocks", async () => {
    const id = kernel.startExecution(
      "console.log('first');\nconst until = Date.now() + 1_500;\nwhile (Date.now() < until) { if (Date.now() % 100 === 0) process.stdout.write('.'); }",
    );
    const first = await kernel.until((m) => m.header.msg_type === "stream" && m.parent.msg_id === id);
    expect(first.content.text).toContain("first");
    expect(kernel.log.some((m) => m.channel === "shell" && m.parent.msg_id === id)).toBe(false);
    await kernel.finish(id);
  });

  it("gives output of finished cells to the last request", async () => {
    await kernel.execute("setTimeout(() => console.log('late output'), 150)");
    const { header } = (await kernel.execute("'next'")).iopub[0]!;
    const late = await kernel.until((m) => String(m.content.text ?? "").includes("late output"));
    expect(late.parent.msg_id).not.toBeUndefined();
    expect(header.msg_type).toBe("status");
  });
});
