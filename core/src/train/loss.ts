/** What a loss function gets and may return, and what the Trainer makes of it. */
import { sum } from "../array/broadcast.js";
import { scalar } from "../array/creation.js";
import { cast, mul, notEqual, where } from "../array/elementwise.js";
import type { Key } from "../array/random.js";
import { Tensor } from "../array/tensor.js";
import { isFloat, isInteger } from "../graph/dtype.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { isMeasure, type Mean, type Measure, quotient } from "../metrics/measures.js";
import { crossEntropy } from "../nn/losses.js";
import type { Module } from "../nn/module.js";
import { flatten } from "../transform/tree.js";
import type { DeviceBatch, DeviceFields } from "./placement.js";

/** Beside the model and the batch. */
export interface LossContext {
  /** For what is drawn, as by `nn.dropout`: another for each update and part of one, the same after a resume. Undefined in a validation. */
  readonly key: Key | undefined;
  /** Updates done, int32 scalar. */
  readonly step: Tensor;
  /** False in a validation. */
  readonly training: boolean;
  /** The models of the configuration's `references`. */
  readonly references: Readonly<Record<string, Module>>;
}

/**
 * A scalar, which stands for the rows of its batch (for the targets that count, in a batch that has `targets` and `weights`); or a weighted
 * mean, `metrics.mean(values, weights)`.
 */
export type LossValue = Tensor | Mean;

/** Of metrics a scalar stands for its rows too. */
export type LossResult =
  | LossValue
  | { readonly loss: LossValue; readonly metrics?: Readonly<Record<string, Tensor | Measure>> };

export type Loss<M, B = DeviceBatch> = (model: M, batch: B, context: LossContext) => LossResult;

/** A loss of rows that depend on each other, in a form that can be computed in parts. */
export interface CoupledLoss<M, B, E> {
  /** Of each row by itself: a tree of Tensors with the rows along axis 0. */
  embed(model: M, batch: B, context: LossContext): E;
  /** Of all rows' embeddings; it may read the model too, e.g. a temperature. */
  loss(model: M, embeddings: E, context: LossContext): LossResult;
}

/** What a coupled loss says of itself. */
export const coupling: unique symbol = Symbol("coupling");

/** Declares that a loss couples the rows of a batch, as contrastive ones do: `accumulate` refuses it. */
export function coupled<M, B>(loss: Loss<M, B>): Loss<M, B>;
/**
 * A loss whose rows meet in their embeddings only. With `accumulate` the embeddings of all parts are computed first, then the loss and its
 * derivative by them, then that of each part's embeddings (Gao et al. 2021, "Scaling deep contrastive learning batch size under memory
 * limited setup", GradCache): the same update as of the whole batch.
 */
export function coupled<M, B, E>(loss: CoupledLoss<M, B, E>): Loss<M, B>;
export function coupled<M, B>(loss: Loss<M, B> | CoupledLoss<M, B, unknown>): Loss<M, B> {
  const whole: Loss<M, B> =
    typeof loss === "function"
      ? (model, batch, context) => loss(model, batch, context)
      : (model, batch, context) => loss.loss(model, loss.embed(model, batch, context), context);
  return Object.assign(whole, { [coupling]: typeof loss === "function" ? true : loss });
}

/** How a loss couples rows: not at all, in one piece, or by embeddings. */
export function couplingOf(loss: unknown): undefined | true | CoupledLoss<unknown, unknown, unknown> {
  return (loss as { [coupling]?: true | CoupledLoss<unknown, unknown, unknown> } | undefined)?.[coupling];
}

/** A loss with its weight, and metrics with theirs. */
export interface Measured {
  /** Float32 scalar; 0 where the batch weighs nothing. */
  readonly value: Tensor;
  readonly loss: Mean;
  readonly metrics: Readonly<Record<string, Measure>>;
}

/** What a loss function returned, as weighted figures. */
export function measured(result: LossResult, batch: unknown): Measured {
  const given: unknown = result;
  if (given instanceof Tensor || isMeasure(given)) return { ...asLoss(given, batch), metrics: {} };
  const fields = given as { loss?: unknown; metrics?: Record<string, unknown> } | null | undefined;
  if (typeof fields !== "object" || fields === null || Array.isArray(fields) || fields.loss === undefined) {
    const what = Array.isArray(given) ? "an array" : given === null ? "null" : `a ${typeof given}`;
    throw new ArgumentError(
      `the loss function returned ${what}`,
      "return a scalar Tensor, metrics.mean(values, weights), or { loss, metrics: { name: metrics.mean(...) } }",
    );
  }
  const metrics = Object.entries(fields.metrics ?? {}).map(([name, value]): [string, Measure] => {
    if (isMeasure(value)) return [name, value];
    if (value instanceof Tensor && value.ndim === 0) return [name, byRows(value, batch)];
    throw new ArgumentError(
      `the metric "${name}" is ${value instanceof Tensor ? value : typeof value}`,
      "give metrics.mean(values, weights), ratio, sum or max, or a scalar Tensor",
    );
  });
  return { ...asLoss(fields.loss, batch), metrics: Object.fromEntries(metrics) };
}

function asLoss(value: unknown, batch: unknown): Pick<Measured, "value" | "loss"> {
  if (isMeasure(value)) {
    if (value.measure === "mean") return { value: quotient(value, 0), loss: value };
    throw new ArgumentError(
      `the loss is a ${value.measure} of values`,
      "give a mean: metrics.mean(values, weights), or a scalar",
    );
  }
  if (!(value instanceof Tensor))
    throw new ArgumentError(`the loss is a ${typeof value}`, "return a scalar Tensor");
  if (value.ndim !== 0)
    throw new ShapeError(`the loss is ${value}`, "reduce it with metrics.mean(values, weights) or .mean()");
  if (!isFloat(value.dtype))
    throw new ArgumentError(`the loss is ${value}`, "a loss is a floating-point number");
  return { value: cast(value, "float32"), loss: byRows(value, batch) };
}

/** A scalar mean with what it stands for. */
function byRows(value: Tensor, batch: unknown): Mean {
  const weight = weightOf(batch);
  return { measure: "mean", total: mul(cast(value, "float32"), weight), weight };
}

/**
 * The weights of a batch's targets together, without those that are -100; where a batch has none, its targets' number; of others the rows. A
 * float32 scalar.
 */
function weightOf(batch: unknown): Tensor {
  const { weights, targets } = batch as { weights?: unknown; targets?: unknown };
  const ids = targets instanceof Tensor && isInteger(targets.dtype) && targets.ndim > 1 ? targets : undefined;
  const counts = ids === undefined ? undefined : notEqual(ids, -100);
  if (weights instanceof Tensor && isFloat(weights.dtype)) {
    const shares = cast(weights, "float32");
    return sum(counts?.shape.join() === shares.shape.join() ? where(counts, shares, 0) : shares);
  }
  if (counts !== undefined) return sum(cast(counts, "float32"));
  return scalar(rowsOf(batch), "float32");
}

/** Rows of a batch: the length of the first axis of its first array. */
export function rowsOf(batch: unknown): number {
  return flatten(batch).leaves.find((x) => x.ndim > 0)?.shape[0] ?? 1;
}

/** The model's own loss, else the mean cross-entropy of the next token. */
export function defaultLoss(model: Module, batch: DeviceFields, context: LossContext): LossResult {
  const own = (model as { loss?: (batch: DeviceFields, context: LossContext) => LossResult }).loss;
  if (own !== undefined) return own.call(model, batch, context);
  const { inputs, targets, weights } = batch as Partial<DeviceBatch>;
  const name = model.constructor.name;
  const forward = (model as { forward?: (tokens: Tensor) => unknown }).forward;
  if (forward === undefined || inputs === undefined || targets === undefined) {
    throw new ArgumentError(
      forward === undefined
        ? `Trainer: ${name} has neither loss(batch, context) nor forward(tokens), and no loss is given`
        : `Trainer: the batch has ${Object.keys(batch).join(", ") || "no fields"}, no inputs and targets, and no loss is given`,
      "give the Trainer a loss: (model, batch, { key, step, training }) => ...",
    );
  }
  const logits = forward.call(model, inputs);
  if (!(logits instanceof Tensor)) {
    throw new ArgumentError(
      `Trainer: forward of ${name} returns no Tensor, and no loss is given`,
      "give the Trainer a loss that says what its result is for: (model, batch) => nn.crossEntropy(model.forward(batch.inputs).logits, batch.targets)",
    );
  }
  return crossEntropy(logits, targets, weights);
}
