/**
 * Where a training's arrays lie: a batch on the device, and the state before the first step. All placing that the Trainer does is here.
 */
import { fromBytes, scalar } from "../array/creation.js";
import type { Tensor } from "../array/tensor.js";
import type { Batch } from "../data/batch.js";
import { initialize, type Module } from "../nn/module.js";
import type { Optimizer } from "../optim/optimizer.js";
import { jit } from "../transform/jit.js";
import { leaves } from "../transform/tree.js";
import type { ParallelPlan } from "./parallel.js";
import type { TrainState } from "./state.js";

/** A batch on the device: [batch, time] each. What is absent on the host is absent here. */
export interface DeviceBatch {
  /** int32. */
  readonly inputs: Tensor;
  /** int32, the token after each input. */
  readonly targets: Tensor;
  /** float32, the share of each target in the loss. */
  readonly weights?: Tensor;
  /** int32, the number of each token's document within its row: attention stays within equal numbers. */
  readonly segments?: Tensor;
  /** int32, the distance of each token from the start of its document. */
  readonly positions?: Tensor;
}

/** A batch on its way to the devices. With `microbatches` above 1 each array is [microbatches, batch / microbatches, time]. */
export function placeBatch(batch: Batch, microbatches = 1, plan?: ParallelPlan): DeviceBatch {
  const { batchSize, sequenceLength } = batch;
  const shape =
    microbatches === 1
      ? [batchSize, sequenceLength]
      : [microbatches, batchSize / microbatches, sequenceLength];
  const where = plan?.batch(shape);
  const place = (view: ArrayBufferView, dtype: "int32" | "float32"): Tensor =>
    fromBytes(new Uint8Array(view.buffer, view.byteOffset, view.byteLength), shape, dtype, "data", where);
  const { weights, segments, positions } = batch;
  return {
    inputs: place(batch.inputs, "int32"),
    targets: place(batch.targets, "int32"),
    ...(weights !== undefined && { weights: place(weights, "float32") }),
    ...(segments !== undefined && { segments: place(segments, "int32") }),
    ...(positions !== undefined && { positions: place(positions, "int32") }),
  };
}

const copy = jit((model: Module) => model, { name: "copy", tag: () => "parameter" });
const copyAverage = jit((model: Module) => model, { name: "copy", tag: () => "optimizer" });

/**
 * The parameters that a training begins with: drawn, for a model that has none yet; else a copy of the model's own, since a step takes
 * them over.
 */
function startingModel<M extends Module>(model: M, { seed, plan }: StartOptions): M {
  const hasValues = leaves(model).some((leaf) => leaf.buffer !== undefined);
  if (!hasValues) return plan?.initialize(model, seed) ?? initialize(model, seed);
  return plan?.distribute(model) ?? (copy(model) as M);
}

export interface StartOptions {
  readonly optimizer: Optimizer;
  readonly seed: number;
  /** Whether a running average of the parameters is kept. */
  readonly average: boolean;
  /** Whether the loss is watched for spikes. */
  readonly watch: boolean;
  /** How the training is spread over devices, if it is. */
  readonly plan: ParallelPlan | undefined;
}

/** The state before the first update, on the device. */
export function startingState<M extends Module>(model: M, options: StartOptions): TrainState<M> {
  const parameters = startingModel(model, options);
  const optimizer = jit((m: Module) => options.optimizer.init(m), {
    name: "init_optimizer",
    tag: () => "optimizer",
    place: options.plan?.place,
  })(parameters);
  return {
    ...stateLike(parameters, options),
    optimizer,
    ...(options.average && { average: copyAverage(parameters) as M }),
  };
}

/** A state of the structure, shapes and dtypes of a training's, as expressions that are not computed. */
export function stateLike<M extends Module>(
  model: M,
  { optimizer, average, watch }: StartOptions,
): TrainState<M> {
  const zero = (): Tensor => scalar(0, "float32");
  return {
    model,
    optimizer: optimizer.init(model),
    average: average ? model : null,
    watch: watch ? { mean: zero(), variance: zero(), count: zero() } : null,
    step: scalar(0, "int32"),
  };
}
