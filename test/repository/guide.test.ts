/** The guide's program: all its blocks together are type-checked and run. */
import "../support/runtime.js";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it, vi } from "vitest";

const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const folder = join(repository, "build", `guide-${process.pid}`);
const file = join(folder, "guide.ts");
const text = readFileSync(join(repository, "docs", "model-of-your-own.md"), "utf8");
const blocks = [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, block = ""]) => block);
mkdirSync(folder, { recursive: true });
writeFileSync(file, blocks.join("\n"));
const home = process.cwd();
afterAll(() => {
  process.chdir(home);
  rmSync(folder, { recursive: true, force: true });
});

it("has the types that its blocks need", () => {
  expect(blocks.length).toBeGreaterThan(8);
  const options = {
    extends: join(repository, "tsconfig.base.json"),
    compilerOptions: {
      composite: false,
      noEmit: true,
      noUnusedLocals: false,
      types: ["node"],
      typeRoots: [join(repository, "node_modules", "@types")],
      paths: { aronnax: [join(repository, "core", "src", "index.ts")] },
    },
    files: ["guide.ts"],
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(options));
  const tsc = join(repository, "node_modules", ".bin", "tsc");
  let found = "";
  try {
    execFileSync(tsc, ["-p", folder], { encoding: "utf8" });
  } catch (error) {
    found = (error as { stdout: string }).stdout;
  }
  expect(found).toBe("");
}, 120_000);

it("runs, and prints what its comments say", async () => {
  process.chdir(folder);
  const lines: unknown[][] = [];
  const log = vi.spyOn(console, "log").mockImplementation((...line) => void lines.push(line));
  await import(file).finally(() => log.mockRestore());
  const printed = lines.filter(([first]) => typeof first !== "string" || first === "float32");
  expect(printed[0]![0]).toEqual([2, 2]);
  for (const [i, v] of [0.2, 0.3].entries()) expect((printed[0]![1] as number[])[i]).toBeCloseTo(v, 5);
  expect(printed[1]![0]).toBeGreaterThan(0.6);
  expect(printed.at(-2)![1]).toContain("hidden");
  expect(printed.at(-1)).toEqual(["float32"]);
}, 240_000);
