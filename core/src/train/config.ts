/** What a training is told, and the check of every field before anything starts. */
import type { Batch, BatchSource, TokenFields } from "../data/batch.js";
import type { JsonValue } from "../files/json.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknown } from "../graph/spelling.js";
import type { MetricsLogger } from "../metrics/index.js";
import { Module } from "../nn/module.js";
import type { Pattern } from "../nn/selection.js";
import type { Optimizer } from "../optim/optimizer.js";
import { eventNames, type TrainerCallback } from "./callbacks.js";
import { couplingOf, type Loss } from "./loss.js";
import type { ParallelConfig } from "./parallel.js";
import type { OnDevice } from "./placement.js";
import { type Precision, resolvePrecision } from "./precision.js";
import type { StatisticsOptions } from "./statistics.js";
import type { Step, TrainableModel } from "./step.js";

/** When a loss counts as a spike: more than `deviations` standard deviations above the mean of about `window` steps before. */
export interface SpikeOptions {
  deviations: number;
  /** Also the number of steps before the first judgement. Default 50. */
  window?: number;
}

/** What a validation is measured by on the host: of decoded text, for example. */
export type HostMeasure<M, F extends object> = (given: {
  /** With its present parameters and buffers, which a next step takes over: use it before the promise resolves. */
  readonly model: M;
  /** The batches of the validation, as the source gives them. */
  readonly batches: AsyncIterable<Batch<F>>;
  readonly step: number;
}) => Promise<Readonly<Record<string, number>>> | Readonly<Record<string, number>>;

export interface ValidationOptions<M, F extends object> {
  /** Steps from one to the next; there is one at the end, too. */
  every: number;
  /** At most so many of the data's validation split; default all. */
  batches?: number;
  /** Further figures, which become the columns `valid_<name>`. */
  measure?: HostMeasure<M, F>;
}

/** By which of a validation's figures checkpoints are kept. */
export interface KeepBest {
  count: number;
  /** A column of the validation. Default `valid_loss`. */
  by?: string;
  /** Whether the lowest or the highest is best. Default `min`. */
  mode?: "min" | "max";
}

export interface CheckpointOptions {
  every: number;
  /** Default 3. */
  keep?: number;
  /** Of older ones as well, so many with the lowest validation loss, or the best by another figure. Default 0. */
  keepBest?: number | KeepBest;
  /**
   * What of the model is saved: `trained`, the parameters that are trained, and buffers (default; of a model without frozen parts it is the whole one);
   * `all`, frozen parameters and constants too; or further folders by name, each with the leaves that a pattern takes.
   */
  save?: "trained" | "all" | Readonly<Record<string, Pattern>>;
}

export interface TrainerConfig<M extends Module, F extends object = TokenFields> {
  /** Names the run and its folder. */
  name: string;
  /**
   * Parameters that have no values yet are drawn; those of a loaded or trained model are copied and stay as they are. What is frozen
   * (`nn.freeze`, or by the optimizer's groups) is read where it lies.
   */
  model: M;
  /** Without it, `trainer.update(batch)` is given the batches. */
  data?: BatchSource<F>;
  optimizer?: Optimizer;
  /** In its place several, by names of parts of the model: `{ g: adam(...), d: adam(...) }` for a model with the fields `g` and `d`. */
  optimizers?: Readonly<Record<string, Optimizer>>;
  /** Updates in all. */
  steps: number;
  /**
   * Loss of a batch, with metrics if it likes. Default `model.loss(batch, context)`, else the mean cross-entropy of the next token.
   */
  loss?: Loss<M, OnDevice<F>>;
  /** A step of one's own, in place of one update by the loss. Traced; `loss` is what a validation measures then. */
  step?: Step<M, OnDevice<F>>;
  /** Models that losses may read, `context.references`: they share the memory of leaves that are the model's own. */
  references?: Readonly<Record<string, Module>>;
  /**
   * `bf16` and `float16` compute in 16 bits; parameters are kept in float32 all the same, whatever their checkpoint's type. Default `float32`.
   */
  precision?: Precision;
  /** Floating-point operations of the update by a batch, for the share of the devices' peak. Default the model's own figure for tokens. */
  flops?: (batch: Batch<F>) => number;
  /** Devices along each axis of a mesh that the training is spread over. Default: one device. */
  parallel?: ParallelConfig;
  /** Computes a batch in so many equal parts, one after another in the compiled step: the same update with less memory. Default 1. */
  accumulate?: number;
  /** Keeps an exponential running average of the parameters, which validation measures too. */
  average?: { decay: number };
  /** Seed of the parameters, and of the keys that the loss gets. Default 0. */
  seed?: number;
  /**
   * Leaves out GPU kernels whose sums depend on the order in which threads come: the same run then gives the same bits each time. Slower.
   * Default false. On CPU nothing changes.
   */
  deterministic?: boolean;
  /** Validates every so many steps (and at the end), on the data's validation split. */
  validation?: ValidationOptions<M, F>;
  /** Saves every so many steps (and at the end and at an interrupt). */
  checkpoints?: CheckpointOptions;
  /**
   * What a loss or gradient norm that is not finite (or a spike, see `spikes`) does. `stop`, the default, ends the training with the
   * values; the last checkpoint is from before. `skip` leaves the update out, inside the compiled step, and goes on. `rollback` returns to
   * the last checkpoint (or the start) and goes on with the data after the bad batch.
   */
  onDivergence?: "stop" | "skip" | "rollback";
  /** Treats a sudden rise of the loss as a divergence too. Default: it is none. */
  spikes?: SpikeOptions;
  /** Reports norms of gradients, parameters and updates by block, and with `activations` what blocks return, every so many steps. */
  statistics?: StatisticsOptions;
  /** Refuses a step that needs more memory than is free, before it runs. Default true. */
  checkMemory?: boolean;
  /** Told of what happens; may log, stop or sample. */
  callbacks?: readonly TrainerCallback<M>[];
  /** Who else gets the metrics: `metrics.csvLogger()`, `tensorBoardLogger()`, `wandbLogger()`, `mlflowLogger()`. */
  loggers?: readonly MetricsLogger[];
  /**
   * Goes on from the newest checkpoint of this run, if there is one, which must fit exactly; `partial` takes what fits of the checkpoint of
   * another model or other data and reports the rest (`trainer.resumeReport`). Default false: a fresh start, before which the metrics and
   * checkpoints of an earlier run of the name are moved aside.
   */
  resume?: boolean | "partial";
  /** Prints a line every so many steps; default a twentieth of all; 0 for none. On a terminal one line is written over instead. */
  printEvery?: number;
  /** Folder of the runs. Default `runs`. */
  folder?: string;
}

/** The configuration without what depends on the model's class. */
export type Settings = Omit<
  TrainerConfig<TrainableModel, object>,
  "loss" | "step" | "callbacks" | "flops" | "validation"
> & {
  readonly loss?: unknown;
  readonly step?: unknown;
  readonly flops?: unknown;
  readonly callbacks?: readonly object[];
  readonly validation?: { readonly every: number; readonly batches?: number; readonly measure?: unknown };
};

/** The configuration as JSON, for the run's record. */
export function describe(config: Settings): { [field: string]: JsonValue } {
  const { name, steps, parallel = {}, accumulate = 1, seed = 0, data, optimizer, optimizers } = config;
  const { onDivergence = "stop", average, model, deterministic = false } = config;
  const sizes = Object.entries(parallel).filter(([, size]) => typeof size === "number" && size > 1);
  return {
    name,
    steps,
    precision: { ...resolvePrecision(config.precision) },
    seed,
    accumulate,
    ...(sizes.length > 0 && { parallel: sizes.map(([axis, size]) => `${axis}=${size}`).join(", ") }),
    ...(data !== undefined && { batchSize: data.batchSize }),
    ...(data?.sequenceLength !== undefined && { sequenceLength: data.sequenceLength }),
    onDivergence,
    ...(deterministic && { deterministic }),
    ...(average !== undefined && { averageDecay: average.decay }),
    ...(optimizer !== undefined && { optimizer: madeWith(optimizer) }),
    ...(optimizers !== undefined && {
      optimizers: Object.fromEntries(Object.entries(optimizers).map(([part, o]) => [part, madeWith(o)])),
    }),
    model: {
      kind: model.constructor.name,
      parameters: model.parameterCount,
      ...plainFields((model as { config?: object }).config ?? {}),
    },
  };
}

/** Fields that are finite numbers, texts or truth values, and those of objects among them. */
function plainFields(fields: object): { [field: string]: JsonValue } {
  const plain: { [field: string]: JsonValue } = {};
  for (const [name, value] of Object.entries(fields) as [string, unknown][]) {
    const isNumber = typeof value === "number" && Number.isFinite(value);
    if (isNumber || typeof value === "string" || typeof value === "boolean") plain[name] = value;
    else if (typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype)
      plain[name] = plainFields(value);
  }
  return plain;
}

/** The plain options of an optimizer or schedule and of those inside it, with the name of the function that made it. */
function madeWith({ kind, options = {} }: { kind?: string; options?: object }): {
  [field: string]: JsonValue;
} {
  const plain: { [field: string]: JsonValue } = { kind: kind ?? "custom", ...plainFields(options) };
  for (const [name, value] of Object.entries(options) as [string, unknown][]) {
    if (typeof (value as { options?: unknown } | undefined)?.options === "object")
      plain[name] = madeWith(value as object);
  }
  return plain;
}

type Check = (value: unknown) => boolean;

interface Rule {
  readonly holds: Check;
  readonly fix: string;
}

const isCount: Check = (x) => Number.isSafeInteger(x) && (x as number) >= 1;
const count: Rule = { holds: isCount, fix: "give a positive integer" };
const countOrNone: Rule = {
  holds: (x) => x === 0 || isCount(x),
  fix: "give an integer of at least 0",
};
const oneOf = (...values: readonly unknown[]): Rule => ({
  holds: (x) => values.includes(x),
  fix: `use ${values.map((v) => JSON.stringify(v)).join(", ")}`,
});
const having = (what: string, ...methods: readonly string[]): Rule => ({
  holds: (x) =>
    typeof x === "object" &&
    x !== null &&
    methods.every((name) => typeof (x as Record<string, unknown>)[name] === "function"),
  fix: `give ${what}`,
});
const list: Rule = { holds: (x) => Array.isArray(x), fix: "give an array" };

/** The rule of every field by its path; a field of an object that is not there is not checked. */
const rules: Readonly<Record<string, Rule>> = {
  name: {
    holds: (x) => typeof x === "string" && /^[^./\\\0][^/\\\0]{0,127}$/.test(x),
    fix: "use 1 to 128 characters without slashes, not beginning with a dot: the name becomes a folder",
  },
  model: { holds: (x) => x instanceof Module, fix: "give an nn.Module" },
  data: having(
    "a source of batches, e.g. text.packed(...); several go into data.mixture or data.alternating",
    "next",
    "position",
    "restore",
  ),
  optimizers: {
    holds: (x) =>
      typeof x === "object" &&
      x !== null &&
      Object.keys(x).length > 0 &&
      Object.values(x).every((o) => having("", "init", "update").holds(o)),
    fix: "give optimizers by names of parts of the model: { g: adam({ learningRate }), d: adam({ learningRate }) }",
  },
  references: {
    holds: (x) => typeof x === "object" && x !== null && Object.values(x).every((m) => m instanceof Module),
    fix: "give Modules by name: { base: model }",
  },
  flops: { holds: (x) => typeof x === "function", fix: "give a function of a batch" },
  optimizer: having(
    "an optimizer, e.g. adamw({ learningRate: 3e-4 }); several go into optimizers: { part: optimizer }",
    "init",
    "update",
  ),
  steps: count,
  step: {
    holds: (x) => typeof x === "function",
    fix: "give a function: ({ model, update, key }, batch) => { update(loss); }",
  },
  loss: { holds: (x) => typeof x === "function", fix: "give a function of the model and a batch" },
  precision: {
    holds: (x) => typeof x === "string" || (typeof x === "object" && x !== null),
    fix: 'use "float32", "bf16", "float16" or { compute, parameters, rounding }',
  },
  parallel: having("{ data, fsdp, tensor }"),
  "parallel.data": count,
  "parallel.fsdp": count,
  "parallel.tensor": count,
  "parallel.rules": having("logical axes with the mesh axes that split them"),
  accumulate: count,
  average: having("{ decay }"),
  "average.decay": {
    holds: (x) => typeof x === "number" && x >= 0 && x < 1,
    fix: "give a number in [0, 1), e.g. 0.999",
  },
  seed: { holds: (x) => Number.isSafeInteger(x), fix: "give an integer" },
  deterministic: oneOf(true, false),
  validation: having("{ every, batches }"),
  "validation.every": count,
  "validation.batches": count,
  "validation.measure": {
    holds: (x) => typeof x === "function",
    fix: "give a function: async ({ model, batches, step }) => ({ wer: ... })",
  },
  checkpoints: having("{ every, keep, keepBest, save }"),
  "checkpoints.every": count,
  "checkpoints.keep": count,
  "checkpoints.keepBest": {
    holds: (x) =>
      countOrNone.holds(x) ||
      (typeof x === "object" &&
        x !== null &&
        isCount((x as KeepBest).count) &&
        ["string", "undefined"].includes(typeof (x as KeepBest).by) &&
        ["min", "max", undefined].includes((x as KeepBest).mode)),
    fix: 'give an integer of at least 0, or { count, by: "valid_loss", mode: "min" }',
  },
  "checkpoints.save": {
    holds: (x) => x === "trained" || x === "all" || (typeof x === "object" && x !== null),
    fix: 'use "trained", "all" or { name: pattern }',
  },
  onDivergence: oneOf("stop", "skip", "rollback"),
  spikes: having("{ deviations, window }"),
  "spikes.deviations": {
    holds: (x) => typeof x === "number" && x > 0 && Number.isFinite(x),
    fix: "give a positive number, e.g. 6",
  },
  "spikes.window": { holds: (x) => isCount(x) && (x as number) >= 2, fix: "give an integer of at least 2" },
  statistics: having("{ every, activations }"),
  "statistics.every": count,
  "statistics.activations": oneOf(true, false),
  checkMemory: oneOf(true, false),
  callbacks: list,
  loggers: list,
  resume: oneOf(true, false, "partial"),
  printEvery: countOrNone,
  folder: { holds: (x) => typeof x === "string" && x !== "", fix: "give the path of a folder" },
};

const required = [
  "name",
  "model",
  "steps",
  "average.decay",
  "validation.every",
  "checkpoints.every",
  "spikes.deviations",
  "statistics.every",
];

/** Names of the fields of a configuration, those of its objects with a dot. */
export const configFields: readonly string[] = Object.keys(rules);

/** @throws ArgumentError that names the field, its value and the fix */
export function checkConfig(config: Settings): void {
  checkFields(config as unknown as Record<string, unknown>, "");
  const { model, data, optimizer, optimizers, accumulate = 1, callbacks = [], loggers = [] } = config;
  resolvePrecision(config.precision);
  if ((optimizer === undefined) === (optimizers === undefined)) {
    throw new ArgumentError(
      `Trainer: ${optimizer === undefined ? "optimizer is missing" : "optimizer and optimizers are both given"}`,
      "give an optimizer, e.g. adamw({ learningRate: 3e-4 }), or optimizers: { part: optimizer }",
    );
  }
  for (const field of ["batchSize", "sequenceLength"] as const) {
    if (data === undefined || (field === "sequenceLength" && data[field] === undefined)) continue;
    if (!isCount(data[field]))
      throw new ArgumentError(`Trainer: data.${field} is ${show(data[field])}`, count.fix);
  }
  if (accumulate > 1 && couplingOf(config.loss) === true) {
    throw new ArgumentError(
      `Trainer: accumulate is ${accumulate}, and the loss couples the rows of a batch: of parts it would be another loss`,
      "leave accumulate out, or declare how the rows meet: coupled({ embed, loss })",
    );
  }
  for (const [i, callback] of callbacks.entries()) {
    if (typeof callback !== "object" || callback === null)
      throw new ArgumentError(
        `Trainer: callbacks[${i}] is ${show(callback)}`,
        "give an object with onStep(event) or another event",
      );
    const events = Object.keys(callback).filter((name) => /^on[A-Z]/i.test(name));
    refuseUnknown(`Trainer: callbacks[${i}]: there is no event`, events, eventNames);
  }
  for (const [i, logger] of loggers.entries()) {
    if (!having("", "start", "rows", "status").holds(logger))
      throw new ArgumentError(
        `Trainer: loggers[${i}] is ${show(logger)}`,
        "give a logger, e.g. metrics.csvLogger()",
      );
  }
  const vocabulary = vocabularyOf(model);
  if (vocabulary !== undefined && data?.vocabSize !== undefined && data.vocabSize > vocabulary) {
    throw new ArgumentError(
      `Trainer: the data's tokenizer has ids up to ${data.vocabSize - 1}, the model's vocabSize is ${vocabulary}`,
      `make the model with vocabSize: ${data.vocabSize}`,
    );
  }
  if (data !== undefined && data.batchSize % accumulate !== 0) {
    throw new ArgumentError(
      `Trainer: accumulate is ${accumulate}, and a batch of ${data.batchSize} rows has no ${accumulate} equal parts`,
      "give a divisor of the data's batchSize",
    );
  }
  if ((config.resume ?? false) !== false && config.checkpoints === undefined) {
    throw new ArgumentError(
      `Trainer: resume is ${show(config.resume)} without checkpoints: there is none to go on from`,
      "set checkpoints: { every }",
    );
  }
  if (config.validation !== undefined && typeof data?.validation !== "function") {
    throw new ArgumentError(
      "Trainer: validation is set, and the data have no method validation(maxBatches)",
      "add it to the source, or leave validation out",
    );
  }
  const keepBest = bestOf(config.checkpoints);
  if (keepBest.count > 0 && config.validation === undefined) {
    throw new ArgumentError(
      `Trainer: checkpoints.keepBest is ${keepBest.count} without validation: no checkpoint would be better than another`,
      "set validation: { every }, or leave keepBest out",
    );
  }
}

/** How many of the best checkpoints are kept, and by which figure. */
export function bestOf(checkpoints: CheckpointOptions | undefined): Required<KeepBest> {
  const { keepBest = 0 } = checkpoints ?? {};
  const {
    count: many,
    by = "valid_loss",
    mode = "min",
  } = typeof keepBest === "number" ? { count: keepBest } : keepBest;
  return { count: many, by, mode };
}

/** Number of ids that a model knows, where it tells. */
export function vocabularyOf(model: object): number | undefined {
  return (model as { config?: { vocabSize?: number } }).config?.vocabSize;
}

function checkFields(fields: Readonly<Record<string, unknown>>, above: string): void {
  const known = configFields.filter(
    (path) => path.startsWith(above) && !path.slice(above.length).includes("."),
  );
  for (const [name, value] of Object.entries(fields)) {
    const path = above + name;
    const rule = rules[path];
    if (rule === undefined) {
      refuseUnknown("Trainer: there is no field", [path], known);
      continue;
    }
    if (value === undefined) continue;
    if (!rule.holds(value)) throw new ArgumentError(`Trainer: ${path} is ${show(value)}`, rule.fix);
    if (configFields.some((other) => other.startsWith(`${path}.`))) {
      checkFields(value as Record<string, unknown>, `${path}.`);
    }
  }
  for (const path of required) {
    const name = path.slice(above.length);
    if (path.startsWith(above) && !name.includes(".") && fields[name] === undefined) {
      throw new ArgumentError(`Trainer: ${path} is missing`, rules[path]!.fix);
    }
  }
}

function show(value: unknown): string {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return Object.getPrototypeOf(value) === Object.prototype
      ? JSON.stringify(value)
      : `a ${value.constructor?.name ?? "object"}`;
  }
  return typeof value === "function" ? "a function" : (JSON.stringify(value) ?? String(value));
}
