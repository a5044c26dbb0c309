export { RunError } from "./errors.js";
export {
  createMetricsHub,
  type MetricsEvent,
  type MetricsHub,
  type MetricsRow,
  metricsHub,
  type RunRecord,
  type RunStatus,
} from "./hub.js";
export { csvLogger } from "./loggers/csv.js";
export type { LoggedRun, MetricsLogger } from "./loggers/logger.js";
export { type MlflowOptions, mlflowLogger } from "./loggers/mlflow.js";
export { type TensorBoardOptions, tensorBoardLogger } from "./loggers/tensorboard.js";
export { type WandbOptions, wandbLogger } from "./loggers/wandb.js";
export { type Extent, type Mean, type Measure, max, mean, ratio, sum } from "./measures.js";
export { listRuns, type RunFile, type RunState, readRun, readRunState } from "./run-reader.js";
export { type RunOptions, RunWriter, standardColumns } from "./run-writer.js";
