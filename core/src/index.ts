/** Aronnax: arrays, automatic differentiation, models and training in TypeScript on OpenXLA. */
import "./array/display.js";
import "./array/methods.js";

export { broadcastTo, full, ones, onesLike, sum, zeros, zerosLike } from "./array/broadcast.js";
export { angle, complex, conj, imag, real } from "./array/complex.js";
export { dotGeneral, matmul } from "./array/contraction.js";
export { conv, convTranspose } from "./array/convolution.js";
export { iota, scalar, tensor } from "./array/creation.js";
export { type CustomCallTarget, customCall } from "./array/custom-call.js";
export { einsum } from "./array/einsum.js";
export {
  abs,
  acos,
  acosh,
  add,
  and,
  asin,
  asinh,
  atan,
  atan2,
  atanh,
  bitcast,
  type CastOptions,
  cast,
  cbrt,
  ceil,
  clip,
  clz,
  cos,
  cosh,
  digamma,
  div,
  equal,
  erf,
  erfc,
  erfinv,
  exp,
  expm1,
  floor,
  floorDiv,
  gelu,
  greater,
  greaterEqual,
  isfinite,
  isinf,
  isnan,
  less,
  lessEqual,
  lgamma,
  log,
  log1p,
  maximum,
  minimum,
  mod,
  mul,
  neg,
  not,
  notEqual,
  or,
  polygamma,
  popcount,
  pow,
  reciprocal,
  relu,
  rem,
  round,
  rsqrt,
  shiftLeft,
  shiftRightArithmetic,
  shiftRightLogical,
  sigmoid,
  sign,
  silu,
  sin,
  sinh,
  sqrt,
  square,
  stopGradient,
  sub,
  type TensorLike,
  tan,
  tanh,
  truncate,
  where,
  xor,
} from "./array/elementwise.js";
export * as fft from "./array/fft.js";
export {
  dynamicSlice,
  dynamicUpdateSlice,
  gather,
  scatter,
  slice,
  take,
  takeAlongAxis,
} from "./array/indexing.js";
export { concatenate, roll, split, stack } from "./array/joining.js";
export * as linalg from "./array/linalg.js";
export {
  cross,
  diag,
  diagonal,
  diff,
  elu,
  kron,
  leakyRelu,
  logicalAnd,
  logicalOr,
  meshgrid,
  nanToNum,
  outer,
  peakToPeak,
  repeat,
  tensordot,
  tile,
  trace,
} from "./array/numpy.js";
export { at, type Place, type PlaceSpec, scatterAlongAxis } from "./array/places.js";
export * as random from "./array/random.js";
export { arange, eye, linspace, tril, triu } from "./array/ranges.js";
export {
  all,
  any,
  argmax,
  argmin,
  logSoftmax,
  logsumexp,
  max,
  mean,
  min,
  norm,
  oneHot,
  prod,
  type ReductionOptions,
  softmax,
  std,
  variance,
} from "./array/reductions.js";
export {
  expandDims,
  flatten,
  flip,
  moveAxis,
  pad,
  reshape,
  squeeze,
  swapAxes,
  transpose,
} from "./array/shaping.js";
export { hypot, logaddexp, logSigmoid, softplus } from "./array/smooth.js";
export { argsort, bincount, median, quantile, searchSorted, sort, sortBy, topK } from "./array/sorting.js";
export { Tensor } from "./array/tensor.js";
export {
  avgPool,
  cummax,
  cummin,
  cumprod,
  cumsum,
  logcumsumexp,
  maxPool,
} from "./array/windows.js";
export * as checkpoint from "./checkpoint/index.js";
export * as data from "./data/index.js";
export * as text from "./data/text/index.js";
export * as evaluation from "./evaluate/index.js";
export type { DType } from "./graph/dtype.js";
export { ArgumentError, AronnaxError, DTypeError, ShapeError, TraceError } from "./graph/errors.js";
export * as image from "./image/index.js";
export * as llm from "./llm.js";
export * as media from "./media/index.js";
export * as metrics from "./metrics/index.js";
export * as vision from "./models/vision/index.js";
export * as nn from "./nn/index.js";
export {
  adafactor,
  adam,
  adamw,
  constant,
  cosine,
  descent,
  inverseSquareRoot,
  linear,
  lion,
  muon,
  type Optimizer,
  type ParameterGroup,
  previewSchedule,
  type Schedule,
  sgd,
  warmupStableDecay,
} from "./optim/index.js";
export * as peft from "./peft/index.js";
export * as quantize from "./quantize/index.js";
export { recoverRuntime, runtimeInfo } from "./runtime/info.js";
export type { DeviceInfo, RuntimeInfo } from "./runtime/types.js";
export {
  defaultRules,
  distribute,
  Mesh,
  type PartitionSpec,
  type Rules,
  shard,
} from "./sharding/index.js";
export {
  type CoupledLoss,
  coupled,
  type DeviceBatch,
  type FitResult,
  Interrupted,
  type Loss,
  type LossContext,
  type LossResult,
  type OnDevice,
  type ParallelConfig,
  type Precision,
  type Step,
  type StepArguments,
  type StepResult,
  TooLargeForMemory,
  Trainer,
  type TrainerCallback,
  type TrainerConfig,
  TrainingDiverged,
  type TrainingHandle,
} from "./train/index.js";
export { cond, switchCase } from "./transform/cond.js";
export { customVjp } from "./transform/custom.js";
export { evaluate } from "./transform/evaluate.js";
export { hessianVectorProduct, jvp } from "./transform/forward.js";
export { type Jitted, jit } from "./transform/jit.js";
export type { Lowered } from "./transform/lowered.js";
export { checkpointName, type RematPolicy, remat } from "./transform/remat.js";
export { foriLoop, scan } from "./transform/scan.js";
export { scope } from "./transform/scope.js";
export * as tree from "./transform/tree.js";
export { grad, valueAndGrad, valueAndGradWithAux, vjp } from "./transform/vjp.js";
export { vmap } from "./transform/vmap.js";
export { whileLoop } from "./transform/while.js";
export { type ArrayWorkspace, workspace } from "./transform/workspace.js";
export { type VerifyOptions, type VerifyReport, verify } from "./verify/index.js";

export const version = "0.1.0";
