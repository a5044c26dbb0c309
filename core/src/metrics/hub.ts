import type { JsonValue } from "../files/json.js";
import { hasBit, type RowsSlice } from "./columns.js";
import type { MediaRecord } from "./media-index.js";

export type RunStatus = "running" | "interrupted" | "finished" | "failed";

/** One step's numbers by column; `step` is always there. NaN and infinities are kept; an absent column is null. */
export type MetricsRow = Record<string, number>;

/** The run that another one goes on from. */
export interface RunParent {
  id: string;
  name: string;
  /** The last step that was taken over. */
  step: number;
}

export type MetricsEvent =
  | {
      type: "start";
      id: string;
      name: string;
      /** Milliseconds since the epoch. */
      startedAt: number;
      totalSteps?: number;
      config?: JsonValue;
      parent?: RunParent;
      /** The first of the run's Arrow files; `folder` is where all of them lie. */
      path?: string;
      folder?: string;
    }
  | { type: "rows"; id: string; rows: MetricsRow[] }
  /** Many rows at once, such as those of the run that this one goes on from. */
  | { type: "columns"; id: string; rows: RowsSlice }
  | { type: "media"; id: string; media: MediaRecord[] }
  | { type: "status"; id: string; status: RunStatus; message?: string };

/** What is known of a run. Its rows are with whoever writes or watches it: they are many. */
export interface RunRecord {
  id: string;
  name: string;
  startedAt: number;
  totalSteps?: number;
  config?: JsonValue;
  parent?: RunParent;
  path?: string;
  folder?: string;
  status: RunStatus;
  message?: string;
  rowCount: number;
  mediaCount: number;
  /** The newest value of each column. */
  last: MetricsRow;
}

/**
 * Where runs and their watchers meet in a process. It lives on `globalThis` under a registered symbol, so that packages
 * that do not import each other (framework and Jupyter kernel) and several copies of this one share it.
 */
export interface MetricsHub {
  readonly version: 2;
  readonly runs: Map<string, RunRecord>;
  /** @returns ends the subscription. */
  subscribe(listener: (event: MetricsEvent) => void): () => void;
  /** Updates `runs`, then calls the listeners; what a listener throws is swallowed: watching must not stop a run. */
  publish(event: MetricsEvent): void;
}

const key = Symbol.for("aronnax.metrics");

/** The hub of this process, made on first use. */
export function metricsHub(): MetricsHub {
  const holder = globalThis as { [key]?: MetricsHub };
  holder[key] ??= createMetricsHub();
  return holder[key];
}

export function createMetricsHub(): MetricsHub {
  const runs = new Map<string, RunRecord>();
  const listeners = new Set<(event: MetricsEvent) => void>();
  return {
    version: 2,
    runs,
    subscribe(listener) {
      // A wrapper, so that a function subscribed twice ends twice.
      const own = (event: MetricsEvent) => listener(event);
      listeners.add(own);
      return () => void listeners.delete(own);
    },
    publish(event) {
      update(runs, event);
      for (const listener of [...listeners]) {
        try {
          listener(event);
        } catch {
          // See the interface.
        }
      }
    },
  };
}

function update(runs: Map<string, RunRecord>, event: MetricsEvent): void {
  if (event.type === "start") {
    const { type: _, ...run } = event;
    // A run that starts again (fit() after an interrupt) keeps its rows.
    const { rowCount = 0, mediaCount = 0, last = {} } = runs.get(event.id) ?? {};
    runs.set(event.id, { ...run, status: "running", rowCount, mediaCount, last });
    return;
  }
  const run = runs.get(event.id);
  if (run === undefined) return;
  switch (event.type) {
    case "rows":
      for (const row of event.rows) Object.assign(run.last, row);
      run.rowCount += event.rows.length;
      return;
    case "columns":
      for (const [name, value] of Object.entries(lastOf(event.rows))) run.last[name] = value;
      run.rowCount += event.rows.count;
      return;
    case "media":
      run.mediaCount += event.media.length;
      return;
    case "status":
      run.status = event.status;
      run.message = event.message;
  }
}

function lastOf({ count, columns }: RowsSlice): MetricsRow {
  const last: MetricsRow = {};
  for (const [name, { values, present }] of Object.entries(columns)) {
    let at = count - 1;
    while (at >= 0 && present !== undefined && !hasBit(present, at)) at--;
    if (at >= 0) last[name] = values[at]!;
  }
  return last;
}
