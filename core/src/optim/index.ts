export { type AdamWOptions, type AdamWState, adamw } from "./adamw.js";
export {
  clipByNorm,
  globalNorm,
  type Optimizer,
  type UpdateContext,
  type UpdateReport,
} from "./optimizer.js";
export { type CosineOptions, constant, cosine, type Schedule } from "./schedules.js";
