import { randomUUID } from "node:crypto";
import {
  appendFileSync,
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  renameSync,
  statSync,
} from "node:fs";
import { hostname } from "node:os";
import { join, parse, resolve } from "node:path";
import { removeLeftovers, replaceFileSync, writeAllSync } from "../files/atomic.js";
import { type JsonValue, strictJson } from "../files/json.js";
import { isAlive, processStart } from "../files/process.js";
import { MetricsEncoder, type RunInfo } from "./arrow.js";
import { RunError } from "./errors.js";
import { type MetricsHub, type MetricsRow, metricsHub, type RunRecord, type RunStatus } from "./hub.js";
import type { MetricsLogger } from "./loggers/logger.js";
import { type RunState, readRun, readRunState } from "./run-reader.js";

/** The columns that every run may fill; see docs/contracts.md. */
export const standardColumns: readonly string[] = [
  "step",
  "time",
  "tokens",
  "loss",
  "learning_rate",
  "gradient_norm",
  "tokens_per_second",
  "step_seconds",
  "seconds_left",
  "valid_loss",
  "valid_loss_average",
  "mfu",
  "memory_parameters",
  "memory_optimizer",
  "memory_data",
  "memory_cache",
  "memory_activations",
  "memory_total",
];

export interface RunOptions {
  /** Names the folder. */
  name: string;
  /** Identifies the run to whoever watches it; default a new UUID. */
  id?: string;
  /** Default `runs`. */
  root?: string;
  totalSteps?: number;
  config?: JsonValue;
  /** Columns beside the standard ones. A column that first appears later costs a rewrite of the file. */
  columns?: readonly string[];
  /**
   * Continues the file of an earlier run of this name after this step: later rows are dropped, they will be computed
   * again. Without it, an earlier file is kept under another name.
   */
  resumeAfterStep?: number;
  /** Write the same rows in other formats. */
  loggers?: readonly MetricsLogger[];
  hub?: MetricsHub;
}

const metricsName = "metrics.arrow";
const samplesName = "samples.jsonl";
const flushMilliseconds = 1000;
const batchRows = 1 << 16;
const live = new Map<string, RunWriter>();
let exitHook = false;

/**
 * Writes a run to the metrics hub at once and to `<root>/<name>/metrics.arrow` every second. The file is an Arrow IPC
 * stream to which whole record batches are appended, so it can be read at any moment, also after the process was killed.
 * Its columns are fixed when it is begun; a new column, and now and then the many small batches of a long run, make it
 * be rewritten (to a temporary name, then renamed). Status changes go to `run.json` beside it.
 *
 * A failing disk does not stop the training: the rows stay in memory, a warning is printed, and each flush tries again.
 */
export class RunWriter {
  readonly id: string;
  readonly name: string;
  /** The run's folder. */
  readonly folder: string;
  /** The metrics file. */
  readonly path: string;
  private readonly hub: MetricsHub;
  private readonly info: RunInfo;
  private readonly record: RunRecord;
  /** Seconds that earlier parts of a resumed run took. */
  private readonly timeBefore: number;
  private loggers: readonly MetricsLogger[];
  /** Rows of the record that the loggers have. */
  private loggedRows: number;
  private columns: string[];
  private encoder: MetricsEncoder;
  /** Rows of the record that are in the file, and the length of that file. */
  private writtenRows = 0;
  private writtenBytes = -1;
  private appendedBatches = 0;
  private lastFlush = 0;
  private timer: NodeJS.Timeout | undefined;
  private warned = false;
  private closed = false;

  constructor(options: RunOptions) {
    const { name, root = "runs" } = options;
    if (!/^[^./\\\0][^/\\\0]{0,127}$/.test(name)) {
      throw new RunError(
        `A run cannot be named ${JSON.stringify(name)}.`,
        "Use 1 to 128 characters without slashes, not beginning with a dot: the name becomes a folder.",
      );
    }
    // Checked here, where it can be mended, and not at the first write.
    strictJson(options.config ?? null, "config");
    this.id = options.id ?? randomUUID();
    this.hub = options.hub ?? metricsHub();
    if ((this.hub.runs.get(this.id)?.rows.length ?? 0) > 0) {
      throw new RunError(
        `The run id ${this.id} is taken by a run with rows.`,
        "Give each run an id of its own.",
      );
    }
    this.name = name;
    this.folder = resolve(root, name);
    this.path = join(this.folder, metricsName);

    refuseSecondWriter(this.folder, name);
    live.get(this.folder)?.close("interrupted");
    live.set(this.folder, this);
    let earlier: MetricsRow[] = [];
    let earlierColumns: string[] = [];
    if (existsSync(this.folder)) removeLeftovers(this.folder);
    if (existsSync(this.path)) {
      if (options.resumeAfterStep === undefined) {
        keepEarlierFiles(this.folder);
      } else {
        const file = readRun(this.path);
        earlier = file.rows.filter((row) => row.step! <= options.resumeAfterStep!);
        earlierColumns = file.columns;
      }
    }
    this.timeBefore = earlier[earlier.length - 1]?.time ?? 0;
    this.info = {
      id: this.id,
      name,
      startedAt: Date.now(),
      totalSteps: options.totalSteps,
      config: options.config,
    };
    this.columns = [...new Set([...standardColumns, ...earlierColumns, ...(options.columns ?? [])])];
    this.encoder = new MetricsEncoder(this.columns, this.info);
    this.hub.publish({ type: "start", ...this.info, path: this.path });
    this.record = this.hub.runs.get(this.id)!;
    if (earlier.length > 0) this.hub.publish({ type: "rows", id: this.id, rows: earlier });
    if (!exitHook) {
      exitHook = true;
      process.on("exit", () => {
        for (const writer of live.values()) writer.flush();
      });
    }
    this.writeState();
    this.loggers = options.loggers ?? [];
    this.loggedRows = earlier.length;
    this.tellLoggers((logger) => logger.start({ ...this.info, folder: this.folder, earlier }));
    this.flush();
  }

  /** The rows so far. */
  get rows(): readonly MetricsRow[] {
    return this.record.rows;
  }

  /** Adds a row; `time` (seconds since the start) is filled in if it is missing. Columns that are undefined are left out. */
  log(columns: Readonly<Record<string, number | undefined>>): void {
    if (this.closed) {
      throw new RunError(
        `The run "${this.name}" is closed: it has ended, or another of its name has begun.`,
        "Start a new one.",
      );
    }
    const row: MetricsRow = {};
    for (const [column, value] of Object.entries(columns)) {
      if (value === undefined) continue;
      if (typeof value !== "number") {
        throw new RunError(
          `The column ${column} of a row of metrics is no number: it is a ${typeof value}.`,
          "Metrics are numbers; `await tensor.item()` gives that of a Tensor.",
        );
      }
      row[column] = value;
    }
    if (!Number.isInteger(row.step)) {
      throw new RunError(`A row of metrics needs an integer \`step\`; it is ${row.step}.`);
    }
    const timed =
      row.time === undefined
        ? { ...row, time: this.timeBefore + (Date.now() - this.info.startedAt) / 1000 }
        : row;
    for (const column of Object.keys(timed)) {
      if (!this.columns.includes(column)) {
        this.columns = [...this.columns, column];
        this.encoder = new MetricsEncoder(this.columns, this.info);
        this.writtenBytes = -1;
      }
    }
    this.hub.publish({ type: "rows", id: this.id, rows: [timed] });
    if (Date.now() - this.lastFlush >= flushMilliseconds) {
      this.flush();
    } else if (this.timer === undefined) {
      this.timer = setTimeout(() => this.flush(), flushMilliseconds).unref();
    }
  }

  /** Appends a text to `samples.jsonl` in the run's folder, under the rules of the metrics: a failing disk does not stop the training. */
  keepSample(sample: { readonly step: number; readonly name: string; readonly text: string }): void {
    try {
      appendFileSync(join(this.folder, samplesName), `${JSON.stringify(sample)}\n`);
    } catch (error) {
      console.warn(`A sample of run "${this.name}" cannot be kept: ${(error as Error).message}`);
    }
  }

  /** Publishes and records the run's status. An interrupted, failed or finished run may go on: set `"running"` again. */
  status(status: RunStatus, message?: string): void {
    this.hub.publish({ type: "status", id: this.id, status, message });
    if (this.closed) return;
    if (status === "finished") this.writtenBytes = -1;
    this.flush();
    this.writeState();
    this.tellLoggers((logger) => logger.status(status, message));
  }

  /** Writes what is not in the file yet. */
  flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.lastFlush = Date.now();
    const rows = this.record.rows.slice(this.loggedRows);
    this.loggedRows = this.record.rows.length;
    if (rows.length > 0) this.tellLoggers((logger) => logger.rows(rows));
    try {
      this.write();
      this.warned = false;
    } catch (error) {
      if (!this.warned) {
        this.warned = true;
        console.warn(
          `The metrics of run "${this.name}" cannot be written to ${this.path}: ${(error as Error).message}. ` +
            "Training goes on, the rows are kept in memory, and writing is tried again every second.",
        );
      }
    }
  }

  /** Ends the writing; a run that is still running gets `status`. */
  close(status: RunStatus = "finished"): void {
    if (this.closed) return;
    if (this.record.status === "running") this.status(status);
    else this.flush();
    this.closed = true;
    clearTimeout(this.timer);
    if (live.get(this.folder) === this) live.delete(this.folder);
  }

  /** A logger that throws is left out from then on. */
  private tellLoggers(tell: (logger: MetricsLogger) => void): void {
    this.loggers = this.loggers.filter((logger) => {
      try {
        tell(logger);
        return true;
      } catch (error) {
        console.warn(`The ${logger.name} logger of run "${this.name}" ends: ${(error as Error).message}`);
        return false;
      }
    });
  }

  private write(): void {
    const rows = this.record.rows;
    const whole =
      this.writtenBytes >= 0 && statSync(this.path, { throwIfNoEntry: false })?.size === this.writtenBytes;
    if (!whole || this.appendedBatches >= Math.max(1024, rows.length / 64)) {
      const parts = [this.encoder.head];
      for (let i = 0; i < rows.length; i += batchRows)
        parts.push(this.encoder.batch(rows.slice(i, i + batchRows)));
      mkdirSync(this.folder, { recursive: true });
      replaceFileSync(this.path, ...parts);
      this.writtenBytes = parts.reduce((sum, part) => sum + part.length, 0);
      this.writtenRows = rows.length;
      this.appendedBatches = 0;
      return;
    }
    if (this.writtenRows === rows.length) return;
    const bytes = this.encoder.batch(rows.slice(this.writtenRows));
    const file = openSync(this.path, "a");
    try {
      writeAllSync(file, bytes);
    } catch (error) {
      // A part of a batch in the middle would hide all that follows.
      ftruncateSync(file, this.writtenBytes);
      throw error;
    } finally {
      closeSync(file);
    }
    this.writtenBytes += bytes.length;
    this.writtenRows = rows.length;
    this.appendedBatches++;
  }

  private writeState(): void {
    const { status, message } = this.record;
    const state: RunState = {
      id: this.id,
      name: this.name,
      status,
      message,
      startedAt: this.info.startedAt,
      updatedAt: Date.now(),
      pid: process.pid,
      processStart: processStart(process.pid),
      host: hostname(),
    };
    try {
      mkdirSync(this.folder, { recursive: true });
      replaceFileSync(join(this.folder, "run.json"), `${JSON.stringify(state, null, 2)}\n`);
      const file = openSync(this.path, "r+");
      fsyncSync(file);
      closeSync(file);
    } catch {
      // The metrics file's own failure is reported by `flush`.
    }
  }
}

function refuseSecondWriter(folder: string, name: string): void {
  const state = readRunState(folder);
  if (state?.status !== "running" || state.host !== hostname() || state.pid === process.pid) return;
  if (!isAlive(state.pid) || state.processStart !== processStart(state.pid)) return;
  throw new RunError(
    `The run "${name}" is being written by process ${state.pid}.`,
    "Choose another name, or stop that run first.",
  );
}

/** Gives metrics and samples of an earlier run names of their own. */
function keepEarlierFiles(folder: string): void {
  const at = readRunState(folder)?.startedAt ?? statSync(join(folder, metricsName)).mtimeMs;
  const stamp = new Date(at).toISOString().replace(/[:.]/g, "-");
  for (const name of [metricsName, samplesName]) {
    const { name: base, ext } = parse(name);
    if (!existsSync(join(folder, name))) continue;
    let kept = join(folder, `${base}-${stamp}${ext}`);
    for (let i = 2; existsSync(kept); i++) kept = join(folder, `${base}-${stamp}-${i}${ext}`);
    renameSync(join(folder, name), kept);
  }
}
