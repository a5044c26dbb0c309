export { Interrupted } from "../host/interrupt.js";
export type {
  CheckpointEvent,
  EndEvent,
  StepEvent,
  TrainerCallback,
  TrainingHandle,
  ValidationEvent,
} from "./callbacks.js";
export type { SpikeOptions, TrainerConfig } from "./config.js";
export { TooLargeForMemory } from "./memory.js";
export type { ParallelConfig } from "./parallel.js";
export type { DeviceBatch } from "./placement.js";
export { type FitResult, Trainer, TrainingDiverged } from "./trainer.js";
