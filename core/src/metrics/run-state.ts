import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { JsonValue } from "../files/json.js";
import { isAlive, processStart } from "../files/process.js";
import type { MetricsRow, RunParent, RunStatus } from "./hub.js";

/** A number in JSON, which has no NaN and no infinities. */
export type JsonNumber = number | "NaN" | "Infinity" | "-Infinity";

/** What became of a column, without its rows. */
export interface ColumnSummary {
  /** Values that there were. */
  count: number;
  last: JsonNumber;
  /** The least and the greatest finite value, with the step of each: which of them is best, the metric says. */
  min?: { value: number; step: number };
  max?: { value: number; step: number };
  /** Values that were NaN or infinite. */
  notFinite?: number;
}

export interface RunSummary {
  rows: number;
  /** The last step. */
  step: number;
  /** Since the start, over all parts of a resumed run. */
  seconds: number;
  media: number;
  columns: Record<string, ColumnSummary>;
}

/** `run.json`: what changes during a run, beside its append-only files. Version 1 has the fields down to `host`. */
export interface RunState {
  version?: 2;
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
  totalSteps?: number;
  /** As it was resolved: with the defaults. */
  config?: JsonValue;
  /** The run that this one goes on from. */
  parent?: RunParent;
  /** All columns, also those that have no value yet. */
  columns?: string[];
  /** The files with the rows, in their order. */
  segments?: string[];
  summary?: RunSummary;
}

/** The state of the run in a folder; undefined if there is none or it is damaged. */
export function readRunState(folder: string): RunState | undefined {
  try {
    const state = JSON.parse(readFileSync(join(folder, "run.json"), "utf8")) as RunState | null;
    return typeof state === "object" && state !== null && typeof state.id === "string" ? state : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Whether a run that says "running" is being written, as far as this machine can tell: undefined for a run of another
 * machine. False: its process was killed.
 */
export function isWritten(state: RunState): boolean | undefined {
  if (state.status !== "running") return false;
  if (state.host !== hostname()) return undefined;
  return isAlive(state.pid) && state.processStart === processStart(state.pid);
}

/** Keeps a run's summary while its rows come. */
export class Summary {
  readonly #columns = new Map<string, Required<Omit<ColumnSummary, "last">> & { last: number }>();
  #rows = 0;
  #step = 0;
  #seconds = 0;
  media = 0;

  add(row: Readonly<MetricsRow>): void {
    this.#rows++;
    this.#step = row.step ?? this.#step;
    this.#seconds = row.time ?? this.#seconds;
    for (const name in row) {
      if (name !== "step" && name !== "time") this.#note(name, row[name]!);
    }
  }

  /** The newest value of a column. */
  last(name: string): number | undefined {
    return this.#columns.get(name)?.last;
  }

  get step(): number {
    return this.#step;
  }

  get seconds(): number {
    return this.#seconds;
  }

  result(): RunSummary {
    const columns: Record<string, ColumnSummary> = {};
    for (const [name, { count, last, min, max, notFinite }] of this.#columns) {
      const finite = count > notFinite;
      columns[name] = {
        count,
        last: Number.isFinite(last) ? last : (String(last) as JsonNumber),
        ...(finite && { min: { ...min }, max: { ...max } }),
        ...(notFinite > 0 && { notFinite }),
      };
    }
    return { rows: this.#rows, step: this.#step, seconds: this.#seconds, media: this.media, columns };
  }

  #note(name: string, value: number): void {
    let column = this.#columns.get(name);
    if (column === undefined) {
      const [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
      column = {
        count: 0,
        last: value,
        min: { value: min, step: 0 },
        max: { value: max, step: 0 },
        notFinite: 0,
      };
      this.#columns.set(name, column);
    }
    column.count++;
    column.last = value;
    if (!Number.isFinite(value)) {
      column.notFinite++;
      return;
    }
    if (value < column.min.value) column.min = { value, step: this.#step };
    if (value > column.max.value) column.max = { value, step: this.#step };
  }
}
