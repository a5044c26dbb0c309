export { Interrupted } from "./interrupt.js";
export {
  type DeviceBatch,
  type FitResult,
  Trainer,
  type TrainerConfig,
  TrainingDiverged,
} from "./trainer.js";
