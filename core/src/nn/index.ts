export { type AttentionOptions, attention } from "./attention.js";
export { type CacheShape, KeyValueCache } from "./cache.js";
export { constantInit, fanInUniform, type Initializer, normalInit } from "./initializers.js";
export { Embedding, LayerNorm, Linear, type LinearOptions, RMSNorm } from "./layers.js";
export { crossEntropy, type LinearCrossEntropyOptions, linearCrossEntropy } from "./losses.js";
export {
  castTree,
  checkpointName,
  initialize,
  Module,
  type ParameterOptions,
  type ParameterSpec,
  parameterLayout,
  parameterSpecs,
  summary,
} from "./module.js";
export {
  applyRotary,
  type RotaryScaling,
  type RotaryTables,
  rotaryFrequencies,
  rotaryTables,
} from "./rotary.js";
