// `npm test`: the set-up, the checks, then vitest; the last line counts them all.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { watch } from "./child.mjs";
import { requireChromium } from "./chromium.mjs";
import { SetupError } from "./failure.mjs";
import { at, cache, repository, venv, venvEnvironment } from "./repository.mjs";
import { setUpOrExplain, stopOnSignals } from "./setup.mjs";
import { Log, seconds } from "./steps.mjs";

const ruff = join(venv, "bin", "ruff");
const bin = /** @param {string} name */ (name) => at("node_modules", ".bin", name);

/** What is checked without running the program; each counts as one test. @type {[string, string, string[]][]} */
const CHECKS = [
  ["biome check", bin("biome"), ["check", "--error-on-warnings"]],
  ["tsc -b", bin("tsc"), ["-b"]],
  ["ruff check", ruff, ["check"]],
  ["ruff format", ruff, ["format", "--check"]],
];

/**
 * @param {string} command
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<number>} exit status
 */
function show(command, args, env) {
  const child = spawn(command, args, { cwd: repository, env, stdio: "inherit" });
  watch(child);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 1));
  });
}

/**
 * @typedef {{ passed: number, failed: number, skipped: number }} Tally
 * @typedef {{ success: boolean, numPassedTests: number, numFailedTests: number, numPendingTests: number,
 *   numTodoTests: number, testResults: { status: string, assertionResults: unknown[] }[] }} VitestReport
 */

/**
 * @param {string[]} args of the user
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<Tally>}
 */
async function runVitest(args, env) {
  const report = join(cache, "vitest.json");
  rmSync(report, { force: true });
  const options = ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const code = await show(bin("vitest"), [...options, ...args], env);
  // Nothing reported (no test matches the filter, a broken configuration) is a failure of its own.
  if (!existsSync(report)) return { passed: 0, failed: 1, skipped: 0 };
  /** @type {VitestReport} */
  const result = JSON.parse(readFileSync(report, "utf8"));
  // A file that does not load fails without a single test.
  const broken = result.testResults.filter(
    (file) => file.status === "failed" && file.assertionResults.length === 0,
  );
  const failed = result.numFailedTests + broken.length;
  return {
    passed: result.numPassedTests,
    failed: failed === 0 && (code !== 0 || !result.success) ? 1 : failed,
    skipped: result.numPendingTests + result.numTodoTests,
  };
}

/** @param {string[]} args for vitest: a filter such as test/core, or options */
export async function main(args) {
  stopOnSignals();
  if (!(await setUpOrExplain())) return 1;
  mkdirSync(cache, { recursive: true });
  const env = venvEnvironment();
  /** @type {Tally} */
  const tally = { passed: 0, failed: 0, skipped: 0 };
  const log = new Log(join(cache, "chromium.log"));
  writeFileSync(log.path, "");
  try {
    env.CHROMIUM = await requireChromium(log);
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    // The tests without a browser still run; those with one fail and say the same.
    process.stderr.write(`${error.message}\n`);
  }
  for (const [title, command, options] of CHECKS) {
    const started = performance.now();
    const good = (await show(command, options, env)) === 0;
    tally[good ? "passed" : "failed"] += 1;
    process.stdout.write(
      `${good ? "ok    " : "FAILED"} ${title.padEnd(14)} ${seconds(performance.now() - started)}\n`,
    );
  }
  const tests = await runVitest(args, env);
  tally.passed += tests.passed;
  tally.failed += tests.failed;
  tally.skipped += tests.skipped;
  const skipped = tally.skipped > 0 ? `, ${tally.skipped} skipped` : "";
  process.stdout.write(`\n${tally.passed} passed, ${tally.failed} failed${skipped}\n`);
  return tally.failed === 0 ? 0 : 1;
}
