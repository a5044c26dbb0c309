// Two set-ups at once in one folder would undo each other's work; so would a new one and the pip that a killed one left.
import { readFileSync, readlinkSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SetupError } from "./failure.mjs";
import { cache, repository } from "./repository.mjs";

const file = join(cache, "setup.pids");
let held = false;

/**
 * Whether a process that the file names is still the one that wrote it: all of a set-up work in the repository.
 * @param {number} pid
 */
function atWork(pid) {
  try {
    // Fails for a process that is gone, and for one that is dead and that nobody waits for, as in a container.
    if (process.platform === "linux") return readlinkSync(`/proc/${pid}/cwd`) === realpathSync(repository);
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === "EPERM";
  }
}

/** The processes of another set-up that still run here. */
function others() {
  try {
    return readFileSync(file, "utf8")
      .trim()
      .split("\n")
      .map(Number)
      .filter((pid) => pid > 0 && atWork(pid));
  } catch {
    return [];
  }
}

/** Takes the folder for this process. @throws {SetupError} where another set-up is at work */
export function reserve() {
  const pids = others();
  if (pids.length > 0) {
    throw new SetupError(
      `Another set-up is at work in this folder (process ${pids.join(", ")}).`,
      `Wait for it, or end it with \`kill ${pids.join(" ")}\`, then run the command again.`,
    );
  }
  writeFileSync(file, `${process.pid}\n`);
  held = true;
}

/** @param {number} pid of the child now at work */
export function startedChild(pid) {
  writeFileSync(file, `${process.pid}\n${pid}\n`);
}

/** Gives the folder back. */
export function release() {
  if (held) rmSync(file, { force: true });
  held = false;
}
