import type { JSONValue } from "@lumino/coreutils";
import { type RunInfo, type RunStatus, readStatus } from "../protocol.js";
import type { ColumnSummary, RunEntry } from "../source.js";

/** What a run's `run.json` tells (docs/contracts.md §2), of either version; what is missing or of another kind is left out. */
export interface RunState {
  readonly id: string;
  readonly name: string;
  readonly status?: RunStatus;
  readonly message?: string;
  readonly startedAt: number;
  readonly updatedAt?: number;
  readonly totalSteps?: number;
  readonly config?: JSONValue;
  readonly parent?: RunInfo["parent"];
  /** The files with the rows, in their order. */
  readonly segments: readonly string[];
  readonly summary: {
    readonly step: number;
    readonly seconds: number;
    readonly rows: number;
    readonly columns: ReadonlyMap<string, ColumnSummary>;
  };
  /** As the kernel told, which looked for the process. */
  readonly stale?: boolean;
}

export const FIRST_SEGMENT = "metrics.arrow";
export const SEGMENT_NAME = /^metrics(?:\.[1-9]\d{0,8})?\.arrow$/;

type Fields = Record<string, unknown>;

function isRecord(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** JSON has no NaN and no infinities: they are words there. */
function numberOf(value: unknown): number {
  if (typeof value === "number") {
    return value;
  }
  return value === "Infinity"
    ? Number.POSITIVE_INFINITY
    : value === "-Infinity"
      ? Number.NEGATIVE_INFINITY
      : Number.NaN;
}

function optionalNumber(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

function place(value: unknown): { value: number; step: number } | undefined {
  return isRecord(value) && typeof value.value === "number"
    ? { value: value.value, step: numberOf(value.step) }
    : undefined;
}

/** Undefined for what is no description of a run. */
export function readRunState(value: unknown): RunState | undefined {
  if (!isRecord(value) || typeof value.id !== "string") {
    return undefined;
  }
  const summary = isRecord(value.summary) ? value.summary : {};
  const columns = isRecord(summary.columns) ? summary.columns : {};
  const { parent } = value;
  return {
    id: value.id,
    name: typeof value.name === "string" ? value.name : value.id,
    status: readStatus(value.status),
    message: typeof value.message === "string" ? value.message : undefined,
    startedAt: optionalNumber(value.startedAt) ?? 0,
    updatedAt: optionalNumber(value.updatedAt),
    totalSteps: optionalNumber(value.totalSteps),
    config: value.config as JSONValue | undefined,
    parent:
      isRecord(parent) && typeof parent.step === "number"
        ? { id: String(parent.id), name: String(parent.name), step: parent.step }
        : undefined,
    segments: (Array.isArray(value.segments) ? value.segments : []).filter(
      (name): name is string => typeof name === "string" && SEGMENT_NAME.test(name),
    ),
    summary: {
      step: numberOf(summary.step),
      seconds: numberOf(summary.seconds),
      rows: optionalNumber(summary.rows) ?? 0,
      columns: new Map(
        Object.entries(columns).flatMap(([name, column]) =>
          isRecord(column)
            ? [
                [
                  name,
                  { last: numberOf(column.last), min: place(column.min), max: place(column.max) },
                ] as const,
              ]
            : [],
        ),
      ),
    },
    ...(typeof value.stale === "boolean" && { stale: value.stale }),
  };
}

/** @throws SyntaxError where it is not JSON. */
export function parseRunState(text: string): RunState | undefined {
  return readRunState(JSON.parse(text));
}

export function entryOfState(state: RunState, id = state.id): RunEntry {
  const { summary } = state;
  return {
    id,
    name: state.name,
    startedAt: state.startedAt,
    updatedAt: state.updatedAt,
    status: state.status,
    message: state.message,
    isStale: state.stale ?? false,
    step: summary.step,
    totalSteps: state.totalSteps,
    seconds: summary.seconds,
    config: state.config,
    columns: summary.columns,
  };
}
