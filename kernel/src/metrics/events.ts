import type { Json } from "../protocol/wire.js";

/** The events of `globalThis[Symbol.for("aronnax.metrics")]`, as docs/contracts.md §2 has them. */
export type MetricsEvent =
  | {
      type: "start";
      id: string;
      name: string;
      startedAt: number;
      totalSteps?: number;
      config?: unknown;
      path?: string;
    }
  | { type: "rows"; id: string; rows: Record<string, number | null>[] }
  | { type: "status"; id: string; status: RunStatus; message?: string };

export type RunStatus = "running" | "interrupted" | "finished" | "failed";

export interface RunRecord {
  id: string;
  name: string;
  startedAt: number;
  totalSteps?: number;
  config?: unknown;
  path?: string;
  status: RunStatus;
  message?: string;
  rows: Record<string, number | null>[];
}

export interface MetricsHub {
  readonly version: 1;
  readonly runs: Map<string, RunRecord>;
  subscribe(listener: (event: MetricsEvent) => void): () => void;
  publish(event: MetricsEvent): void;
}

export const METRICS_HUB = Symbol.for("aronnax.metrics");
export const METRICS_TARGET = "aronnax.metrics";

export function isMetricsEvent(event: unknown): event is MetricsEvent {
  const { type, id, rows } = (event ?? {}) as Json;
  return (
    typeof id === "string" &&
    (type === "start" || type === "status" || (type === "rows" && Array.isArray(rows)))
  );
}
