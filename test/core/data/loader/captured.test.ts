import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { expect, test } from "vitest";
import { chooseBounds } from "../../../../core/src/data/loader/buckets.js";
import { importName, nodeGlobals, portable } from "../../../../core/src/data/loader/captured.js";
import { workerProgram } from "../../../../core/src/data/loader/worker-program.js";

/** A function of a text, as a cell has it. */
const made = (text: string) => new Function(`return (${text})`)() as () => unknown;

test.each([
  ["(x) => ({ y: x + a.b[c] })", ["a", "c"]],
  ["({ a, b: [c = 1, ...d] }) => ({ a, c, d })", []],
  ["({ a = b }) => a", ["b"]],
  ["function (x) { if (x) { var late = 1; } return late + early(); function early() { return 2; } }", []],
  ["(x) => { try { x(); } catch ({ message }) { return message + error; } }", ["error"]],
  ["(x) => { outer: for (const i of x) { if (i) continue outer; } return { i: x.i }; }", []],
  [
    "(x) => class extends Base { static #p = q; m() { return this.#n() + super.m(); } #n() { return 1; } }",
    ["Base", "q"],
  ],
  ["(x) => typeof x === 'string' ? tag`a` : arguments", ["tag", "arguments"]],
  ["(x) => this.scale * x", ["this"]],
  ["function (x) { return this === undefined ? x : (() => this)(); }", []],
  ["(x) => new Float32Array(Buffer.from(x)).map(Math.sqrt)", []],
  ["(x) => { counter += 1; return counter; }", ["counter"]],
  ["(x) => require('fs')", ["require"]],
] as const)("finds the names that %s takes from around it", async (text, names) => {
  const sent = portable(made(text), "decode");
  if (names.length === 0) await expect(sent).resolves.toBeDefined();
  else
    await expect(sent).rejects.toThrow(
      `decode takes ${names.map((name) => `\`${name}\``).join(", ")} from around it, which ${names.length === 1 ? "does" : "do"} not exist`,
    );
});

test("puts the worker's import where the text has one, also one that a tool had replaced", async () => {
  const f = made(
    "async (x) => [await import('a'), await __aronnax_import__('b'), await __vite_ssr_dynamic_import__('c'), __name(x, 'x')]",
  );
  const { text } = await portable(f, "decode");
  expect(text).toBe(
    `(async (x) => [await ${importName}('a'), await ${importName}('b'), await ${importName}('c'), ((f) => f)(x, 'x')])`,
  );
});

test("knows what a worker thread has", async () => {
  const source = `require("node:worker_threads").parentPort.postMessage(Object.getOwnPropertyNames(globalThis))`;
  const worker = new Worker(source, { eval: true });
  const names = await new Promise<string[]>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  await worker.terminate();
  const own = ["__filename", "__dirname", "module", "exports", "require"];
  const refused: string[] = [];
  for (const name of names.filter((name) => !own.includes(name)))
    await portable(made(`() => ${name}`), "decode").catch(() => refused.push(name));
  expect(refused).toEqual([]);
  const late = ["CloseEvent", "Navigator", "URLPattern", "WebSocket", "navigator"];
  expect([...nodeGlobals].filter((name) => !names.includes(name) && !late.includes(name))).toEqual([]);
});

test("the worker's own program takes nothing from around it", async () => {
  await expect(portable(made(`() => { ${workerProgram()} }`), "the program")).resolves.toBeDefined();
});

test("bounds are the best of their number, and as few as keep below the share", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 12 }),
      fc.double({ min: 0.01, max: 0.6, noNaN: true }),
      (lengths, padding) => {
        const bounds = chooseBounds(lengths, padding, 16);
        const share = (chosen: readonly number[]) => {
          const places = lengths.reduce((sum, length) => sum + chosen.find((bound) => length <= bound)!, 0);
          return 1 - lengths.reduce((sum, length) => sum + length, 0) / places;
        };
        const longest = Math.max(...lengths);
        const others = [...new Set(lengths)].filter((length) => length < longest).sort((a, b) => a - b);
        // All choices of bounds among the lengths.
        const best: number[] = [];
        for (let bits = 0; bits < 1 << others.length; bits++) {
          const chosen = [...others.filter((_, i) => bits & (1 << i)), longest];
          best[chosen.length] = Math.min(best[chosen.length] ?? 1, share(chosen));
        }
        expect(share(bounds)).toBeCloseTo(best[bounds.length]!, 12);
        expect(share(bounds)).toBeLessThan(padding);
        for (let fewer = 1; fewer < bounds.length; fewer++)
          expect(best[fewer]!).toBeGreaterThanOrEqual(padding - 1e-12);
      },
    ),
    { numRuns: 200 },
  );
});
