/** The blocks of docs/fine-tuning.md have the types that they say. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";

const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const folder = join(repository, "build", `fine-tuning-${process.pid}`);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const given = `
import { adamw, evaluation, llm, peft, text, Trainer } from "aronnax";
declare const folder: string;
declare const domainTexts: string[];
declare const generalTexts: string[];
declare const texts: string[];
declare const small: llm.Llama;
declare const large: llm.Llama;
declare const common: { name: string; model: llm.Llama; steps: number; optimizer: ReturnType<typeof adamw> };
`;

it("docs/fine-tuning.md", () => {
  const guide = readFileSync(join(repository, "docs", "fine-tuning.md"), "utf8");
  const blocks = [...guide.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, block = ""]) => block);
  expect(blocks.length).toBeGreaterThan(4);
  mkdirSync(folder, { recursive: true });
  // Each after the first sees what that one makes, and has names of its own.
  const [first = "", ...rest] = blocks;
  writeFileSync(
    join(folder, "guide.ts"),
    `${given}${first}${rest.map((block) => `await (async () => {\n${block}})();\n`).join("")}export { peft };\n`,
  );
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
  let found = "";
  try {
    execFileSync(join(repository, "node_modules", ".bin", "tsc"), ["-p", folder], { encoding: "utf8" });
  } catch (error) {
    found = (error as { stdout: string }).stdout;
  }
  expect(found).toBe("");
}, 120_000);
