/** One update as a function of the state and a batch: what the Trainer compiles. */
import { full, zerosLike } from "../array/broadcast.js";
import { scalar } from "../array/creation.js";
import {
  abs,
  add,
  and,
  cast,
  div,
  equal,
  greater,
  greaterEqual,
  isfinite,
  maximum,
  mul,
  not,
  or,
  rem,
  sqrt,
  square,
  sub,
  where,
} from "../array/elementwise.js";
import { stack } from "../array/joining.js";
import { foldIn, type Key } from "../array/random.js";
import type { Tensor } from "../array/tensor.js";
import { isFloat } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import type { Measure } from "../metrics/measures.js";
import { castTree, type Module } from "../nn/module.js";
import type { Leaves } from "../optim/groups.js";
import type { CompileOptions } from "../runtime/types.js";
import { cond } from "../transform/cond.js";
import { map } from "../transform/tree.js";
import type { SpikeOptions } from "./config.js";
import { type AnyLoss, type Found, gradientsOf, reported } from "./gradients.js";
import { defaultLoss, type Loss, type LossContext } from "./loss.js";
import type { ParallelPlan } from "./parallel.js";
import { type DeviceFields, type PlacedBatch, wholeFields } from "./placement.js";
import { type ResolvedPrecision, rounded } from "./precision.js";
import type { Division, Held, LossScale, LossWatch, Part, TrainState } from "./state.js";
import { norms, type StatisticsOptions } from "./statistics.js";

/** What the Trainer may ask of a model, beside being a Module. */
export interface TrainableModel extends Module {
  /** The text of Hugging Face's `config.json`, which is saved beside the parameters. */
  configText?(): string | undefined;
  /** Floating-point operations a trained token costs at sequences of `time`. */
  flopsPerToken?(time: number): number;
}

export interface UpdateOptions {
  /** Updates only in every so many steps, in those whose number has the remainder `offset`. Default 1. */
  every?: number;
  /** Default 0. */
  offset?: number;
}

/** What `update` did; the loss is NaN in a step that it left out. */
export interface Updated<M> {
  /** With the new parameters and buffers. */
  readonly model: M;
  /** float32 scalar. */
  readonly loss: Tensor;
}

/** Computes the gradient of a loss by the parameters of an optimizer, and updates them. */
export interface Update<M, B> {
  /** By all parameters; of several optimizers each updates its own. */
  (loss: Loss<M, B>, options?: UpdateOptions): Updated<M>;
  /** @param optimizer - one of the configuration's `optimizers` */
  (optimizer: string, loss: Loss<M, B>, options?: UpdateOptions): Updated<M>;
}

/** What a step of one's own is given; `batch` is whole, whatever `accumulate` says: the losses get its parts. */
export interface StepArguments<M, B> extends Omit<LossContext, "key"> {
  /** As a loss computes with it. */
  readonly model: M;
  readonly update: Update<M, B>;
  readonly key: Key;
}

/** What a step reports: its loss (default the sum of those of its updates), and metrics. */
export interface StepResult {
  readonly loss?: Tensor;
  readonly metrics?: Readonly<Record<string, Tensor | Measure>>;
}

/** One step of a training, as a traced function. */
export type Step<M, B> =
  | ((given: StepArguments<M, B>, batch: B) => StepResult)
  | ((given: StepArguments<M, B>, batch: B) => void);

export interface StepOptions<M extends TrainableModel> {
  readonly division: Division<M>;
  readonly loss: Loss<M, never> | undefined;
  readonly step: Step<M, never> | undefined;
  readonly precision: ResolvedPrecision;
  readonly totalSteps: number;
  /** Decides the keys that the loss gets. */
  readonly seed: number;
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
   * float32 [4 + n]: loss, learning rate, gradient norm, and why the update is bad (0 it is not, 1 a value that is not finite, 2 a spike of the
   * loss, 3 a float16 gradient that overflowed); then the figures of `names`.
   */
  readonly figures: Tensor;
  /** Columns of the further figures, separated by line ends. */
  readonly names: string;
  /** Statistics, float32 scalars by column. */
  readonly statistics: Leaves;
}

/** float16: what the loss is multiplied by at first; after how many good updates twice that is tried (Micikevicius et al. 2018, as torch's GradScaler). */
const scaleAtFirst = 65536;
const growAfter = 2000;

export function scaleAtStart(): LossScale {
  return { scale: scalar(scaleAtFirst, "float32"), good: scalar(0, "int32") };
}

/** A model as a step computes with it: in its precision, with weights whole that are only stored in parts. */
export function forUse<M extends Module>(
  model: M,
  { precision, plan }: Pick<StepOptions<M & TrainableModel>, "precision" | "plan">,
): M {
  const narrow = castTree(model, precision.compute);
  return plan?.forUse(narrow) ?? narrow;
}

/** The references as a loss reads them. */
export function referencesFor<M extends TrainableModel>(
  held: Held,
  options: StepOptions<M>,
): Readonly<Record<string, Module>> {
  const references = Object.entries(options.division.references(held));
  return Object.fromEntries(references.map(([name, reference]) => [name, forUse(reference, options)]));
}

/** The loss of the configuration. */
export function lossOf<M extends TrainableModel>({ loss }: Pick<StepOptions<M>, "loss">): AnyLoss {
  return (loss as AnyLoss | undefined) ?? defaultLoss;
}

/** What one call of `update` in a step leaves. */
interface Work {
  readonly parameters: Leaves;
  readonly buffers: Leaves;
  /** The states of the optimizers that it is of. */
  readonly optimizers: Readonly<Record<string, unknown>>;
  /** 0 where it was left out. */
  readonly loss: Tensor;
  /** Whether it was not left out; null where it never is. */
  readonly ran: Tensor | null;
  /** By optimizer. */
  readonly learningRates: Leaves;
  readonly gradientNorm: Tensor;
  readonly metrics: Readonly<Record<string, Measure>>;
  readonly gradients: Leaves;
  readonly activations: Leaves;
}

/** Several optimizers' states: each has the number of its updates. */
interface Counted {
  readonly state: unknown;
  readonly count: Tensor;
}

/** The present values of a step while its updates are made, one after another. */
class UnderWay<M extends TrainableModel> {
  parameters: Leaves;
  buffers: Leaves;
  optimizer: unknown;
  readonly made: { readonly name: string; readonly work: Work }[] = [];
  readonly key: Key;
  readonly references: Readonly<Record<string, Module>>;

  constructor(
    readonly before: TrainState,
    readonly held: Held,
    readonly batch: PlacedBatch,
    readonly options: StepOptions<M>,
  ) {
    const { seed } = options;
    ({ parameters: this.parameters, buffers: this.buffers, optimizer: this.optimizer } = before);
    this.key = foldIn(seed, before.step);
    this.references = referencesFor(held, options);
  }

  /** The model as a loss computes with it. */
  get model(): M {
    return this.#model({ ...this.parameters, ...this.buffers });
  }

  #model(leaves: Leaves): M {
    return forUse(this.options.division.model(leaves, this.held), this.options);
  }

  context(key: Key): LossContext {
    return { key, step: this.before.step, training: true, references: this.references };
  }

  update(loss: Loss<M, never>, name: string, { every = 1, offset = 0 }: UpdateOptions): Updated<M> {
    const parts = this.#partsOf(name);
    for (const [field, value, least] of [
      ["every", every, 1],
      ["offset", offset, 0],
    ] as const) {
      if (!Number.isInteger(value) || value < least)
        throw new ArgumentError(
          `update: ${field} is ${String(value)}`,
          `give an integer of at least ${least}`,
        );
    }
    const work = every === 1 ? this.#work(parts, loss) : this.#workSometimes(parts, loss, every, offset);
    this.parameters = { ...this.parameters, ...work.parameters };
    this.buffers = work.buffers;
    this.optimizer = this.#isSingle
      ? work.optimizers[""]
      : { ...(this.optimizer as Record<string, unknown>), ...work.optimizers };
    this.made.push({ name, work });
    return { model: this.model, loss: lossOfWork(work) };
  }

  get #isSingle(): boolean {
    return this.options.division.parts[0]!.name === "";
  }

  #partsOf(name: string): readonly Part[] {
    const { parts } = this.options.division;
    const chosen = name === "" ? parts : parts.filter((p) => p.name === name);
    if (chosen.length > 0) return chosen;
    const names = parts.map((p) => `"${p.name}"`).join(", ");
    throw new ArgumentError(
      `update: there is no optimizer "${name}"`,
      this.#isSingle ? "leave the name out: there is one optimizer" : `name one of ${names}`,
    );
  }

  /** Under a condition: what would be computed is not, in the other steps. */
  #workSometimes(parts: readonly Part[], loss: Loss<M, never>, every: number, offset: number): Work {
    let like: Work | undefined;
    const leftOut = not(equal(rem(this.before.step, every), offset % every));
    return cond(
      leftOut,
      // Traced second: it gives back what the update does.
      (): Work => {
        const { loss: value, learningRates, gradientNorm, metrics, gradients, activations } = like!;
        const none = (m: Measure): Measure =>
          m.measure === "mean"
            ? { ...m, total: zerosLike(m.total), weight: zerosLike(m.weight) }
            : { ...m, value: full([], m.measure === "max" ? Number.NEGATIVE_INFINITY : 0) };
        return {
          parameters: this.#own(parts),
          buffers: this.buffers,
          optimizers: Object.fromEntries(parts.map((part) => [part.name, this.#stateOf(part)])),
          loss: zerosLike(value),
          ran: scalar(false, "bool"),
          learningRates: map((x) => zerosLike(x), learningRates),
          gradientNorm: zerosLike(gradientNorm),
          metrics: Object.fromEntries(Object.entries(metrics).map(([name, m]) => [name, none(m)])),
          gradients: map((g) => zerosLike(g), gradients),
          activations: map((x) => zerosLike(x), activations),
        };
      },
      (): Work => {
        like = { ...this.#work(parts, loss), ran: scalar(true, "bool") };
        return like;
      },
    );
  }

  #own(parts: readonly Part[]): Leaves {
    const paths = parts.flatMap((part) => part.paths);
    return Object.fromEntries(paths.map((path) => [path, this.parameters[path]!]));
  }

  #stateOf({ name }: Part): unknown {
    return name === "" ? this.optimizer : (this.optimizer as Record<string, Counted>)[name]!;
  }

  #work(parts: readonly Part[], loss: Loss<M, never>): Work {
    const { options, before } = this;
    const { division, totalSteps, precision, statistics } = options;
    const own = this.#own(parts);
    const others = Object.fromEntries(Object.entries(this.parameters).filter(([path]) => !(path in own)));
    const found: Found = gradientsOf(
      {
        loss: loss as never,
        parameters: own,
        buffers: this.buffers,
        cotangents: division.cotangents,
        model: (leaves) => this.#model({ ...others, ...leaves }),
        leaves: (paths, model) => division.leaves(paths, model),
        context: (key) => this.context(key),
        scale: before.scale?.scale,
        activations: statistics?.activations === true,
      },
      this.batch,
      this.made.length === 0 ? this.key : foldIn(this.key, 2 ** 31 + this.made.length),
    );
    const scale = before.scale?.scale;
    const gradients =
      scale === undefined ? found.gradients : map((g) => div(cast(g, "float32"), scale), found.gradients);
    // Parameters that are kept in bfloat16 are updated in float32, and rounded by the rule of the precision.
    const wide = precision.rounding === "stochastic" ? map((p) => cast(p, "float32"), own) : own;
    const of = (part: Part, all: Leaves): Leaves =>
      Object.fromEntries(part.paths.map((path) => [path, all[path]!]));
    const updated: Record<string, Tensor> = {};
    const optimizers: Record<string, unknown> = {};
    const learningRates: Record<string, Tensor> = {};
    const squares: Tensor[] = [];
    for (const part of parts) {
      const state = this.#stateOf(part);
      const { state: inner, count } = this.#isSingle ? { state, count: before.step } : (state as Counted);
      const context = { step: count, totalSteps };
      const [next, nextState, report] = part.optimizer.update(
        of(part, gradients),
        inner,
        of(part, wide),
        context,
      );
      Object.assign(updated, next);
      optimizers[part.name] = this.#isSingle ? nextState : { state: nextState, count: add(count, 1) };
      learningRates[part.name] = cast(report.learningRate, "float32");
      squares.push(report.gradientNorm);
    }
    return {
      parameters: rounded(updated, own, precision, foldIn(this.key, 2 ** 30 + this.made.length)),
      buffers: { ...this.buffers, ...found.buffers },
      optimizers,
      loss: found.loss,
      ran: null,
      learningRates,
      gradientNorm: together(squares),
      metrics: found.metrics,
      gradients: statistics === undefined ? {} : gradients,
      activations: found.activations,
    };
  }
}

/** NaN where it was left out. */
function lossOfWork({ loss, ran }: Work): Tensor {
  return ran === null ? loss : where(ran, loss, Number.NaN);
}

/** The norm of parts of the gradients together. */
function together(norms: readonly Tensor[]): Tensor {
  return norms.length === 1 ? norms[0]! : sqrt(norms.map((x) => square(x)).reduce((a, b) => add(a, b)));
}

/** An update: the next state, and what is reported of it. */
export function update<M extends TrainableModel>(
  state: TrainState,
  held: Held,
  batch: PlacedBatch,
  options: StepOptions<M>,
): [TrainState, StepReport] {
  const { averageDecay, spikes, skip, statistics } = options;
  const under = new UnderWay(state, held, batch, options);
  const { loss, metrics } = perform(under, options);
  const { made } = under;
  const gradientNorm = together(made.map(({ work }) => work.gradientNorm));
  const { parameters, buffers, optimizer } = under;
  const average =
    state.average === null || averageDecay === undefined
      ? state.average
      : averaged(state.average, { ...buffers, ...parameters }, averageDecay);
  const broken = not(and(isfinite(loss), isfinite(gradientNorm)));
  const [spiked, watch] = watchLoss(state.watch, loss, spikes);
  // Too large a scale shows as a value that is not finite; of a scale of 1 it is none.
  const overflowed = state.scale === null ? undefined : and(broken, greater(state.scale.scale, 1));
  const bad = or(broken, spiked);
  const leaveOut = skip ? bad : overflowed;
  const fresh = { parameters, buffers, optimizer, average };
  const before: typeof fresh = {
    parameters: state.parameters,
    buffers: state.buffers,
    optimizer: state.optimizer,
    average: state.average,
  };
  const kept = leaveOut === undefined ? fresh : map((now, was) => where(leaveOut, was, now), fresh, before);
  const next: TrainState = {
    ...kept,
    watch: watch && map((now, was) => where(bad, was, now), watch, state.watch),
    scale: state.scale && nextScale(state.scale, broken),
    step: add(state.step, 1),
  };
  const plainWhy = where(broken, 1, where(spiked, 2, 0));
  const why = overflowed === undefined ? plainWhy : where(overflowed, 3, plainWhy);
  const columns = new Map<string, Tensor>(Object.entries(metrics).map(([name, m]) => [name, reported(m)]));
  if (options.division.parts[0]!.name !== "") {
    for (const { name, work } of made) {
      if (name !== "") columns.set(`loss/${name}`, lossOfWork(work));
      if (name !== "") columns.set(`gradient_norm/${name}`, work.gradientNorm);
      for (const [of, rate] of Object.entries(work.learningRates)) columns.set(`learning_rate/${of}`, rate);
    }
  }
  if (state.scale !== null) columns.set("loss_scale", state.scale.scale);
  return [
    next,
    {
      figures: stack(
        [
          loss,
          Object.values(made[0]!.work.learningRates)[0]!,
          gradientNorm,
          cast(why, "float32"),
          ...columns.values(),
        ].map((x) => cast(x, "float32")),
      ),
      names: [...columns.keys()].join("\n"),
      statistics: statistics === undefined ? {} : statisticsOf(state.parameters, parameters, made),
    },
  ];
}

/** Makes the updates of a step; its loss and metrics. */
function perform<M extends TrainableModel>(
  under: UnderWay<M>,
  options: StepOptions<M>,
): { loss: Tensor; metrics: Record<string, Measure> } {
  const { step } = options;
  const metrics: Record<string, Measure> = {};
  let loss: Tensor | undefined;
  if (step === undefined) {
    under.update(lossOf(options) as never, "", {});
  } else {
    const whole = wholeFields(under.batch);
    const run = (...given: unknown[]): Updated<M> => {
      const name = typeof given[0] === "string" ? given[0] : "";
      const [of, how = {}] = (typeof given[0] === "string" ? given.slice(1) : given) as [
        Loss<M, never>,
        UpdateOptions?,
      ];
      if (typeof of !== "function") {
        throw new ArgumentError(
          `update(${name === "" ? "" : `"${name}", `}${String(of)})`,
          "give a loss function: update(name, (model, batch, { key }) => ...)",
        );
      }
      return under.update(of, name, how);
    };
    const { references, key } = under;
    const given: StepArguments<M, never> = {
      get model() {
        return under.model;
      },
      update: run,
      key,
      step: under.before.step,
      training: true,
      references,
    };
    const result = (step as Step<M, DeviceFields>)(given as never, whole) ?? {};
    loss = result.loss;
    for (const [name, value] of Object.entries(result.metrics ?? {})) {
      metrics[name] =
        "measure" in value ? (value as Measure) : { measure: "sum", value: cast(value as Tensor, "float32") };
    }
  }
  if (under.made.length === 0) {
    throw new ArgumentError(
      "Trainer: the step made no update",
      "call update(loss), or update(name, loss) with several optimizers, in it",
    );
  }
  for (const { name: of, work } of under.made)
    for (const [name, m] of Object.entries(work.metrics))
      metrics[name in metrics ? `${of}/${name}` : name] = m;
  loss ??= under.made.map(({ work }) => work.loss).reduce((a, b) => add(a, b));
  return { loss: cast(loss, "float32"), metrics };
}

function statisticsOf(before: Leaves, after: Leaves, made: UnderWay<TrainableModel>["made"]): Leaves {
  const gradients = Object.assign({}, ...made.map(({ work }) => work.gradients)) as Record<string, Tensor>;
  const own = (all: Leaves): Leaves => Object.fromEntries(Object.keys(gradients).map((p) => [p, all[p]!]));
  return Object.assign(
    norms(gradients, own(before), own(after)),
    ...made.map(({ work }) => work.activations),
  ) as Leaves;
}

/** Integers are not averaged: the newest value stands. */
function averaged(average: Leaves, now: Leaves, decay: number): Leaves {
  return Object.fromEntries(
    Object.entries(average).map(([path, a]) => {
      const p = now[path]!;
      return [path, isFloat(a.dtype) ? add(a, cast(mul(sub(p, a), 1 - decay), a.dtype)) : p];
    }),
  );
}

/** Half as large after an overflow, twice as large after many good updates. */
function nextScale({ scale, good }: LossScale, broken: Tensor): LossScale {
  const grows = greaterEqual(add(good, 1), growAfter);
  return {
    scale: where(broken, maximum(mul(scale, 0.5), 1), where(grows, mul(scale, 2), scale)),
    good: where(or(broken, grows), 0, add(good, 1)),
  };
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
