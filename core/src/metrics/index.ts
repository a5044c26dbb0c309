export type { DecodedMetrics, RunInfo } from "./arrow.js";
export { type ColumnSlice, ColumnTable, type RowsSlice } from "./columns.js";
export { RunError } from "./errors.js";
export {
  createMetricsHub,
  type MetricsEvent,
  type MetricsHub,
  type MetricsRow,
  metricsHub,
  type RunParent,
  type RunRecord,
  type RunStatus,
} from "./hub.js";
export { csvLogger } from "./loggers/csv.js";
export type { LoggedMedia, LoggedRun, MetricsLogger } from "./loggers/logger.js";
export { type MlflowOptions, mlflowLogger } from "./loggers/mlflow.js";
export { type TensorBoardOptions, tensorBoardLogger } from "./loggers/tensorboard.js";
export { type WandbOptions, wandbLogger } from "./loggers/wandb.js";
export { type Extent, type Mean, type Measure, max, mean, ratio, sum } from "./measures.js";
export { type MediaKind, type MediaRecord, readMedia } from "./media-index.js";
export type { RecordBundle } from "./record.js";
export type { At, RunMedia, TextOptions } from "./run-media.js";
export { listRuns, type RunFile, readRun } from "./run-reader.js";
export {
  type ColumnSummary,
  isWritten,
  type JsonNumber,
  type RunState,
  type RunSummary,
  readRunState,
} from "./run-state.js";
export { displayIdOf, type RunOptions, RunWriter, runReference, standardColumns } from "./run-writer.js";
