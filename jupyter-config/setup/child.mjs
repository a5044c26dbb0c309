// Child processes: output to the log, lines to whoever counts them, and none left behind.
import { spawn } from "node:child_process";
import { ChildError, SetupError } from "./failure.mjs";

const TAIL = 16_384;

/** @type {Set<import("node:child_process").ChildProcess>} */
const running = new Set();

/**
 * Counts a child among those that end with this process.
 * @param {import("node:child_process").ChildProcess} child
 */
export function watch(child) {
  running.add(child);
  child.on("error", () => running.delete(child)).on("close", () => running.delete(child));
}

/** Ends what still runs: called when the set-up itself is told to stop. */
export function stopChildren() {
  for (const child of running) child.kill("SIGTERM");
}

/**
 * Runs a command to its end.
 * @param {string} command
 * @param {string[]} args
 * @param {{ cwd: string, log: import("./steps.mjs").Log, env?: NodeJS.ProcessEnv, onLine?: (line: string) => void,
 *   onStart?: (pid: number) => void }} options
 * @returns {Promise<void>} rejects with ChildError, or with the error of the log file
 */
export function run(command, args, { cwd, log, env = process.env, onLine, onStart }) {
  log.write(`\n$ ${[command, ...args].join(" ")}\n`);
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
    watch(child);
    if (child.pid !== undefined) onStart?.(child.pid);
    let tail = "";
    let rest = "";
    /** @param {string} text */
    const take = (text) => {
      tail = (tail + text).slice(-TAIL);
      try {
        log.write(text);
      } catch (error) {
        child.kill("SIGTERM");
        reject(error);
      }
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      if (onLine) lines.forEach(onLine);
    };
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", take);
    child.on("error", (/** @type {NodeJS.ErrnoException} */ error) => {
      const missing = new SetupError(
        `${command} is not on the PATH.`,
        "Install it, then run the command again.",
      );
      reject(error.code === "ENOENT" ? missing : error);
    });
    child.on("close", (code) => {
      if (code === 0) resolve();
      else reject(new ChildError(command, code, tail));
    });
  });
}
