// `npm run lab`: the set-up, then JupyterLab in notebooks/ until Ctrl-C.
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join, relative } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { explain, SetupError } from "./failure.mjs";
import { at, cache, repository, venvEnvironment, venvPython } from "./repository.mjs";
import { setUpOrExplain, stopOnSignals } from "./setup.mjs";
import { seconds } from "./steps.mjs";

const READY_WITHIN_MS = 120_000;
const STOP_WITHIN_MS = 15_000;

/** @param {string[]} args of the user, for `jupyter lab` */
function labArguments(args) {
  const own = ["-m", "jupyterlab", `--ServerApp.root_dir=${at("notebooks")}`];
  const withoutDisplay = process.platform === "linux" && !process.env.DISPLAY && !process.env.WAYLAND_DISPLAY;
  if (process.getuid?.() === 0) own.push("--allow-root");
  if (withoutDisplay && !process.env.BROWSER) own.push("--no-browser");
  return [...own, ...args];
}

/**
 * Refuses a port that the user asks for and that is taken. Without one, Jupyter takes the next free port from 8888.
 * @param {string[]} args
 */
async function requirePort(args) {
  const text = args.join(" ");
  const port = Number(/--(?:ServerApp\.)?port[= ](\d+)/.exec(text)?.[1] ?? 0);
  if (port === 0) return;
  const host = /--(?:ServerApp\.)?ip[= ](\S+)/.exec(text)?.[1] ?? "localhost";
  const code = await new Promise((resolve) => {
    const server = createServer();
    server.on("error", (/** @type {NodeJS.ErrnoException} */ error) => resolve(error.code));
    server.listen({ port, host }, () => server.close(() => resolve(undefined)));
  });
  if (code === "EADDRINUSE") {
    throw new SetupError(
      `Port ${port} is taken.`,
      "Name another, or none to get a free one: npm run lab -- --port 8899",
    );
  }
  if (code === "EACCES") {
    throw new SetupError(
      `Port ${port} is reserved for the system.`,
      "Name one above 1023: npm run lab -- --port 8899",
    );
  }
}

/**
 * Waits until JupyterLab answers.
 * @param {string} log that it writes
 * @param {() => boolean} ended whether it is gone
 * @returns {Promise<string>} its address, with the token
 */
async function address(log, ended) {
  const start = performance.now();
  while (!ended() && performance.now() - start < READY_WITHIN_MS) {
    const url = /https?:\/\/\S+\/lab\S*/.exec(readFileSync(log, "utf8"))?.[0];
    if (url) {
      // The certificate of an https server is the user's own affair; its address is enough.
      if (url.startsWith("https:")) return url;
      const reply = await fetch(new URL("api", url.replace(/\/lab.*$/, "/"))).catch(() => undefined);
      if (reply?.ok) return url;
    }
    await wait(25);
  }
  const reason = readFileSync(log, "utf8").trim().split("\n").pop() ?? "";
  throw new SetupError(`JupyterLab did not start: ${reason}`, `(${relative(repository, log)} has the rest.)`);
}

/**
 * Starts JupyterLab and stays until it ends.
 * @param {string[]} args of the user
 */
async function serve(args) {
  const started = performance.now() - process.uptime() * 1000;
  const command = labArguments(args);
  if (args.some((arg) => ["-h", "--help", "--help-all", "--version"].includes(arg))) {
    const child = spawn(venvPython, command, { stdio: "inherit", env: venvEnvironment() });
    return new Promise((resolve) => child.on("close", (code) => resolve(code ?? 1)));
  }
  mkdirSync(cache, { recursive: true });
  const log = join(cache, "lab.log");
  const file = openSync(log, "w");
  // In a group of its own: Ctrl-C comes here alone, and SIGTERM then ends it without a question.
  const lab = spawn(venvPython, command, {
    cwd: repository,
    env: venvEnvironment(),
    detached: true,
    stdio: ["ignore", file, file],
  });
  closeSync(file);
  /** @type {Promise<number>} */
  const end = new Promise((resolve, reject) => {
    lab.on("error", reject);
    lab.on("close", (code) => resolve(code ?? 1));
  });
  let stopping = false;
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"])) {
    process.removeAllListeners(signal);
    process.on(signal, () => {
      if (stopping) return;
      stopping = true;
      process.stdout.write("\nStopping JupyterLab and its kernels.\n");
      lab.kill("SIGTERM");
      setTimeout(() => lab.pid && process.kill(-lab.pid, "SIGKILL"), STOP_WITHIN_MS).unref();
    });
  }
  try {
    const url = await address(log, () => lab.exitCode !== null || lab.signalCode !== null);
    const time = seconds(performance.now() - started);
    process.stdout.write(
      `JupyterLab answers after ${time}: ${url}\nCtrl-C stops it. Its log: ${relative(repository, log)}\n`,
    );
  } catch (error) {
    if (stopping) return await end.then(() => 0);
    lab.kill("SIGTERM");
    throw error;
  }
  const code = await end;
  return stopping ? 0 : code;
}

/** @param {string[]} args for `jupyter lab` */
export async function main(args) {
  stopOnSignals();
  try {
    await requirePort(args);
    if (!(await setUpOrExplain())) return 1;
    return await serve(args);
  } catch (error) {
    const known = explain(error, "JupyterLab", ".cache/lab.log");
    if (!known) throw error;
    process.stderr.write(`${known.message}\n`);
    return 1;
  }
}
