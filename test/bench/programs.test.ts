/** The bench programs that are run by hand, bundled and run once on something tiny: so that they work when they are needed. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "aronnax-bench-"));
const env = {
  ...process.env,
  ARONNAX_RUNTIME_DIR: directory,
  ARONNAX_DEVICES: "cpu",
  ARONNAX_PYTHON: process.env.ARONNAX_PYTHON ?? join(root, ".venv/bin/python"),
  ARONNAX_RUNTIME_IDLE_SECONDS: "5",
};

async function run(...command: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, command, { cwd: root, env });
  return stdout;
}

beforeAll(async () => {
  await run("bench/bundle.mjs", "--no-node");
}, 120_000);
afterAll(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 }));

it.each([
  [
    [
      "llama-train",
      "--model",
      "tiny",
      "--batch",
      "2",
      "--time",
      "16",
      "--steps",
      "6",
      "--precision",
      "float32",
    ],
  ],
  [
    [
      "training-features",
      "--model",
      "tiny",
      "--batch",
      "2",
      "--time",
      "16",
      "--steps",
      "4",
      "--only",
      "adamw",
    ],
  ],
  [["generate", "--model", "tiny", "--batches", "1", "--calls", "1,4", "--prompt", "8", "--tokens", "8"]],
  [
    [
      "finetune-packed",
      "--model",
      "tiny",
      "--batch",
      "2",
      "--time",
      "64",
      "--steps",
      "4",
      "--precision",
      "float32",
    ],
  ],
  [["garbage", "--calls", "3"]],
  [["dispatch", "--parameters", "2", "--calls", "3"]],
  [["random", "--only", "vmap"]],
  [["checks", "array", "argmax"]],
])(
  "%s",
  async ([program, ...options]) => {
    const printed = await run(join("build/bench", `${program}.mjs`), ...options);
    const lines = printed.trim().split("\n");
    for (const line of lines.filter((one) => one.startsWith("{")))
      expect(JSON.parse(line)).toBeTypeOf("object");
    expect(lines.some((one) => one.startsWith("{"))).toBe(true);
  },
  300_000,
);
