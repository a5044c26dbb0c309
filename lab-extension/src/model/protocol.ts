/** The messages of the `aronnax.metrics` and `aronnax.devices` comms (docs/contracts.md §2). */

export const PROTOCOL_VERSION = 1;

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
  /** The folder or file of the run, as the kernel sees it. */
  readonly path?: string;
  /** Of a host, whose telemetry comes as a run's metrics do: its devices. */
  readonly devices?: readonly Device[];
}

export interface Device {
  readonly id: number;
  /** As its driver names it. */
  readonly kind: string;
}

/** One run's part of a message. */
export interface RunUpdate extends RunInfo {
  /** Index of the first row of the buffer in the run. */
  readonly firstRow: number;
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
    if (data.version !== PROTOCOL_VERSION) {
      throw new Error(
        `The kernel sent metrics of version ${String(data.version)}, this extension reads version ${PROTOCOL_VERSION}: ` +
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
