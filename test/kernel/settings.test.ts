// tsconfig.json beside a notebook: what the checker follows holds when cells run, and nothing is lost by having one.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { KernelClient, plain } from "./client.js";

const home = mkdtempSync(join(tmpdir(), "aronnax-settings-"));
let notebooks = 0;
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** Runs cells in a folder with these files; returns what each shows, or its error. */
async function run(
  files: Record<string, string>,
  cells: string[],
  env: NodeJS.ProcessEnv = {},
): Promise<unknown[]> {
  const cwd = join(home, String(notebooks++));
  mkdirSync(cwd);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(cwd, name)), { recursive: true });
    writeFileSync(join(cwd, name), text);
  }
  const kernel = await KernelClient.start({ cwd, env });
  try {
    const shown: unknown[] = [];
    for (const cell of cells) {
      const { result, error } = await kernel.execute(cell);
      shown.push(error ? plain(error.traceback.join("\n")) : result?.["text/plain"]);
    }
    return shown;
  } finally {
    await kernel.stop();
  }
}

const tsconfig = (options: object, more: object = {}) => ({
  "tsconfig.json": JSON.stringify({ compilerOptions: options, ...more }),
});

describe("a tsconfig.json", () => {
  const usual: Record<string, Record<string, string>> = {
    "of tsc --init": tsconfig({ target: "es2016", module: "commonjs", esModuleInterop: true, strict: true }),
    "with libraries of its own": tsconfig({ lib: ["esnext", "dom"] }),
    "with an old library": tsconfig({ lib: ["es2015"], target: "es5" }),
    "with nothing but references": { "tsconfig.json": '{ "files": [], "references": [] }' },
    "with other types": tsconfig({ types: [] }),
    "with comments and an ancestor": {
      "tsconfig.json": '{\n  // mine\n  "extends": "./base.json", "include": ["src"],\n}',
      "base.json": '{ "compilerOptions": { "module": "nodenext", "moduleResolution": "nodenext" } }',
    },
    "of a bundler": tsconfig({
      moduleResolution: "bundler",
      module: "esnext",
      noEmit: true,
      isolatedModules: true,
    }),
    "that declares": tsconfig({ declaration: true, composite: true, outDir: "dist", rootDir: "src" }),
    "that cannot be read": { "tsconfig.json": "{ not json" },
  };
  for (const [name, files] of Object.entries(usual)) {
    it(`${name} leaves Node's types`, async () => {
      expect(
        await run(files, [
          "import { readFileSync } from 'node:fs'; typeof readFileSync",
          "process.version.length > 2",
          "typeof Buffer.from('x').toString()",
        ]),
      ).toEqual(["'function'", "true", "'string'"]);
    });
  }

  it("turns strictness on, as the setting does", async () => {
    const cells = ["function add(a, b) { return a + b }", "globalThis.fresh = 1"];
    const strict = [expect.stringContaining("TS7006"), expect.stringContaining("TS7017")];
    expect(await run(tsconfig({ strict: true }), cells)).toEqual(strict);
    expect(await run({}, cells, { ARONNAX_TYPE_CHECK: "strict" })).toEqual(strict);
    expect(await run({}, cells)).toEqual([undefined, undefined]);
    expect(await run(tsconfig({ strict: true, noImplicitAny: false }), cells)).toEqual([
      undefined,
      undefined,
    ]);
    const caught = ["try { throw 1 } catch (error) { error.message }"];
    expect(await run(tsconfig({ strict: true }), caught)).toEqual([expect.stringContaining("TS18046")]);
  });

  it("gives paths, in cells and in files", async () => {
    const files = {
      ...tsconfig({ paths: { "@lib/*": ["./lib/*"], only: ["./lib/a.ts"] } }),
      "lib/a.ts": "import { b } from '@lib/inner/b';\nexport const a: number = b + 1;\n",
      "lib/inner/b.ts": "export const b = 1;\n",
    };
    expect(
      await run(files, [
        "import { a } from '@lib/a'; a",
        "import { a as same } from 'only'; same === a",
        "(await import('@lib/inner/b')).b",
      ]),
    ).toEqual(["2", "true", "1"]);
  });

  it("gives decorators of the former kind, in cells and in files", async () => {
    const decorator = "function Dec(target: any, key: string) { target['m_' + key] = 1 }";
    const files = {
      ...tsconfig({ experimentalDecorators: true }),
      "decorated.ts": `${decorator}\nexport class D { @Dec p = 1 }\n`,
    };
    expect(
      await run(files, [
        `${decorator}\nclass D1 { @Dec p = 1 }\n(D1.prototype as any).m_p`,
        "import { D } from './decorated'; (D.prototype as any).m_p",
      ]),
    ).toEqual(["1", "1"]);
  });
});

describe("JSX", () => {
  it("is of the automatic way without settings, also from .tsx files", async () => {
    const files = {
      "Title.tsx": "export function Title({ text }: { text: string }) { return <h1>{text}</h1>; }\n",
    };
    expect(
      await run(files, [
        "const el = <h1 title='x'>Hello</h1>; el.props.children",
        "import { Title } from './Title'; const page = <><Title text='a' />b</>; (page.props as any).children.length",
        "const jsx = 'mine'; const again = <b>1</b>; jsx",
        "const generic = <T,>(x: T) => x; generic(<i/>).type",
        "const cast = <number>(1 as unknown); cast",
      ]),
    ).toEqual(["'Hello'", "2", "'mine'", "'i'", "1"]);
  });

  it("is of the classic way where React is in scope", async () => {
    expect(
      await run({}, [
        "const React = { createElement: (type: unknown, props: unknown, ...kids: unknown[]) => ({ type, props, kids }), Fragment: 'fragment' };",
        "const el: any = <div id='a'>x{1}</div>; el.kids",
        "const both: any = <><b/></>; both.type",
      ]),
    ).toEqual([undefined, "[ 'x', 1 ]", "'fragment'"]);
  });

  it("goes to a factory of one's own, by a comment or by tsconfig.json", async () => {
    const factory =
      "const h = (tag: unknown, props: object | null, ...kids: unknown[]) => ({ tag, props, kids }); const Frag = 'frag';";
    const cells = ["const v: any = <div id='a'>x</div>; v.tag", "const w: any = <><b/></>; w.tag"];
    expect(
      await run({}, [`/** @jsx h */ /** @jsxFrag Frag */\n${factory}\nconst u: any = <p/>; u.tag`, ...cells]),
    ).toEqual(["'p'", "'div'", "'frag'"]);
    expect(
      await run(tsconfig({ jsx: "react", jsxFactory: "h", jsxFragmentFactory: "Frag" }), [factory, ...cells]),
    ).toEqual([undefined, "'div'", "'frag'"]);
  });
});

describe("cells", () => {
  it("have __dirname and __filename, show object literals, and import all of CommonJS by its namespace", async () => {
    const files = {
      "common.cjs": "module.exports = Object.assign(function whole() {}, { ['com' + 'puted']: 1 });",
    };
    const [dirname, shorthand, own, object, block, names, computed] = await run(files, [
      "__dirname.endsWith(process.cwd()) && __filename.startsWith(__dirname)",
      "Object.keys({ __dirname })",
      "const __dirname = 'mine'; __dirname",
      "{ a: 1, b: [2] }",
      "{ let inner = 1; console.log(inner) }",
      "import * as lodash from 'lodash'; lodash.chunk([1, 2], 1).length + Object.keys(lodash.default).length * 0",
      "import * as common from './common.cjs'; (common as any).computed",
    ]);
    expect([dirname, shorthand, own]).toEqual(["true", "[ '__dirname' ]", "'mine'"]);
    expect([object, block, names, computed]).toEqual(["{ a: 1, b: [ 2 ] }", undefined, "2", "1"]);
  });
});
