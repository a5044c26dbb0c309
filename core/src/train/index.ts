export { Interrupted } from "../host/interrupt.js";
export type {
  CheckpointEvent,
  EndEvent,
  StepEvent,
  TrainerCallback,
  TrainingHandle,
  ValidationEvent,
} from "./callbacks.js";
export { configFields, type SpikeOptions, type TrainerConfig } from "./config.js";
export { TrainingDiverged } from "./divergence.js";
export { TooLargeForMemory } from "./memory.js";
export type { ParallelConfig } from "./parallel.js";
export type { DeviceBatch } from "./placement.js";
export type { TrainableModel } from "./step.js";
export { type FitResult, Trainer } from "./trainer.js";
