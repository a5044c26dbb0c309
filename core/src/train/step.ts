/** One update as a function of the state and a batch: what the Trainer compiles. */
import { full, sum, zeros, zerosLike } from "../array/broadcast.js";
import { iota, scalar } from "../array/creation.js";
import {
  abs,
  add,
  and,
  cast,
  div,
  greater,
  greaterEqual,
  isfinite,
  maximum,
  mul,
  not,
  or,
  sqrt,
  square,
  sub,
  where,
} from "../array/elementwise.js";
import { stack } from "../array/joining.js";
import { foldIn, type Key } from "../array/random.js";
import { mean } from "../array/reductions.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { crossEntropy } from "../nn/losses.js";
import { castTree, type Module } from "../nn/module.js";
import type { Optimizer } from "../optim/optimizer.js";
import type { CompileOptions } from "../runtime/types.js";
import { scan } from "../transform/scan.js";
import { flatten, map } from "../transform/tree.js";
import { valueAndGradWithAux } from "../transform/vjp.js";
import type { SpikeOptions } from "./config.js";
import type { ParallelPlan } from "./parallel.js";
import type { DeviceBatch } from "./placement.js";
import type { LossWatch, TrainState } from "./state.js";
import { norms, observing, type StatisticsOptions } from "./statistics.js";

/** What the Trainer asks of a model. */
export interface TrainableModel extends Module {
  /** Integer [batch, time] to logits [batch, time, vocabulary]. */
  forward(tokens: Tensor): Tensor;
  /** Scalar loss of a batch: the mean over its weights. See `Loss` for the key. */
  loss?(batch: DeviceBatch, key?: Key): Tensor;
  /** The text of Hugging Face's `config.json`, which is saved beside the parameters. */
  configText?(): string | undefined;
  /** Floating-point operations a trained token costs at sequences of `time`. */
  flopsPerToken?(time: number): number;
}

/**
 * Scalar loss of a batch, the mean over its weights. The key is for what is drawn in training only, as by `nn.dropout`: each update, and each
 * part of one, has its own; a validation has none.
 */
export type Loss<M> = (model: M, batch: DeviceBatch, key?: Key) => Tensor;

export interface StepOptions<M extends TrainableModel> {
  readonly loss: Loss<M> | undefined;
  readonly precision: "float32" | "bf16";
  readonly optimizer: Optimizer;
  readonly totalSteps: number;
  /** Decides the keys that the loss gets. */
  readonly seed: number;
  /** Parts that a batch comes in, [microbatches, batch, time]; 1 for [batch, time]. */
  readonly microbatches: number;
  /** Share of the running average that stays with each update. */
  readonly averageDecay: number | undefined;
  readonly spikes: SpikeOptions | undefined;
  /** Whether a diverged update is left out. */
  readonly skip: boolean;
  readonly statistics: StatisticsOptions | undefined;
  readonly plan: ParallelPlan | undefined;
  readonly compiler: CompileOptions | undefined;
}

/** What a step reports of itself. */
export interface StepReport {
  /**
   * float32 [4]: loss, learning rate, gradient norm, and why the update is bad: 0 it is not, 1 a value that is not finite, 2 a spike of the
   * loss.
   */
  readonly figures: Tensor;
  /** Further columns of the metrics, float32 scalars. */
  readonly columns: Readonly<Record<string, Tensor>>;
}

/** The model as a step computes with it: in its precision, with weights whole that are only stored in parts. */
function forUse<M extends TrainableModel>(
  model: M,
  { precision, plan }: Pick<StepOptions<M>, "precision" | "plan">,
): M {
  const narrow = precision === "bf16" ? castTree(model, "bfloat16") : model;
  return plan?.forUse(narrow) ?? narrow;
}

/** The loss of the configuration, as a step computes it. */
export function lossOf<M extends TrainableModel>({
  loss = defaultLoss,
  ...how
}: Pick<StepOptions<M>, "loss" | "precision" | "plan">): Loss<M> {
  return (model, batch, key) => loss(forUse(model, how), batch, key);
}

type Columns = Readonly<Record<string, Tensor>>;

/** The same, with the sizes of activations where they are asked for. */
function observedLoss<M extends TrainableModel>(options: StepOptions<M>) {
  if (options.statistics?.activations !== true) {
    const loss = lossOf(options);
    return (model: M, batch: DeviceBatch, key: Key): [Tensor, Columns] => [loss(model, batch, key), {}];
  }
  const { loss = defaultLoss } = options;
  return (model: M, batch: DeviceBatch, key: Key): [Tensor, Columns] =>
    observing(forUse(model, options), (m) => loss(m, batch, key));
}

/** The model's own loss, else the mean cross-entropy of the next token. */
function defaultLoss<M extends TrainableModel>(model: M, batch: DeviceBatch, key?: Key): Tensor {
  return model.loss?.(batch, key) ?? crossEntropy(model.forward(batch.inputs), batch.targets, batch.weights);
}

/** An update: the next state, and what is reported of it. */
export function update<M extends TrainableModel>(
  state: TrainState<M>,
  batch: DeviceBatch,
  options: StepOptions<M>,
): [TrainState<M>, StepReport] {
  const { optimizer, totalSteps, averageDecay, spikes, skip, statistics } = options;
  const key = foldIn(options.seed, state.step);
  const [value, gradients, activations] = lossAndGradients(state.model, batch, key, options);
  const loss = cast(value, "float32");
  const [model, optimizerState, report] = optimizer.update(gradients, state.optimizer, state.model, {
    step: state.step,
    totalSteps,
  });
  const average =
    state.average === null || averageDecay === undefined
      ? state.average
      : map((a, p) => add(a, mul(sub(p, a), 1 - averageDecay)), state.average, model);
  const broken = not(and(isfinite(loss), isfinite(report.gradientNorm)));
  const [spiked, watch] = watchLoss(state.watch, loss, spikes);
  const bad = or(broken, spiked);
  const fresh = { model, optimizer: optimizerState, average };
  const before = { model: state.model, optimizer: state.optimizer, average: state.average };
  const kept = skip ? map((now, was) => where(bad, was, now), fresh, before) : fresh;
  const next: TrainState<M> = {
    ...kept,
    watch: watch && map((now, was) => where(bad, was, now), watch, state.watch),
    step: add(state.step, 1),
  };
  const why = where(broken, 1, where(spiked, 2, 0));
  return [
    next,
    {
      figures: stack([loss, cast(report.learningRate, "float32"), report.gradientNorm, cast(why, "float32")]),
      columns: statistics === undefined ? {} : { ...norms(gradients, state.model, model), ...activations },
    },
  ];
}

/**
 * Loss and gradients of a batch, or of one that comes in microbatches: then one after another in a scan, with the result of the whole:
 * the sum of the losses over the sum of the weights. For that a microbatch's loss must be the mean over its weights, as the default is.
 * Gradients of parameters that are not trained are zeros.
 */
function lossAndGradients<M extends TrainableModel>(
  model: M,
  batch: DeviceBatch,
  key: Key,
  options: StepOptions<M>,
): [loss: Tensor, gradients: M, activations: Columns] {
  const { microbatches, optimizer } = options;
  const loss = observedLoss(options);
  const flat = flatten(model);
  const isTrained = flat.leaves.map((p, i) => optimizer.trains?.(flat.paths[i]!, p) ?? true);
  const trained = flat.leaves.filter((_, i) => isTrained[i]);
  if (trained.length === 0) {
    throw new ArgumentError("Trainer: the optimizer trains no parameter", "leave one of the groups unfrozen");
  }
  /** The model with other tensors in the places of the trained parameters. */
  const merge = (own: readonly Tensor[], rest: (p: Tensor) => Tensor): M => {
    let next = 0;
    return flat.rebuild(flat.leaves.map((p, i) => (isTrained[i] ? own[next++]! : rest(p)))) as M;
  };
  const lossAt: LossAt = (own, part, partKey) =>
    loss(
      merge(own, (p) => p),
      part,
      partKey,
    );
  const [value, gradients, activations] =
    microbatches === 1
      ? valueAndGradWithAux(lossAt)(trained, batch, key)
      : accumulated(lossAt, trained, batch, key, microbatches);
  return [value, merge(gradients, zerosLike), activations];
}

type LossAt = (parameters: readonly Tensor[], batch: DeviceBatch, key: Key) => [Tensor, Columns];

function accumulated(
  loss: LossAt,
  parameters: readonly Tensor[],
  batch: DeviceBatch,
  key: Key,
  microbatches: number,
): [Tensor, readonly Tensor[], Columns] {
  // A microbatch whose weights sum to less than 1 is divided by 1: see crossEntropy.
  const totals = batch.weights === undefined ? undefined : sum(batch.weights, [1, 2]);
  const shares =
    totals === undefined
      ? full([microbatches], 1 / microbatches)
      : div(maximum(totals, 1), maximum(sum(totals), 1));
  const start = {
    loss: scalar(0, "float32"),
    gradients: parameters.map((p) => zeros(p.shape)),
  };
  const [total, activations] = scan(
    (
      sums: typeof start,
      part: { batch: DeviceBatch; share: Tensor; index: Tensor },
    ): [typeof start, Columns] => {
      const own = foldIn(key, part.index);
      const [value, gradients, noted] = valueAndGradWithAux(loss)(parameters, part.batch, own);
      const weigh = (to: Tensor, x: Tensor): Tensor => add(to, mul(cast(x, "float32"), part.share));
      return [
        { loss: weigh(sums.loss, value), gradients: sums.gradients.map((g, i) => weigh(g, gradients[i]!)) },
        noted,
      ];
    },
    start,
    { batch, share: shares, index: iota([microbatches], 0, { dtype: "int32" }) },
  );
  return [
    total.loss,
    total.gradients.map((g, i) => cast(g, parameters[i]!.dtype)),
    map((x) => sqrt(mean(square(x))), activations),
  ];
}

/**
 * Whether a loss lies more than so many deviations above the running mean of those before it, and the running statistics with it in them:
 * plain averages at first, exponentially weighted ones of about `window` steps later.
 */
function watchLoss(
  watch: LossWatch | null,
  loss: Tensor,
  spikes: SpikeOptions | undefined,
): [Tensor, LossWatch | null] {
  if (watch === null || spikes === undefined) return [scalar(false, "bool"), watch];
  const { deviations, window = 50 } = spikes;
  const { variance, count } = watch;
  const distance = sub(loss, watch.mean);
  // A loss that hardly varies must not be judged by its last digits.
  const deviation = maximum(sqrt(variance), mul(abs(watch.mean), 0.01));
  const spiked = and(greaterEqual(count, window), greater(distance, mul(deviation, deviations)));
  const share = maximum(div(1, add(count, 1)), 1 / window);
  return [
    spiked,
    {
      mean: add(watch.mean, mul(distance, share)),
      variance: mul(add(variance, mul(square(distance), share)), sub(1, share)),
      count: add(count, 1),
    },
  ];
}
