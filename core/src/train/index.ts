export { Interrupted } from "../host/interrupt.js";
export type {
  CheckpointEvent,
  EndEvent,
  StepEvent,
  TrainerCallback,
  TrainingHandle,
  ValidationEvent,
} from "./callbacks.js";
export {
  type CheckpointOptions,
  configFields,
  type HostMeasure,
  type KeepBest,
  type SpikeOptions,
  type TrainerConfig,
  type ValidationOptions,
} from "./config.js";
export { TrainingDiverged } from "./divergence.js";
export {
  type CoupledLoss,
  coupled,
  type Loss,
  type LossContext,
  type LossResult,
  type LossValue,
} from "./loss.js";
export { TooLargeForMemory } from "./memory.js";
export type { ParallelConfig } from "./parallel.js";
export type { DeviceBatch, OnDevice } from "./placement.js";
export type { Precision, PrecisionOptions } from "./precision.js";
export type {
  Step,
  StepArguments,
  StepResult,
  TrainableModel,
  Update,
  Updated,
  UpdateOptions,
} from "./step.js";
export { type FitResult, type QueuedStep, Trainer } from "./trainer.js";
