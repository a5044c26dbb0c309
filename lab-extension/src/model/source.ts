import type { JSONValue } from "@lumino/coreutils";
import type { ISignal } from "@lumino/signaling";
import type { RunStatus } from "./protocol.js";
import type { Run } from "./run.js";

/**
 * What a source is doing: `idle` has no kernel, `connecting` awaits the first snapshot, `live` receives, `unsupported`
 * has a kernel that publishes no metrics, `lost` had a kernel that died or a connection that broke, `stored` reads
 * files, `failed` could not read them.
 */
export type SourceState = "idle" | "connecting" | "live" | "unsupported" | "lost" | "stored" | "failed";

/** Runs that are here with their rows. */
export interface RunSet {
  /** Something changed: a run, its rows, its status, or all of it. */
  readonly changed: ISignal<RunSet, void>;
  /** Newest first. */
  readonly runs: readonly Run[];
  get(id: string): Run | undefined;
}

/** What became of a column, without its rows. */
export interface ColumnSummary {
  readonly last: number;
  readonly min?: { readonly value: number; readonly step: number };
  readonly max?: { readonly value: number; readonly step: number };
}

/** A run that can be opened, by what is known without its rows. */
export interface RunEntry {
  readonly id: string;
  readonly name: string;
  readonly startedAt: number;
  readonly updatedAt?: number;
  readonly status?: RunStatus;
  readonly message?: string;
  /** It says that it is running, and its process is gone. */
  readonly isStale: boolean;
  readonly step: number;
  readonly totalSteps?: number;
  readonly seconds: number;
  readonly config?: JSONValue;
  readonly columns: ReadonlyMap<string, ColumnSummary>;
}

/** Where a view's runs come from: a kernel, a file, or a folder of runs. */
export interface RunSource {
  readonly store: RunSet;
  readonly state: SourceState;
  /** Why the state is `failed`. */
  readonly problem: string | undefined;
  readonly stateChanged: ISignal<RunSource, void>;
  /** Interrupts what runs now, where that can be done from here. */
  readonly interrupt?: () => Promise<void>;
  /** All runs that there are, also those whose rows are not here; absent where they are those of the store. */
  readonly entries?: readonly RunEntry[];
  /** What is being read: 0 to 1 of the rows of the runs on display, and of how many runs the description. */
  readonly progress?: SourceProgress;
  /** Keeps the rows of these runs here, those of others may be forgotten. */
  show?(ids: readonly string[]): void;
  /** What is to be said of a run's files. */
  remarkOn?(id: string): Remark | undefined;
  /** The files of a run, where they are to be had. */
  filesOf?(id: string): RunFileAccess | undefined;
}

/**
 * What is to be said of a run's files: that there are none to read (`unreadable`), that they end in the middle of something (`cut`) or are damaged,
 * as far as they were read, or that they lack what the kernel no longer has (`incomplete`).
 */
export interface Remark {
  readonly kind: "unreadable" | "cut" | "damaged" | "incomplete";
  /** What is wrong, for somebody who looks for the cause. */
  readonly detail: string;
  /** Rows that could be read. */
  readonly rows: number;
}

export interface SourceProgress {
  /** Of rows, 0 to 1; undefined when none are being read. */
  readonly rows?: number;
  /** Descriptions that were read, and how many there are; undefined when none are being read. */
  readonly runs?: { readonly read: number; readonly total: number };
}

/** Files of a run's folder, for the page. */
export interface RunFileAccess {
  /** An address for an `<img>` and its like; it may be revoked with the view. */
  urlOf(file: string): Promise<string>;
}

/** What can be told of a run whose rows are here. */
export function entryOf(run: Run): RunEntry {
  const { info } = run;
  const columns = new Map<string, ColumnSummary>();
  for (const name of run.columns) {
    const series = run.series(name)!;
    const { extremes } = series;
    extremes.find(0, series.length);
    const at = (index: number) =>
      index < 0 ? undefined : { value: series.values[index]!, step: run.stepOf(series.rowOf(index)) };
    columns.set(name, { last: series.last, min: at(extremes.low), max: at(extremes.high) });
  }
  return {
    id: info.id,
    name: info.name,
    startedAt: info.startedAt,
    status: info.status,
    message: info.message,
    isStale: info.isStale ?? false,
    step: run.last("step"),
    totalSteps: info.totalSteps,
    seconds: run.last("time"),
    config: info.config,
    columns,
  };
}
