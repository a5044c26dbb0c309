/**
 * What a whole run of the tests has to itself: the folder of the runtimes that its kernels and programs start, and the cache
 * of their programs. When it has ended, nothing that it started is left.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/** In the environment of all that the run starts. */
const MARK = "ARONNAX_TEST_RUN";
/** How long what is told to end may take, in ms. */
const PATIENCE = 10_000;

let folder: string | undefined;

export function setup(): void {
  // Each project of the configuration calls it.
  if (process.env[MARK]) return;
  folder = mkdtempSync(join(tmpdir(), "aronnax-test-run-"));
  const cache = fileURLToPath(new URL("../../.cache/test-programs", import.meta.url));
  mkdirSync(cache, { recursive: true, mode: 0o700 });
  process.env[MARK] = folder;
  process.env.ARONNAX_RUNTIME_DIR = join(folder, "runtime");
  process.env.ARONNAX_CACHE_DIR = cache;
  // A run that is broken off comes to no teardown.
  const entry = `${MARK}=${folder}`;
  process.once("exit", () => {
    for (const pid of folder ? processesWith(entry, true) : []) kill(pid, "SIGKILL");
  });
  // Should the run itself be killed, its runtimes do not stay.
  process.env.ARONNAX_RUNTIME_IDLE_SECONDS = "120";
}

export async function teardown(): Promise<void> {
  if (!folder) return;
  await endAll(`${MARK}=${folder}`);
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  folder = undefined;
}

/** Ends every process that has an entry in its environment, but not this one and what it is made of. */
export async function endAll(entry: string): Promise<number[]> {
  const found = processesWith(entry);
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    for (const pid of found) kill(pid, signal);
    const end = performance.now() + PATIENCE;
    while (found.some((pid) => hasEntry(pid, entry)) && performance.now() < end) await sleep(20);
  }
  return found;
}

/** Where there is no /proc, none: a runtime then ends when it has had no client for a while. */
export function processesWith(entry: string, workersToo = false): number[] {
  let pids: number[];
  try {
    pids = readdirSync("/proc").map(Number).filter(Boolean);
  } catch {
    return [];
  }
  // The workers of the test runner are its own children, and end by themselves.
  return pids.filter(
    (pid) => pid !== process.pid && hasEntry(pid, entry) && (workersToo || !isOurWorker(pid)),
  );
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

function hasEntry(pid: number, entry: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(entry);
  } catch {
    return false;
  }
}

function isOurWorker(pid: number): boolean {
  try {
    const parent = Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ")[1]);
    return parent === process.pid && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("vitest");
  } catch {
    return false;
  }
}
