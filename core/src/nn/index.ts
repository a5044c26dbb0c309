export { withUpdates } from "../transform/buffers.js";
export { type AttentionOptions, attention } from "./attention.js";
export { type CacheShape, KeyValueCache, type TokenCache } from "./cache.js";
export { clipLoss, sigmoidPairLoss } from "./contrastive.js";
export {
  Conv1d,
  Conv2d,
  Conv3d,
  type ConvOptions,
  ConvTranspose1d,
  ConvTranspose2d,
  ConvTranspose3d,
  type ConvTransposeOptions,
  DepthwiseConv,
  type DepthwiseConvOptions,
} from "./convolutions.js";
export {
  type CrossAttentionInputs,
  MultiheadCrossAttention,
  type MultiheadCrossAttentionOptions,
} from "./cross-attention.js";
export { Dropout, dropout, StochasticDepth, withKeys } from "./dropout.js";
export { ExpertMlp, type ExpertOptions, type RouterStatistics, routerBalance } from "./experts.js";
export {
  constantInit,
  fanInUniform,
  type Initializer,
  type InitializerFamily,
  kaimingNormal,
  kaimingUniform,
  normalInit,
  orthogonal,
  truncatedNormalInit,
  uniformInit,
  xavierNormal,
  xavierUniform,
} from "./initializers.js";
export { Embedding, LayerNorm, Linear, type LinearOptions, RMSNorm, type RMSNormOptions } from "./layers.js";
export {
  type BinaryCrossEntropyOptions,
  binaryCrossEntropyWithLogits,
  type CrossEntropyOptions,
  crossEntropy,
  type LinearCrossEntropyOptions,
  linearArgmax,
  linearCrossEntropy,
} from "./losses.js";
export { type Activation, activations, GatedMlp, Mlp, type MlpOptions } from "./mlp.js";
export {
  type BufferOptions,
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
  BatchNorm,
  type BatchNormInputs,
  type BatchNormOptions,
  GroupNorm,
  InstanceNorm,
  type InstanceNormOptions,
} from "./norms.js";
export {
  type ParametrizedParameter,
  ParametrizedWeight,
  parametrize,
  SpectralNorm,
  type SpectralNormed,
  type SpectralNormOptions,
  spectralNorm,
  WeightNorm,
  type WeightNormOptions,
  weightNorm,
} from "./parametrized.js";
export {
  AdaptiveAvgPool,
  AvgPool,
  type AvgPoolOptions,
  GlobalPool,
  MaxPool,
  type PoolOptions,
} from "./pooling.js";
export {
  LearnedPositions,
  type LearnedPositionsOptions,
  type SinusoidalOptions,
  sinusoidalPositions,
  sinusoidalPositions2d,
} from "./positions.js";
export {
  FSQ,
  type GridCodes,
  type Quantized,
  VectorQuantizer,
  type VectorQuantizerOptions,
} from "./quantizers.js";
export { GRU, LSTM, type RecurrentInputs, type RecurrentOptions } from "./recurrent.js";
export {
  RelativeBias,
  type RelativeBiasOptions,
  type RelativeBuckets,
  relativeBucket,
  relativePositions,
  relativeScores,
  relativeShift,
} from "./relative.js";
export {
  applyRotary,
  type RotaryOptions,
  type RotaryScaling,
  type RotaryTables,
  rotaryTables,
} from "./rotary.js";
export { freeze, type Pattern, replace, unfreeze } from "./selection.js";
export { Sequential, type Stage, sequential } from "./sequential.js";
export { applyLayers, type LayerOptions, type Recompute } from "./stack.js";
