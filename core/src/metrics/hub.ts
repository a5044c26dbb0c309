import type { JsonValue } from "../files/json.js";

export type RunStatus = "running" | "interrupted" | "finished" | "failed";

/** One step's numbers by column; `step` is always there. NaN and infinities are kept; an absent column is null. */
export type MetricsRow = Record<string, number>;

export type MetricsEvent =
  | {
      type: "start";
      id: string;
      name: string;
      /** Milliseconds since the epoch. */
      startedAt: number;
      totalSteps?: number;
      config?: JsonValue;
      /** The run's Arrow file. */
      path?: string;
    }
  | { type: "rows"; id: string; rows: MetricsRow[] }
  | { type: "status"; id: string; status: RunStatus; message?: string };

export interface RunRecord {
  id: string;
  name: string;
  startedAt: number;
  totalSteps?: number;
  config?: JsonValue;
  path?: string;
  status: RunStatus;
  message?: string;
  rows: MetricsRow[];
}

/**
 * Where runs and their watchers meet in a process. It lives on `globalThis` under a registered symbol, so that packages
 * that do not import each other (framework and Jupyter kernel) and several copies of this one share it.
 */
export interface MetricsHub {
  readonly version: 1;
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
    version: 1,
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
    runs.set(event.id, { ...run, status: "running", rows: runs.get(event.id)?.rows ?? [] });
    return;
  }
  const run = runs.get(event.id);
  if (run === undefined) return;
  if (event.type === "rows") {
    for (const row of event.rows) run.rows.push(row);
  } else {
    run.status = event.status;
    run.message = event.message;
  }
}
