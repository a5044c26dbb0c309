/**
 * Kills a training with SIGKILL at random moments, resumes it each time, and compares its end with that of a training that was left alone:
 * every byte of parameters, optimizer and averaged parameters, and every step's loss.
 *
 * usage: node bench/train/kill-resume.mjs [--kills 50] [--seed 1] [--fsdp 1]
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { adamw, cosine, llm, metrics, random, Trainer, text } from "aronnax";

const { values } = parseArgs({
  options: {
    kills: { type: "string", default: "50" },
    seed: { type: "string", default: "1" },
    child: { type: "string" },
    steps: { type: "string", default: "0" },
    slow: { type: "boolean", default: false },
    fsdp: { type: "string", default: "1" },
  },
});
const kills = Number(values.kills);
const stepsOfLife = 12;
const millisecondsOfStep = 20;

/** The training itself, in a process of its own. */
async function train(folder, steps, slow) {
  const documents = Array.from({ length: 30 }, (_, i) => `${i} sailors went to sea. `.repeat(12 + i));
  const trainer = new Trainer({
    name: "run",
    folder,
    model: llm.llama({ vocabSize: 257, hiddenSize: 16, intermediateSize: 32, layers: 1, heads: 2 }),
    data: text.packed(documents, { tokenizer: text.byteTokenizer(), sequenceLength: 16, batchSize: 4 }),
    optimizer: adamw({ learningRate: cosine({ peak: 1e-2, warmup: 3 }), weightDecay: 0.1, clipNorm: 1 }),
    steps,
    average: { decay: 0.9 },
    spikes: { deviations: 50 },
    checkpoints: { every: 4, keep: 2 },
    resume: true,
    parallel: { fsdp: Number(values.fsdp) },
    deterministic: true,
    printEvery: 0,
    callbacks: [
      { onStart: () => console.log("started"), onStep: () => sleep(slow ? millisecondsOfStep : 0) },
    ],
  });
  await trainer.fit();
}

function start(folder, steps, slow) {
  const args = [
    "--child",
    folder,
    "--steps",
    String(steps),
    "--fsdp",
    values.fsdp,
    ...(slow ? ["--slow"] : []),
  ];
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const started = new Promise((resolve) => {
    child.stdout.on("data", (data) => String(data).includes("started") && resolve());
    child.on("close", resolve);
  });
  const ended = new Promise((resolve) => child.on("close", (code) => resolve(code)));
  return { child, started, ended };
}

/** Of the newest checkpoint every tensor file's hash, and every step's loss. */
function outcome(folder) {
  const checkpoints = join(folder, "run", "checkpoints");
  const last = join(checkpoints, readdirSync(checkpoints).sort().at(-1));
  const hashes = {};
  for (const part of ["model", "optimizer", "average", "watch"]) {
    const files = readdirSync(join(last, part)).filter((name) => name.endsWith(".safetensors"));
    const bytes = files.sort().map((name) => readFileSync(join(last, part, name)));
    hashes[part] = createHash("sha256").update(Buffer.concat(bytes)).digest("hex");
  }
  const { rows } = metrics.readRun(join(folder, "run"));
  return { checkpoint: last.slice(-11), hashes, losses: rows.flatMap((row) => row.loss ?? []) };
}

if (values.child !== undefined) {
  await train(values.child, Number(values.steps), values.slow);
  process.exit(0);
}

const folder = mkdtempSync(join(tmpdir(), "aronnax-kill-"));
const draws = await random.uniform(Number(values.seed), [Math.max(1, kills)]).data();
const steps = kills * stepsOfLife + 12;
try {
  const alone = start(join(folder, "alone"), steps, false);
  if ((await alone.ended) !== 0) throw new Error("the training that was left alone failed");
  const lives = { killed: 0, beforeTheFirstStep: 0, finished: 0 };
  for (let k = 0; k < kills; k++) {
    const { child, started, ended } = start(join(folder, "killed"), steps, true);
    // One in five dies while it starts.
    const early = draws[k] < 0.2;
    if (early) await sleep(draws[k] * 5000);
    else {
      await started;
      await sleep((draws[k] - 0.2) * 2 * stepsOfLife * millisecondsOfStep);
    }
    child.kill("SIGKILL");
    if ((await ended) === 0) lives.finished++;
    else lives.killed++;
    if (early) lives.beforeTheFirstStep++;
  }
  const last = start(join(folder, "killed"), steps, false);
  if ((await last.ended) !== 0) throw new Error("the last life of the killed training failed");
  const [whole, resumed] = [outcome(join(folder, "alone")), outcome(join(folder, "killed"))];
  const equal = JSON.stringify(whole) === JSON.stringify(resumed);
  console.log(
    JSON.stringify({ what: "kill and resume", steps, ...lives, equal, checkpoint: whole.checkpoint }),
  );
  if (!equal) {
    console.error(JSON.stringify({ whole: whole.hashes, resumed: resumed.hashes }));
    const at = whole.losses.findIndex((loss, i) => loss !== resumed.losses[i]);
    console.error(`losses: ${whole.losses.length} and ${resumed.losses.length}, first difference at ${at}`);
    process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
}
process.exit();
