/** A loader whose `decode` is a function of a notebook's cell: sent to worker threads as its text, with what it imports. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { KernelClient } from "./client.js";

let folder: string;
let kernel: KernelClient;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "aronnax-loader-"));
  writeFileSync(join(folder, "features.ts"), "export const twice = (n: number): number => 2 * n;\n");
  kernel = await KernelClient.start({ cwd: folder });
});
afterAll(async () => {
  await kernel.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function run(code: string): Promise<string | undefined> {
  const { result, error } = await kernel.execute(code, {}, 60_000);
  expect(error).toBeUndefined();
  return result?.["text/plain"] as string | undefined;
}

const OPTIONS = "items: [1, 2, 3], workers: 2, batchSize: 3, shuffle: false";

it("decodes with a cell's TypeScript, files beside the notebook and the framework itself", async () => {
  await run(`import { data } from "aronnax";
    interface Info { readonly context: { readonly add: number } }
    async function decode(n: number, { context }: Info): Promise<{ y: number; order: string }> {
      const { twice } = await import("./features.ts");
      const { data } = await import("aronnax");
      return { y: twice(n) + context.add, order: [...data.permutation(3, [0])].join("") };
    }`);
  await run(`const source = data.loader({ ${OPTIONS}, context: { add: 0.5 }, decode });
    const batch = await source.next();`);
  expect(await run("[...batch.y.data]")).toBe("[ 2.5, 4.5, 6.5 ]");
  expect(await run("batch.order === [...data.permutation(3, [0])].join('')")).toBe("true");
  await run("source.close()");
});

it("refuses what a cell's function takes from other cells, by name", async () => {
  await run("const scale = 3;");
  const { error } = await kernel.execute(
    `await data.loader({ ${OPTIONS}, decode: (n: number) => ({ y: n * scale }) }).next()`,
    {},
    60_000,
  );
  expect(error?.evalue).toContain("takes `scale` from around it");
});
