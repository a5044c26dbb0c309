import {
  METRICS_HUB,
  type MetricsEvent,
  type MetricsHub,
  type RowsSlice,
  type RunRecord,
} from "../metrics/events.js";

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
    version: 2,
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
    const { rowCount = 0, mediaCount = 0, last = {} } = runs.get(event.id) ?? {};
    runs.set(event.id, { ...record, status: "running", rowCount, mediaCount, last });
    return;
  }
  const run = runs.get(event.id);
  if (!run) return;
  switch (event.type) {
    case "rows":
      for (const row of event.rows) Object.assign(run.last, row);
      run.rowCount += event.rows.length;
      return;
    case "columns":
      Object.assign(run.last, lastOf(event.rows));
      run.rowCount += event.rows.count;
      return;
    case "media":
      run.mediaCount += event.media.length;
      return;
    case "status":
      run.status = event.status;
      if (event.message === undefined) delete run.message;
      else run.message = event.message;
  }
}

/** The newest value of each column. */
function lastOf({ count, columns }: RowsSlice): Record<string, number> {
  const last: Record<string, number> = {};
  for (const [name, { values, present }] of Object.entries(columns)) {
    let at = count - 1;
    while (at >= 0 && present && !((present[at >> 3]! >> (at & 7)) & 1)) at -= 1;
    if (at >= 0) last[name] = values[at]!;
  }
  return last;
}
