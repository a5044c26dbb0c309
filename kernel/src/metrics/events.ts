import type { Json } from "../protocol/wire.js";

/** What passes through the hubs of docs/contracts.md §2; these are the events of `Symbol.for("aronnax.metrics")`. */
export type MetricsEvent =
  | {
      type: "start";
      id: string;
      name: string;
      startedAt: number;
      totalSteps?: number;
      config?: unknown;
      parent?: unknown;
      path?: string;
      folder?: string;
    }
  | { type: "rows"; id: string; rows: Record<string, number | null>[] }
  | { type: "columns"; id: string; rows: RowsSlice }
  | { type: "media"; id: string; media: Json[] }
  | { type: "status"; id: string; status: RunStatus; message?: string };

/** Many rows, column by column; where there is `present`, bit `i & 7` of its byte `i >> 3` says whether row `i` has a value. */
export interface RowsSlice {
  count: number;
  columns: Record<string, { values: Float64Array; present?: Uint8Array }>;
}

export type RunStatus = "running" | "interrupted" | "finished" | "failed";

/** What is known of a run. Its rows are with whoever writes or watches it. */
export interface RunRecord {
  id: string;
  name: string;
  startedAt: number;
  totalSteps?: number;
  config?: unknown;
  parent?: unknown;
  path?: string;
  folder?: string;
  status: RunStatus;
  message?: string;
  rowCount: number;
  mediaCount: number;
  /** The newest value of each column. */
  last: Record<string, number>;
}

export interface MetricsHub {
  readonly version: 2;
  readonly runs: Map<string, RunRecord>;
  subscribe(listener: (event: MetricsEvent) => void): () => void;
  publish(event: MetricsEvent): void;
}

/** One sample of the runtime's telemetry. Figures that are not to be had are absent. */
export interface DevicesEvent {
  node: number;
  platform: "cpu" | "cuda";
  devices: { id: number; kind: string }[];
  sample: { time: number; host: Figures; devices: ({ id: number } & Figures)[] };
}

type Figures = Record<string, number | undefined>;

/** Starts to sample; the result stops it. */
export type DevicesSource = (publish: (event: DevicesEvent) => void) => () => void;

export interface DevicesHub {
  readonly version: 1;
  subscribe(listener: (event: DevicesEvent) => void): () => void;
  provide(source: DevicesSource): () => void;
}

export const DEVICES_HUB = Symbol.for("aronnax.devices");
export const DEVICES_TARGET = "aronnax.devices";

export const METRICS_HUB = Symbol.for("aronnax.metrics");
export const METRICS_TARGET = "aronnax.metrics";

export function isMetricsEvent(event: unknown): event is MetricsEvent {
  const { type, id, rows, media } = (event ?? {}) as Json;
  if (typeof id !== "string") return false;
  if (type === "rows") return Array.isArray(rows);
  if (type === "media") return Array.isArray(media);
  if (type === "columns") return typeof (rows as Partial<RowsSlice> | null)?.columns === "object";
  return type === "start" || type === "status";
}

export function isDevicesEvent(event: unknown): event is DevicesEvent {
  const { node, devices, sample } = (event ?? {}) as Json;
  const { time, host, devices: figures } = (sample ?? {}) as Json;
  return (
    typeof node === "number" &&
    Array.isArray(devices) &&
    typeof time === "number" &&
    typeof host === "object" &&
    host !== null &&
    Array.isArray(figures)
  );
}
