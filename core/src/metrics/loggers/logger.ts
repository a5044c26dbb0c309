import type { RunInfo } from "../arrow.js";
import type { MetricsRow, RunStatus } from "../hub.js";
import type { MediaRecord } from "../media-index.js";

/** What a logger is told when a run begins or is resumed. */
export interface LoggedRun extends RunInfo {
  /** The run's folder. */
  folder: string;
  /** Rows of an earlier part of the run that stay valid; rows after them were dropped. */
  earlier: readonly MetricsRow[];
}

/** Something that a run keeps, as a logger gets it. */
export interface LoggedMedia {
  record: MediaRecord;
  /** What is in the record's file. */
  content?: Uint8Array;
}

/**
 * Writes a run's metrics in another program's format. It is given the rows that go to the run's Arrow file, at least
 * once a second while there are new ones. All methods are synchronous; what one throws ends this logger with a warning,
 * never the run.
 */
export interface MetricsLogger {
  /** For the warning. */
  readonly name: string;
  start(run: LoggedRun): void;
  rows(rows: readonly MetricsRow[]): void;
  /** An image, a sound, … that the run keeps; a logger without this leaves them out. */
  media?(item: LoggedMedia): void;
  status(status: RunStatus, message?: string): void;
}
