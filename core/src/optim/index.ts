export { type AdamWOptions, type AdamWState, adamw } from "./adamw.js";
export { type DescentOptions, descent, type Method } from "./descent.js";
export { type LionOptions, type LionState, lion } from "./lion.js";
export {
  clipByNorm,
  globalNorm,
  type Optimizer,
  type UpdateContext,
  type UpdateReport,
} from "./optimizer.js";
export {
  type CosineOptions,
  constant,
  cosine,
  inverseSquareRoot,
  linear,
  type Schedule,
  type WarmupStableDecayOptions,
  warmupStableDecay,
} from "./schedules.js";
export { type SgdOptions, type SgdState, sgd } from "./sgd.js";
