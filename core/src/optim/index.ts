export { type AdafactorOptions, type AdafactorState, adafactor } from "./adafactor.js";
export { type AdamOptions, type AdamWOptions, type AdamWState, adam, adamw } from "./adamw.js";
export { type DescentOptions, type DirectionContext, descent, type Method } from "./descent.js";
export { type Leaves, type ParameterGroup, type Part, partitioned } from "./groups.js";
export { type LionOptions, type LionState, lion } from "./lion.js";
export { type MuonOptions, type MuonState, muon } from "./muon.js";
export {
  clipByNorm,
  clipByValue,
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
  previewSchedule,
  type Schedule,
  type WarmupStableDecayOptions,
  warmupStableDecay,
} from "./schedules.js";
export { type SgdOptions, type SgdState, sgd } from "./sgd.js";
