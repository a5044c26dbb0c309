import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type DecodedMetrics, decodeMetrics } from "./arrow.js";
import { RunError } from "./errors.js";
import type { RunStatus } from "./hub.js";

/** `run.json`: what changes during a run, beside the append-only `metrics.arrow`. */
export interface RunState {
  id: string;
  name: string;
  status: RunStatus;
  message?: string;
  /** Milliseconds since the epoch. */
  startedAt: number;
  updatedAt: number;
  /** The process that writes it. */
  pid: number;
  /** When that process started, as the system counts it: a process id alone may have been given to another since. */
  processStart?: string;
  host: string;
}

export interface RunFile extends DecodedMetrics {
  path: string;
  /** From `run.json`; undefined if there is none. */
  state?: RunState;
}

/** Reads a run's folder, or one metrics file. Rows after a damaged or half-written place are left out; see `damage`. */
export function readRun(path: string): RunFile {
  const file = path.endsWith(".arrow") ? path : join(path, "metrics.arrow");
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw new RunError(
      `The run ${file} cannot be read: ${(error as Error).message}`,
      "Give a run's folder (`runs/<name>`) or its metrics.arrow.",
      { cause: error },
    );
  }
  try {
    const decoded = decodeMetrics(bytes);
    const state = path.endsWith(".arrow") ? undefined : readRunState(path);
    return { path: file, ...decoded, ...(state ? { state } : {}) };
  } catch (error) {
    throw new RunError(`${file} is not a metrics file: ${(error as Error).message}`, undefined, {
      cause: error,
    });
  }
}

/** The state of the run in a folder; undefined if there is none or it is damaged. */
export function readRunState(folder: string): RunState | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, "run.json"), "utf8")) as RunState;
  } catch {
    return undefined;
  }
}

/** The names of the runs under a folder, in order of their last change. */
export function listRuns(root = "runs"): string[] {
  if (!existsSync(root)) return [];
  return readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && existsSync(join(root, entry.name, "metrics.arrow")))
    .map((entry) => ({ name: entry.name, at: readRunState(join(root, entry.name))?.updatedAt ?? 0 }))
    .sort((a, b) => a.at - b.at)
    .map(({ name }) => name);
}
