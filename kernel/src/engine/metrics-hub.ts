import { METRICS_HUB, type MetricsEvent, type MetricsHub, type RunRecord } from "../metrics/events.js";

/** The hub of this process: the one that is there already, or a new one. */
export function metricsHub(): MetricsHub {
  const place = globalThis as { [METRICS_HUB]?: MetricsHub };
  place[METRICS_HUB] ??= createHub();
  return place[METRICS_HUB];
}

function createHub(): MetricsHub {
  const runs = new Map<string, RunRecord>();
  const listeners = new Set<(event: MetricsEvent) => void>();
  return {
    version: 1,
    runs,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    publish(event) {
      apply(runs, event);
      for (const listener of listeners) {
        try {
          listener(event);
        } catch {
          // A listener's failure must not stop the training that publishes.
        }
      }
    },
  };
}

function apply(runs: Map<string, RunRecord>, event: MetricsEvent): void {
  if (event.type === "start") {
    const { type: _, ...record } = event;
    runs.set(event.id, { ...record, status: "running", rows: runs.get(event.id)?.rows ?? [] });
    return;
  }
  const run = runs.get(event.id);
  if (!run) return;
  if (event.type === "rows") for (const row of event.rows) run.rows.push(row);
  else {
    run.status = event.status;
    if (event.message === undefined) delete run.message;
    else run.message = event.message;
  }
}
