import { randomUUID } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readdirSync, renameSync, statSync } from "node:fs";
import { hostname } from "node:os";
import { isAbsolute, join, relative, resolve } from "node:path";
import { removeLeftovers, replaceFileSync } from "../files/atomic.js";
import { type JsonValue, strictJson } from "../files/json.js";
import { processStart } from "../files/process.js";
import type { RunInfo } from "./arrow.js";
import { ColumnTable } from "./columns.js";
import { RunError } from "./errors.js";
import {
  type MetricsHub,
  type MetricsRow,
  metricsHub,
  type RunParent,
  type RunRecord,
  type RunStatus,
} from "./hub.js";
import type { MetricsLogger } from "./loggers/logger.js";
import { mediaFolder } from "./media-index.js";
import { type RecordBundle, recordOf } from "./record.js";
import { RunMedia } from "./run-media.js";
import { readRun } from "./run-reader.js";
import { isWritten, type RunState, type RunSummary, readRunState, Summary } from "./run-state.js";
import { firstSegment, hasSegments, SegmentWriter, segmentsIn } from "./segments.js";

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
  /** Columns that will come; one that first comes after the first rows opens a further file. */
  columns?: readonly string[];
  /**
   * Continues the files of an earlier run of this name after this step: from its first row of a later step on its rows
   * are obsolete, they will be computed again. Without it, an earlier run is kept in `earlier/<when it started>/`.
   */
  resumeAfterStep?: number;
  /** The run that this one goes on from; default the one that `resumeAfterStep` continues. */
  parent?: RunParent;
  /** Write the same rows in other formats. */
  loggers?: readonly MetricsLogger[];
  hub?: MetricsHub;
}

const samplesName = "samples.jsonl";
const recordName = "record.json";
/** The record of a run that goes on is made anew so often that it takes at most this part of the time. */
const recordShare = 1 / 200;
const earlierFolder = "earlier";
const flushMilliseconds = 1000;
/** Each batch costs some hundred bytes: after an hour a run is written every 3600th part of the time that it took so far. */
const flushesInARun = 3600;
/** How often `run.json` is brought up to date while rows come. */
const stateMilliseconds = 10_000;
const pieceRows = 1 << 16;
const live = new Map<string, RunWriter>();
let exitHook = false;

/**
 * Writes a run to the metrics hub at once and to `<root>/<name>/` every second, in the layout of docs/contracts.md §2:
 * rows in Arrow IPC streams that are only appended to (`metrics.arrow` and, once for a new column, `metrics.1.arrow`, …),
 * media below `media/`, and `run.json`, which is replaced. All of it can be read at any moment, also after the process
 * was killed.
 *
 * A failing disk does not stop the training: the rows stay in memory, a warning is printed, and each flush tries again.
 */
export class RunWriter {
  readonly id: string;
  readonly name: string;
  /** The run's folder. */
  readonly folder: string;
  /** The first metrics file. */
  readonly path: string;
  /** Keeps images, audio, videos, histograms, tables and texts with the run. */
  readonly media: RunMedia;
  private readonly hub: MetricsHub;
  private readonly info: RunInfo;
  private readonly record: RunRecord;
  private readonly parent: RunParent | undefined;
  /** Seconds that earlier parts of a resumed run took. */
  private readonly timeBefore: number;
  private readonly table: ColumnTable;
  private readonly summary = new Summary();
  private readonly segments: SegmentWriter;
  private readonly columns: Set<string>;
  private loggers: readonly MetricsLogger[];
  /** Rows that the loggers have. */
  private loggedRows: number;
  private lastFlush = 0;
  private lastState = 0;
  /** When a record of the run that goes on is due, by `performance.now()`. */
  private recordDue = performance.now() + flushMilliseconds;
  private timer: NodeJS.Timeout | undefined;
  private warned = false;
  private closed = false;
  /** The rows as objects, as far as they have been asked for. */
  private readonly rowObjects: MetricsRow[] = [];

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
    if ((this.hub.runs.get(this.id)?.rowCount ?? 0) > 0) {
      throw new RunError(
        `The run id ${this.id} is taken by a run with rows.`,
        "Give each run an id of its own.",
      );
    }
    this.name = name;
    this.folder = resolve(root, name);
    this.path = join(this.folder, firstSegment);

    refuseSecondWriter(this.folder, name);
    live.get(this.folder)?.close("interrupted");
    live.set(this.folder, this);
    if (existsSync(this.folder)) removeLeftovers(this.folder);
    let earlier: ReturnType<typeof readRun> | undefined;
    if (hasSegments(this.folder)) {
      if (options.resumeAfterStep === undefined) setAside(this.folder);
      else earlier = readRun(this.folder);
    }
    this.table = earlier?.table ?? new ColumnTable();
    const after = options.resumeAfterStep ?? Number.POSITIVE_INFINITY;
    const obsolete = this.table.column("step").findIndex((step) => step > after);
    if (obsolete >= 0) this.table.truncate(obsolete);
    for (let i = 0; i < this.table.rowCount; i++) this.summary.add(this.table.row(i));
    this.timeBefore = this.summary.seconds;
    this.info = {
      id: this.id,
      name,
      startedAt: Date.now(),
      totalSteps: options.totalSteps,
      config: options.config,
    };
    this.parent = options.parent ?? (earlier && { id: earlier.run.id, name: earlier.run.name, step: after });
    this.columns = new Set(["step", "time", ...this.table.columns, ...(options.columns ?? [])]);
    this.segments = new SegmentWriter(this.folder, this.info, this.table.rowCount);
    this.hub.publish({
      type: "start",
      ...this.info,
      ...(this.parent && { parent: this.parent }),
      path: this.path,
      folder: this.folder,
    });
    this.record = this.hub.runs.get(this.id)!;
    for (let i = 0; i < this.table.rowCount; i += pieceRows)
      this.hub.publish({ type: "columns", id: this.id, rows: this.table.slice(i, i + pieceRows) });
    if (!exitHook) {
      exitHook = true;
      process.on("exit", () => {
        for (const writer of live.values()) writer.flush();
      });
    }
    this.loggers = [];
    this.loggedRows = this.table.rowCount;
    this.flush();
    this.writeState();
    this.loggers = options.loggers ?? [];
    if (this.loggers.length > 0) {
      const rows = this.table.rows();
      this.tellLoggers((logger) => logger.start({ ...this.info, folder: this.folder, earlier: rows }));
    }
    this.media = new RunMedia({
      run: name,
      folder: this.folder,
      ...(earlier && { resumedAfter: after }),
      now: () => ({ step: this.summary.step, time: this.seconds() }),
      keep: (item) => {
        this.summary.media++;
        this.hub.publish({ type: "media", id: this.id, media: [item.record] });
        // The rows of steps before come first: not every program takes a step back.
        this.giveRows();
        this.tellLoggers((logger) => logger.media?.(item));
      },
    });
    if (earlier && earlier.media.length > 0) {
      const media = earlier.media.filter(({ step }) => step <= after);
      this.summary.media = media.length;
      this.hub.publish({ type: "media", id: this.id, media });
    }
  }

  /** The rows so far, as objects that are made when they are first asked for. */
  get rows(): readonly MetricsRow[] {
    for (let i = this.rowObjects.length; i < this.table.rowCount; i++)
      this.rowObjects.push(this.table.row(i));
    return this.rowObjects;
  }

  /** What a saved notebook keeps of the run: last figures, curves and configuration, as they are now. */
  get savedRecord(): RecordBundle {
    return recordOf(this.record, this.table, this.summary.result());
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
    if (row.time === undefined) row.time = this.seconds();
    for (const column in row) this.columns.add(column);
    this.table.append(row);
    this.summary.add(row);
    this.hub.publish({ type: "rows", id: this.id, rows: [row] });
    const interval = Math.max(flushMilliseconds, (Date.now() - this.info.startedAt) / flushesInARun);
    if (Date.now() - this.lastFlush >= interval) {
      this.flush();
    } else if (this.timer === undefined) {
      this.timer = setTimeout(() => this.flush(), interval).unref();
    }
  }

  /**
   * Keeps a text as the run's media and in its `samples.jsonl`, under the rules of the metrics: a failing disk does not
   * stop the training.
   */
  keepSample(sample: { readonly step: number; readonly name: string; readonly text: string }): void {
    try {
      appendFileSync(join(this.folder, samplesName), `${JSON.stringify(sample)}\n`);
    } catch (error) {
      console.warn(`A sample of run "${this.name}" cannot be kept: ${(error as Error).message}`);
      return;
    }
    void this.media.text(sample.name, sample.text, { step: sample.step });
  }

  /** Publishes and records the run's status. An interrupted, failed or finished run may go on: set `"running"` again. */
  status(status: RunStatus, message?: string): void {
    this.hub.publish({ type: "status", id: this.id, status, message });
    if (this.closed) return;
    this.flush();
    this.writeState();
    this.tellLoggers((logger) => logger.status(status, message));
  }

  /** Writes what is not in the file yet. */
  flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.lastFlush = Date.now();
    this.giveRows();
    try {
      const opened = this.segments.write(this.table, [...this.columns]);
      this.warned = false;
      if (this.lastState > 0 && (opened || Date.now() - this.lastState >= stateMilliseconds))
        this.writeState();
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

  /** Gives the loggers the rows that they have not had. */
  private giveRows(): void {
    const { rowCount } = this.table;
    if (this.loggers.length > 0 && rowCount > this.loggedRows) {
      const rows = this.table.rows(this.loggedRows);
      this.tellLoggers((logger) => logger.rows(rows));
    }
    this.loggedRows = rowCount;
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

  /** Seconds since the start of the run, its earlier parts included. */
  private seconds(): number {
    return this.timeBefore + (Date.now() - this.info.startedAt) / 1000;
  }

  /** What it is shown by in a notebook, and brought up to date when it ends (docs/contracts.md §4). */
  get [Symbol.for("Jupyter.displayId")](): string {
    return displayIdOf(this.id);
  }

  [Symbol.for("Jupyter.display")](): Record<string, unknown> {
    return { ...this.savedRecord, ...runReference(this.id, this.name, this.folder) };
  }

  private writeState(): void {
    this.lastState = Date.now();
    const { status, message } = this.record;
    const { id, name, startedAt, totalSteps, config } = this.info;
    const state: RunState = {
      version: 2,
      id,
      name,
      status,
      message,
      startedAt,
      updatedAt: this.lastState,
      pid: process.pid,
      processStart: processStart(process.pid),
      host: hostname(),
      totalSteps,
      config,
      parent: this.parent,
      columns: [...this.columns],
      segments: segmentsIn(this.folder),
      summary: this.summary.result(),
    };
    try {
      mkdirSync(this.folder, { recursive: true });
      replaceFileSync(join(this.folder, "run.json"), `${JSON.stringify(state, null, 2)}\n`);
      this.writeRecord(state.summary!);
      this.segments.sync();
    } catch {
      // The metrics file's own failure is reported by `flush`.
    }
  }

  /** What a front end puts into a notebook where nobody is left to send it: of a run that goes on, that it stopped. */
  private writeRecord(summary: RunSummary): void {
    const begun = performance.now();
    if (this.record.status === "running" && begun < this.recordDue) return;
    const bundle = recordOf(this.record, this.table, summary, true);
    replaceFileSync(join(this.folder, recordName), `${JSON.stringify({ id: this.id, bundle })}\n`);
    this.recordDue = performance.now() + (performance.now() - begun) / recordShare;
  }
}

/** The id by which a run is shown in notebooks. */
export function displayIdOf(run: string): string {
  return `aronnax-run-${run}`;
}

/** What the lab draws a live panel from; `path` relative to the working folder where the run lies below it. */
export function runReference(id: string, name: string, folder: string): Record<string, unknown> {
  const below = relative(process.cwd(), folder);
  const path = join(below.startsWith("..") || isAbsolute(below) ? folder : below, firstSegment);
  return { "application/vnd.aronnax.run+json": { version: 1, id, name, path } };
}

function refuseSecondWriter(folder: string, name: string): void {
  const state = readRunState(folder);
  if (state === undefined || state.pid === process.pid || isWritten(state) !== true) return;
  throw new RunError(
    `The run "${name}" is being written by process ${state.pid}.`,
    "Choose another name, or stop that run first.",
  );
}

/** Moves an earlier run into a folder of its own, where it can be read as any other. */
function setAside(folder: string): void {
  const at = readRunState(folder)?.startedAt ?? statSync(join(folder, segmentsIn(folder)[0]!)).mtimeMs;
  const stamp = new Date(at).toISOString().replace(/[:.]/g, "-");
  let kept = join(folder, earlierFolder, stamp);
  for (let i = 2; existsSync(kept); i++) kept = join(folder, earlierFolder, `${stamp}-${i}`);
  mkdirSync(kept, { recursive: true });
  const own = new Set(["run.json", recordName, samplesName, mediaFolder, ...segmentsIn(folder)]);
  for (const name of readdirSync(folder)) if (own.has(name)) renameSync(join(folder, name), join(kept, name));
}
