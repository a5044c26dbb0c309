import type { JSONValue } from "@lumino/coreutils";

/** The messages of the `aronnax.metrics` and `aronnax.devices` comms (docs/contracts.md §2). */

export const PROTOCOL_VERSION = 2;
/** An older kernel's messages have fewer fields, and the devices' messages are of version 1. */
const OLDEST_VERSION = 1;

export type RunStatus = "running" | "interrupted" | "finished" | "failed";

/** What is known of a run besides its rows. */
export interface RunInfo {
  readonly id: string;
  readonly name: string;
  /** Milliseconds since the epoch, by the kernel's clock. */
  readonly startedAt: number;
  readonly totalSteps?: number;
  /** Absent where it is not known, as in a metrics file on its own. */
  readonly status?: RunStatus;
  /** Why it failed or was interrupted. */
  readonly message?: string;
  /** The first metrics file of the run, as the kernel sees it. */
  readonly path?: string;
  /** Where all files of the run lie, as the kernel sees it. */
  readonly folder?: string;
  /** As it was resolved, with the defaults. */
  readonly config?: JSONValue;
  /** The run that this one goes on from. */
  readonly parent?: { readonly id: string; readonly name: string; readonly step: number };
  /** Steps of which there is a checkpoint. */
  readonly checkpoints?: readonly number[];
  /** It says that it is running, and its process is gone. */
  readonly isStale?: boolean;
  /** Of a host, whose telemetry comes as a run's metrics do: its devices. */
  readonly devices?: readonly Device[];
}

export interface Device {
  readonly id: number;
  /** As its driver names it. */
  readonly kind: string;
}

/** A line of a run's `media/index.jsonl`; what else it says depends on its kind. */
export interface MediaRecord {
  readonly step: number;
  readonly name: string;
  readonly kind: string;
  readonly mime: string;
  /** Relative to the run's folder; small things lie in `data` instead. */
  readonly file?: string;
  readonly data?: JSONValue;
  readonly [key: string]: unknown;
}

/** One run's part of a message. */
export interface RunUpdate extends RunInfo {
  /** Index of the first row of the buffer in the run. */
  readonly firstRow: number;
  /** Images, sounds and the like that came, as the lines of the run's `media/index.jsonl` have them. */
  readonly media?: readonly MediaRecord[];
  /** Index of the first of them in the run. */
  readonly firstMedia?: number;
  /** Index of the run's Arrow IPC stream among the message's buffers, or null when it brings no rows. */
  readonly buffer: number | null;
}

/** A message from the kernel: everything so far, or what came since the last one. */
export interface MetricsMessage {
  readonly type: "snapshot" | "batch";
  readonly seq: number;
  readonly runs: readonly RunUpdate[];
}

const STATUSES: readonly RunStatus[] = ["running", "interrupted", "finished", "failed"];

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function optionalNumber(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

function optionalString(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** A status, undefined for anything else. */
export function readStatus(value: unknown): RunStatus | undefined {
  return STATUSES.find((status) => status === value);
}

function isMedia(value: unknown): value is MediaRecord {
  return (
    isRecord(value) &&
    typeof value.step === "number" &&
    [value.name, value.kind, value.mime].every((field) => typeof field === "string")
  );
}

function parseRun(value: unknown): RunUpdate {
  if (!isRecord(value) || typeof value.id !== "string") {
    throw new Error("The kernel sent metrics of a run without an id.");
  }
  return {
    id: value.id,
    name: optionalString(value.name) ?? value.id,
    startedAt: optionalNumber(value.startedAt) ?? 0,
    totalSteps: optionalNumber(value.totalSteps),
    status: readStatus(value.status),
    message: optionalString(value.message),
    path: optionalString(value.path),
    folder: optionalString(value.folder),
    config: value.config === null ? undefined : (value.config as JSONValue | undefined),
    parent: isRecord(value.parent) ? (value.parent as unknown as RunInfo["parent"]) : undefined,
    media: (Array.isArray(value.media) ? value.media : []).filter(isMedia),
    firstMedia: optionalNumber(value.firstMedia) ?? 0,
    firstRow: optionalNumber(value.firstRow) ?? 0,
    buffer: optionalNumber(value.buffer) ?? null,
  };
}

function parseHost(value: unknown): RunUpdate {
  const update = parseRun(value);
  const { devices } = value as Record<string, unknown>;
  return {
    ...update,
    devices: (Array.isArray(devices) ? devices : []).filter(isRecord).map((device) => ({
      id: optionalNumber(device.id) ?? 0,
      kind: optionalString(device.kind) ?? "",
    })),
  };
}

/** A comm that sends rows of numbers: its target, and how its messages read. */
export interface RowsChannel {
  readonly target: string;
  /**
   * Reads the data of a `comm_msg`.
   *
   * @throws Error when it is not a message of a version that this extension reads.
   */
  readonly parse: (data: unknown) => MetricsMessage;
}

function parser(field: string, parsePart: (value: unknown) => RunUpdate): RowsChannel["parse"] {
  return (data) => {
    if (!isRecord(data)) {
      throw new Error("The kernel sent metrics that are not an object.");
    }
    const version = optionalNumber(data.version);
    if (version === undefined || version < OLDEST_VERSION || version > PROTOCOL_VERSION) {
      throw new Error(
        `The kernel sent metrics of version ${String(data.version)}, this extension reads versions ${OLDEST_VERSION} to ${PROTOCOL_VERSION}: ` +
          "install the kernel and the extension from the same release.",
      );
    }
    if (data.type !== "snapshot" && data.type !== "batch") {
      throw new Error(`The kernel sent metrics of the unknown type ${JSON.stringify(data.type)}.`);
    }
    const seq = optionalNumber(data.seq);
    const parts = data[field];
    if (seq === undefined || !Array.isArray(parts)) {
      throw new Error(`The kernel sent metrics without a sequence number or ${field}.`);
    }
    return { type: data.type, seq, runs: parts.map(parsePart) };
  };
}

/** The training runs of a kernel. */
export const METRICS: RowsChannel = { target: "aronnax.metrics", parse: parser("runs", parseRun) };

/** The telemetry of the hosts that a kernel's runtime runs on, each as a run whose rows are samples. */
export const DEVICES: RowsChannel = { target: "aronnax.devices", parse: parser("hosts", parseHost) };
