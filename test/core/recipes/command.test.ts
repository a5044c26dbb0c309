/** `aronnax train` in a process of its own, and the changes that it makes to a recipe. */
import "../../support/runtime.js";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { adamw, cosine, llm, metrics, text } from "aronnax";
import { afterAll, describe, expect, it } from "vitest";
import { configOf } from "../../../core/src/recipes/command.js";
import { kernelNode, repository } from "../../kernel/client.js";

const folder = mkdtempSync(join(tmpdir(), "aronnax-command-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const command = fileURLToPath(new URL("../../../core/bin/aronnax.js", import.meta.url));

const source = (steps: number, types: string): string => `
import { adamw, cosine, llm, text } from "aronnax";
const documents = Array.from({ length: 20 }, (_, i) => (i + " sailors went to sea. ").repeat(12 + i));
export default function recipe(options${types}) {
  return {
    name: "cli",
    folder: ${JSON.stringify(folder)},
    model: llm.llama({ vocabSize: 257, hiddenSize: 16, intermediateSize: 32, layers: 1, heads: 2 }),
    data: text.packed(documents, { tokenizer: text.byteTokenizer(), sequenceLength: 16, batchSize: options.batchSize ?? 4 }),
    optimizer: adamw({ learningRate: cosine({ peak: 1e-2, warmup: 3 }) }),
    steps: ${steps},
    checkpoints: { every: 50 },
  };
}
`;
const typed = join(folder, "recipe.ts");
writeFileSync(typed, source(12, ": { batchSize?: number }"));
const endless = join(folder, "endless.mjs");
writeFileSync(endless, source(1_000_000, ""));

function run(node: string, args: string[], before = [command, "train"]) {
  const child = spawn(node, [...before, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (data) => {
    output += data;
  });
  child.stderr.on("data", (data) => {
    output += data;
  });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  const said = async (what: RegExp): Promise<void> => {
    while (!what.test(output)) {
      if (child.exitCode !== null) throw new Error(`ended without saying ${what}: ${output}`);
      await new Promise((done) => setTimeout(done, 10));
    }
  };
  return { child, ended, said, output: () => output };
}

describe("aronnax train", () => {
  it("runs itself again under the project's Node where the one it runs under knows no TypeScript", {
    timeout: 60_000,
  }, async () => {
    const done = run(kernelNode(), [typed, "--dry-run"], ["--no-experimental-strip-types", command, "train"]);
    expect(await done.ended, done.output()).toBe(0);
    expect(done.output()).toMatch(/12 steps of "cli", nothing was started/);
    const broken = run(
      kernelNode(),
      [join(folder, "none.ts")],
      ["--no-experimental-strip-types", command, "train"],
    );
    expect(await broken.ended).toBe(1);
    expect(broken.output()).toMatch(/there is no .*none\.ts/);
  });

  it("trains a recipe in TypeScript with what is set", { timeout: 60_000 }, async () => {
    const done = run(kernelNode(), [
      typed,
      "--set",
      "steps=6",
      "--set",
      "optimizer.learningRate.peak=0.5",
      "--set",
      "recipe.batchSize=2",
    ]);
    expect(await done.ended, done.output()).toBe(0);
    expect(done.output()).toMatch(/finished at step 6 of 6: loss \d/);
    const { rows } = metrics.readRun(join(folder, "cli"));
    expect(rows.at(-1)).toMatchObject({ step: 6, tokens: 6 * 2 * 16 });
    expect(Math.max(...rows.map((row) => row.learning_rate!))).toBeCloseTo(0.5, 5);
  });

  it("stops at Ctrl-C with a checkpoint, and goes on from it", { timeout: 60_000 }, async () => {
    const first = run(process.execPath, [endless, "--set", "printEvery=1"]);
    await first.said(/step +20\//);
    first.child.kill("SIGINT");
    expect(await first.ended, first.output()).toBe(130);
    const stopped = Number(/interrupted at step (\d+) of/.exec(first.output())?.[1]);
    expect(stopped).toBeGreaterThanOrEqual(20);
    const saved = readdirSync(join(folder, "cli", "checkpoints"))
      .sort()
      .at(-1);
    expect(saved).toBe(`step-${String(stopped).padStart(6, "0")}`);
    const second = run(process.execPath, [endless, "--resume", "--set", `steps=${stopped + 5}`]);
    expect(await second.ended, second.output()).toBe(0);
    expect(second.output()).toMatch(new RegExp(`resumed "cli" from the checkpoint of step ${stopped}`));
    expect(second.output()).toMatch(new RegExp(`finished at step ${stopped + 5} `));
  });

  it("writes its progress over one line on a terminal", { timeout: 60_000 }, async () => {
    // Python's pty gives the child a terminal.
    const python = process.env.ARONNAX_PYTHON ?? join(repository, ".venv", "bin", "python");
    const inner = [
      process.execPath,
      command,
      "train",
      endless,
      "--set",
      "steps=30",
      "--set",
      "name=terminal",
    ];
    const done = run(
      python,
      ["-c", `import pty, sys; sys.exit(pty.spawn(${JSON.stringify(inner)}) >> 8)`],
      [],
    );
    expect(await done.ended, done.output()).toBe(0);
    const lines = done.output().split("\r\n");
    expect(lines[0]!.split("\r").filter((part) => /^step +\d+\/30 /.test(part))).toHaveLength(30);
    expect(lines[0]).toMatch(/\d+ s left/);
    expect(lines[1]).toMatch(/^finished at step 30 of 30/);
  });

  it("refuses what it does not know, in one line with the fix, before anything starts", async () => {
    const wrong = run(process.execPath, [endless, "--dry-run", "--set", "stpes=4"]);
    expect(await wrong.ended).toBe(1);
    expect(wrong.output()).toBe("error: --set: there is no field stpes\n  fix: did you mean steps?\n");
    const empty = join(folder, "empty.mjs");
    writeFileSync(empty, "export const other = 1;");
    const none = run(process.execPath, [empty]);
    expect(await none.ended).toBe(1);
    expect(none.output()).toMatch(/exports no recipe; it exports other, a number/);
    const data = join(folder, "recipe.json");
    writeFileSync(data, "{}");
    const other = run(process.execPath, [data]);
    expect(await other.ended).toBe(1);
    expect(other.output()).toMatch(
      /recipe.json is no recipe file\n {2}fix: give a .ts, .mts, .js or .mjs file/,
    );
  });
});

it("shows where a recipe's own mistake is", async () => {
  const mistaken = join(folder, "mistaken.mjs");
  writeFileSync(mistaken, "export default () => {\n  const steps = undefined;\n  return steps.length;\n};\n");
  const failed = run(process.execPath, [mistaken]);
  expect(await failed.ended).toBe(1);
  expect(failed.output()).toMatch(/^error: TypeError: Cannot read properties of undefined/);
  expect(failed.output()).toMatch(/mistaken\.mjs:3:16/);
});

describe("--set", () => {
  const config = () => ({
    name: "x",
    model: llm.llama({ vocabSize: 257, hiddenSize: 16, intermediateSize: 32, layers: 1, heads: 2 }),
    data: text.packed(["a"], { tokenizer: text.byteTokenizer(), sequenceLength: 16, batchSize: 4 }),
    optimizer: adamw({ learningRate: cosine({ peak: 1, warmup: 3 }), weightDecay: 0.1 }),
    steps: 10,
    checkpoints: { every: 5 },
  });
  const set = (...sets: string[]) => configOf(config() as never, sets, false);

  it("changes fields, options of optimizers and of their schedules, and adds objects", async () => {
    const changed = await set(
      "steps=20",
      "checkpoints.keep=2",
      "validation.every=4",
      "optimizer.weightDecay=0",
      "optimizer.learningRate.peak=2",
      "precision=bf16",
    );
    expect(changed).toMatchObject({
      steps: 20,
      checkpoints: { every: 5, keep: 2 },
      validation: { every: 4 },
      precision: "bf16",
    });
    const options = changed.optimizer!.options as { weightDecay: number; learningRate: { options: object } };
    expect(options.weightDecay).toBe(0);
    expect(options.learningRate.options).toEqual({ peak: 2, warmup: 3 });
    expect((await set("optimizer.learningRate=0.5")).optimizer!.options).toMatchObject({ learningRate: 0.5 });
  });

  it.each([
    ["stepz=1", /there is no field stepz/],
    ["checkpoints.evry=1", /there is no field checkpoints.evry/],
    ["optimizer.learningRat=1", /adamw: there is no option learningRat/],
    ["optimizer.learningRate.peek=1", /cosine: there is no option peek/],
    ["model.hiddenSize=32", /model has no fields that can be set/],
    ["recipe.x=1", /the recipe is no function/],
    ["steps", /--set steps has no value/],
  ])("%s is refused", async (text, message) => {
    await expect(set(text)).rejects.toThrow(message);
  });
});
