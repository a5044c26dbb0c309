/** The threads of a loader, in a process of their own and from built files. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { finished, runTypeScript } from "../../files/run-typescript.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "aronnax-loader-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const index = fileURLToPath(new URL("../../../../core/dist/data/index.js", import.meta.url));

/** Runs a program that has `loader`, `make` and the `workers` that live. */
async function run(body: string, flags: string[] = []) {
  const child = await runTypeScript(
    folder,
    `const workers = new Set();
     process.on("worker", (worker) => { workers.add(worker); worker.on("exit", () => workers.delete(worker)); });
     (async () => {
       const { loader } = await import(process.argv[2]);
       const make = (more) => loader({
         items: Array.from({ length: 64 }, (_, i) => i),
         decode: (i) => ({ i, x: new Float32Array(10) }),
         workers: 2,
         batchSize: 4,
         ...more,
       });
       ${body}
     })();`,
    { arguments: [index], flags },
  );
  return finished(child);
}

test("threads end when their loader is dropped", async () => {
  const body = `
    for (let i = 0; i < 4; i++) {
      const source = make();
      await source.next();
      for await (const batch of source.validation()) break;
    }
    const begun = workers.size;
    for (let i = 0; i < 200 && workers.size > 2; i++) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    console.log(begun, workers.size <= 2);`;
  expect(await run(body, ["--expose-gc"])).toEqual({ code: 0, stdout: "8 true\n", stderr: "" });
});

test("threads end when their loader is closed, and hear of it", async () => {
  const body = `
    const source = make({ decode: (i, { signal }) => {
      signal.addEventListener("abort", () => process.stdout.write("closing\\n"), { once: true });
      return { i };
    }, workers: 1, items: [1], batchSize: 1, epochs: 1 });
    await source.next();
    source.close();
    for (let i = 0; i < 200 && workers.size > 0; i++) await new Promise((resolve) => setTimeout(resolve, 50));
    console.log(workers.size);`;
  expect(await run(body)).toEqual({ code: 0, stdout: "closing\n0\n", stderr: "" });
});

test("threads that work ahead do not keep the process alive, and a waiting loop does", async () => {
  const body = `
    const source = make({ decode: async (i) => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      return { i };
    } });
    let rows = 0;
    for await (const batch of source) if ((rows += batch.batchSize) >= 128) break;
    console.log(rows);`;
  expect(await run(body)).toEqual({ code: 0, stdout: "128\n", stderr: "" });
});

test("a thread that is busy for ever does not stop the process or the closing", async () => {
  const body = `
    const source = make({ decode: (i) => { for (;;); } });
    const waiting = source.next().catch((error) => console.log(error.message));
    await new Promise((resolve) => setTimeout(resolve, 300));
    source.close();
    await waiting;
    for (let i = 0; i < 200 && workers.size > 0; i++) await new Promise((resolve) => setTimeout(resolve, 50));
    console.log(workers.size);`;
  const { code, stdout } = await run(body);
  expect({ code, stdout }).toEqual({
    code: 0,
    stdout: "The loader was closed or restored while a batch was waited for.\n0\n",
  });
});
