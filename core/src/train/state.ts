/** The state of a training. */
import type { Tensor } from "../array/tensor.js";
import type { Module } from "../nn/module.js";

/** Running statistics of the loss, float32 scalars: what a spike is judged by. */
export interface LossWatch {
  readonly mean: Tensor;
  readonly variance: Tensor;
  /** Losses seen. */
  readonly count: Tensor;
}

/** What a step takes and gives back, all on the device. */
export interface TrainState<M extends Module = Module> {
  readonly model: M;
  readonly optimizer: unknown;
  /** Running average of the parameters, where one is kept. */
  readonly average: M | null;
  /** Where spikes are looked for. */
  readonly watch: LossWatch | null;
  /** Updates done, int32 scalar. */
  readonly step: Tensor;
}
