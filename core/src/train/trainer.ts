/** Training a model: steps, metrics, validation, checkpoints, interruption. */
import { randomUUID } from "node:crypto";
import { fromBytes, scalar } from "../array/creation.js";
import { stack } from "../array/joining.js";
import type { Tensor } from "../array/tensor.js";
import { CheckpointStore } from "../checkpoint/index.js";
import type { Batch, BatchSource, DataPosition } from "../data/batch.js";
import { ArgumentError, AronnaxError } from "../graph/errors.js";
import { type MetricsLogger, type MetricsRow, RunWriter } from "../metrics/index.js";
import { crossEntropy } from "../nn/losses.js";
import { castTree, initialize, type Module } from "../nn/module.js";
import type { Optimizer } from "../optim/optimizer.js";
import { RuntimeLost } from "../runtime/errors.js";
import { Runtime } from "../runtime/runtime.js";
import { jit } from "../transform/jit.js";
import { leaves } from "../transform/tree.js";
import { valueAndGrad } from "../transform/vjp.js";
import { Interrupted, Interruption } from "./interrupt.js";
import { progressOf, restore, snapshot, type TrainState } from "./state.js";

/** A batch on the device: integer [batch, time] each, and the weights of the targets. */
export interface DeviceBatch {
  readonly inputs: Tensor;
  readonly targets: Tensor;
  readonly weights?: Tensor;
}

interface TrainableModel extends Module {
  forward(tokens: Tensor): Tensor;
  flopsPerToken?(time: number): number;
}

export interface TrainerConfig<M extends TrainableModel> {
  /** Names the run and its folder. */
  name: string;
  /** Drawn anew if it has no values yet; a loaded or trained one is copied and stays as it is. */
  model: M;
  data: BatchSource;
  optimizer: Optimizer;
  /** Updates in all. */
  steps: number;
  /** Scalar loss of a batch; default the mean cross-entropy of the next token. */
  loss?: (model: M, batch: DeviceBatch) => Tensor;
  /** `bf16` computes in bfloat16 with float32 parameters. Default `float32`. */
  precision?: "float32" | "bf16";
  /** Seed of the parameters. Default 0. */
  seed?: number;
  /** Validates every so many steps (and at the end), on at most `batches` batches of the data's validation split. */
  validation?: { every: number; batches?: number };
  /**
   * Saves every so many steps (and at the end and at an interrupt), and keeps the last `keep` (default 3) and of the older ones the
   * `keepBest` with the lowest validation loss (default 0).
   */
  checkpoints?: { every: number; keep?: number; keepBest?: number };
  /** Who else gets the metrics: `metrics.csvLogger()`, `tensorBoardLogger()`, `wandbLogger()`, `mlflowLogger()`. */
  loggers?: readonly MetricsLogger[];
  /** Goes on from the newest checkpoint of this run, if there is one. Default false: a fresh start. */
  resume?: boolean;
  /** Prints a line every so many steps; default a twentieth of all; 0 for none. */
  printEvery?: number;
  /** Folder of the runs. Default `runs`. */
  folder?: string;
}

/** The configuration without what depends on the model's class. */
type Settings = Omit<TrainerConfig<TrainableModel>, "loss">;

/** How a call of `fit` ended. */
export interface FitResult {
  readonly status: "finished" | "interrupted";
  readonly step: number;
  /** Of the last step. */
  readonly loss: number;
  /** Of the last validation. */
  readonly validationLoss?: number;
}

/** A loss that is not a number: nothing that follows would be one. */
export class TrainingDiverged extends AronnaxError {}

/** Steps queued on the device before the oldest is waited for. */
const inFlight = 2;
const memoryEverySeconds = 1;
/** Steps over which speeds are averaged. */
const speedWindow = 8;

interface Pending {
  readonly step: number;
  readonly tokens: number;
  /** Loss, learning rate and gradient norm, with the moment of their arrival. */
  readonly result: Promise<{ values: ArrayLike<number | bigint>; at: number }>;
}

/**
 * Trains a model. `fit()` may be called again: after an interrupt it goes on with the next step; after the runtime was lost it goes on
 * from the last checkpoint.
 */
export class Trainer<M extends TrainableModel> {
  readonly config: Readonly<TrainerConfig<M>>;
  readonly #store: CheckpointStore | undefined;
  /** Known before the run begins, so that a panel can wait for it. */
  #id: string = randomUUID();
  #run: RunWriter | undefined;
  #state: TrainState<M> | undefined;
  /** Updates done, as the host counts them. */
  #step = 0;
  #tokens = 0;
  /** Where the data stood before the first step, and after the last one. */
  #start: DataPosition | undefined;
  #position: DataPosition | undefined;
  #loss = Number.NaN;
  #validationLoss: number | undefined;
  #validatedAt = -1;
  #running = false;
  #lost = false;
  readonly #train: (state: TrainState<M>, batch: DeviceBatch) => [TrainState<M>, Tensor];
  readonly #evaluate: (model: M, batch: DeviceBatch) => Tensor;

  constructor(config: TrainerConfig<M>) {
    checkConfig(config);
    this.config = config;
    const root = config.folder ?? "runs";
    if (config.checkpoints !== undefined) {
      const { keep = 3, keepBest } = config.checkpoints;
      this.#store = new CheckpointStore(`${root}/${config.name}/checkpoints`, { keep, keepBest });
    }
    const { optimizer, steps } = config;
    const compute = (model: M): M => (config.precision === "bf16" ? castTree(model, "bfloat16") : model);
    const loss =
      config.loss ??
      ((model: M, batch: DeviceBatch) =>
        crossEntropy(model.forward(batch.inputs), batch.targets, batch.weights));
    const lossOf = (model: M, batch: DeviceBatch): Tensor => loss(compute(model), batch);
    this.#train = jit(
      (state: TrainState<M>, batch: DeviceBatch): [TrainState<M>, Tensor] => {
        const [value, gradients] = valueAndGrad(lossOf)(state.model, batch);
        const [model, optimizerState, report] = optimizer.update(gradients, state.optimizer, state.model, {
          step: state.step,
          totalSteps: steps,
        });
        const metrics = stack([value.astype("float32"), report.learningRate, report.gradientNorm]);
        return [{ model, optimizer: optimizerState, step: state.step.add(1) }, metrics];
      },
      { donate: [0], name: "train_step", tag: tagOf },
    );
    this.#evaluate = jit(lossOf, { name: "evaluate" });
  }

  /** The model with its present parameters. While `fit` runs they are replaced with every step. */
  get model(): M {
    return this.#state?.model ?? this.config.model;
  }

  /** Updates done. */
  get step(): number {
    return this.#step;
  }

  /** The run's metrics so far, one row for each step and validation. */
  get rows(): readonly MetricsRow[] {
    return this.#run?.rows ?? [];
  }

  /**
   * Trains until `steps` updates are done.
   *
   * @param options.signal - ends the training at the next step boundary; `fit` then resolves with status `interrupted`
   * @throws Interrupted when the notebook interrupts the cell; the state is kept
   */
  async fit(options: { signal?: AbortSignal } = {}): Promise<FitResult> {
    if (this.#running) {
      throw new ArgumentError(
        `the run "${this.config.name}" is being trained already`,
        "await the first fit() before the next",
      );
    }
    this.#running = true;
    using interruption = new Interruption(options.signal);
    try {
      await this.#prepare();
      const run = this.#run!;
      run.status("running");
      await this.#loop(run, interruption);
      const finished = this.#step >= this.config.steps;
      if (this.#store !== undefined) await this.#save();
      run.status(finished ? "finished" : "interrupted");
      if (!finished && interruption.byKernel) {
        throw new Interrupted(
          `stopped after step ${this.#step} of ${this.config.steps}; parameters, optimizer and data position are kept`,
          "call fit() again to go on",
        );
      }
      return {
        status: finished ? "finished" : "interrupted",
        step: this.#step,
        loss: this.#loss,
        ...(this.#validationLoss !== undefined && { validationLoss: this.#validationLoss }),
      };
    } catch (error) {
      await this.#failed(error);
      throw error;
    } finally {
      this.#running = false;
    }
  }

  async #failed(error: unknown): Promise<void> {
    if (error instanceof Interrupted) return;
    this.#run?.status("failed", error instanceof Error ? error.message : String(error));
    if (error instanceof RuntimeLost || Runtime.default().lost !== undefined) {
      // The buffers are gone with the process.
      this.#state = undefined;
      this.#lost = true;
      const steps = await this.#store?.steps().catch(() => []);
      const last = steps?.at(-1);
      console.error(
        last === undefined
          ? `The runtime was lost at step ${this.#step} and the run "${this.config.name}" has no checkpoint: fit() will start again from step 0.`
          : `The runtime was lost at step ${this.#step}: call fit() again to go on from the checkpoint of step ${last}.`,
      );
    }
  }

  /** Data, parameters and run: what a first step needs. */
  async #prepare(): Promise<void> {
    const { config } = this;
    await config.data.prepare();
    if (this.#state !== undefined) return;
    const resume = config.resume === true || this.#lost;
    const checkpoint = resume ? await this.#store?.latest() : undefined;
    this.#start ??= config.data.position();
    if (checkpoint === undefined) {
      const model = startingPoint(config.model, config.seed ?? 0);
      this.#state = { model, optimizer: this.#initOptimizer(model), step: scalar(0, "int32") };
      this.#step = 0;
      this.#tokens = 0;
      this.#position = this.#start;
    } else {
      const progress = progressOf(checkpoint);
      const model = await restore(config.model, checkpoint.files.model!, "parameter");
      const optimizer = await restore(this.#initOptimizer(model), checkpoint.files.optimizer!, "optimizer");
      this.#state = { model, optimizer, step: scalar(progress.step, "int32") };
      this.#step = progress.step;
      this.#tokens = progress.tokens;
      this.#position = progress.data as DataPosition;
      console.log(`resumed "${config.name}" from the checkpoint of step ${progress.step}`);
    }
    await config.data.restore(this.#position!);
    if (this.#run === undefined || this.#lost) {
      if (this.#run !== undefined) this.#id = randomUUID();
      this.#run = new RunWriter({
        id: this.#id,
        name: config.name,
        root: config.folder ?? "runs",
        totalSteps: config.steps,
        loggers: config.loggers,
        config: describe(config),
        ...(checkpoint !== undefined && { resumeAfterStep: this.#step }),
      });
    }
    this.#lost = false;
  }

  #initOptimizer(model: M): unknown {
    const { optimizer } = this.config;
    return jit((parameters: M) => optimizer.init(parameters), {
      name: "init_optimizer",
      tag: () => "optimizer",
    })(model);
  }

  async #loop(run: RunWriter, interruption: Interruption): Promise<void> {
    const { steps, validation, checkpoints, data } = this.config;
    const meter = new Meter(run, this.config);
    const queue: Pending[] = [];
    while (this.#step < steps && !interruption.requested) {
      const batch = await data.next();
      const [state, metrics] = this.#train(this.#state!, onDevice(batch));
      this.#state = state;
      this.#position = batch.after;
      this.#step++;
      this.#tokens += batch.batchSize * batch.sequenceLength;
      const result = metrics.data().then((values) => ({ values, at: performance.now() }));
      result.catch(() => {});
      queue.push({ step: this.#step, tokens: this.#tokens, result });
      const validate =
        validation !== undefined && (this.#step % validation.every === 0 || this.#step === steps);
      const save = checkpoints !== undefined && this.#step % checkpoints.every === 0 && this.#step < steps;
      const last = this.#step === steps || interruption.requested;
      while (queue.length > (validate || last ? 0 : inFlight))
        this.#loss = await meter.record(queue.shift()!);
      if (validate) {
        this.#validationLoss = await this.#validate(validation.batches);
        this.#validatedAt = this.#step;
        if (this.#validationLoss !== undefined) {
          run.log({ step: this.#step, tokens: this.#tokens, valid_loss: this.#validationLoss });
          meter.note(`validation loss ${this.#validationLoss.toFixed(4)}`);
        }
        meter.skip();
      }
      if (save) {
        const step = this.#step;
        this.#save().catch((error: Error) => console.error(`checkpoint of step ${step}: ${error.message}`));
      }
    }
    for (const pending of queue) this.#loss = await meter.record(pending);
  }

  /** Mean loss over the validation split; undefined without one. */
  async #validate(limit?: number): Promise<number | undefined> {
    let total = 0;
    let count = 0;
    const pending: Promise<number>[] = [];
    for await (const batch of this.config.data.validation(limit)) {
      pending.push(this.#evaluate(this.#state!.model, onDevice(batch)).item());
      count++;
      if (pending.length > inFlight) total += await pending.shift()!;
    }
    for (const value of pending) total += await value;
    return count === 0 ? undefined : total / count;
  }

  async #save(): Promise<void> {
    const state = this.#state!;
    await this.#store!.save({
      step: this.#step,
      score: this.#validatedAt === this.#step ? this.#validationLoss : undefined,
      tensors: { model: snapshot(state.model), optimizer: snapshot(state.optimizer) },
      trainer: {
        version: 1,
        step: this.#step,
        tokens: this.#tokens,
        seed: this.config.seed ?? 0,
        data: this.#position ?? null,
      },
    });
  }

  /** A live panel in JupyterLab; elsewhere a line. */
  [Symbol.for("Jupyter.display")](): Record<string, unknown> {
    const { name, steps } = this.config;
    const line = `Trainer "${name}": step ${this.#step} of ${steps}${Number.isNaN(this.#loss) ? "" : `, loss ${this.#loss.toFixed(4)}`}`;
    const path = `${this.config.folder ?? "runs"}/${name}/metrics.arrow`;
    return {
      "text/plain": line,
      "application/vnd.aronnax.run+json": { version: 1, id: this.#id, name, path },
    };
  }
}

/** Speeds, memory and the printed lines. */
class Meter {
  readonly #run: RunWriter;
  readonly #config: Settings;
  readonly #printEvery: number;
  /** Moments of the last results, oldest first; before the first one that of the start. */
  #arrivals = [performance.now()];
  #started = false;
  #memoryAt = Number.NEGATIVE_INFINITY;
  #tokens: number | undefined;

  constructor(run: RunWriter, config: Settings) {
    this.#run = run;
    this.#config = config;
    this.#printEvery = config.printEvery ?? Math.max(1, Math.round(config.steps / 20));
  }

  /** Waits for a step's metrics and logs them; returns the loss. */
  async record({ step, tokens, result }: Pending): Promise<number> {
    const { values, at } = await result;
    const [loss, learningRate, gradientNorm] = Array.from(values, Number) as [number, number, number];
    // Over some steps: two results may arrive in one turn of the event loop.
    const seconds = (at - this.#arrivals[0]!) / 1000 / this.#arrivals.length;
    // The first result waited for the compiler as well.
    if (this.#started) this.#arrivals.push(at);
    else this.#arrivals = [at];
    this.#started = true;
    if (this.#arrivals.length > speedWindow) this.#arrivals.shift();
    const { batchSize, sequenceLength } = this.#config.data;
    const rate = (batchSize * sequenceLength) / seconds;
    const row: MetricsRow = {
      step,
      tokens,
      loss,
      learning_rate: learningRate,
      gradient_norm: gradientNorm,
      tokens_per_second: rate,
      step_seconds: seconds,
      ...(await this.#memory(at)),
    };
    this.#run.log(row);
    if (!Number.isFinite(loss)) {
      throw new TrainingDiverged(
        `the loss of step ${step} is ${loss} (gradient norm ${gradientNorm}, learning rate ${learningRate})`,
        "lower the learning rate, lengthen the warm-up or set clipNorm; the last checkpoint is from before",
      );
    }
    if (this.#printEvery > 0 && (step % this.#printEvery === 0 || step === 1)) {
      const { steps } = this.#config;
      console.log(
        `step ${String(step).padStart(String(steps).length)}/${steps}  loss ${loss.toFixed(4)}  lr ${learningRate.toExponential(2)}  grad norm ${gradientNorm.toFixed(2)}  ${Math.round(rate).toLocaleString("en")} tokens/s`,
      );
    }
    this.#tokens = tokens;
    return loss;
  }

  /** Bytes by category, about once a second. */
  async #memory(now: number): Promise<Partial<MetricsRow>> {
    if (now - this.#memoryAt < memoryEverySeconds * 1000) return {};
    this.#memoryAt = now;
    const { devices } = await Runtime.default().memory();
    const total = (tag: "parameter" | "optimizer" | "data"): number =>
      devices.reduce((n, d) => n + (d.byTag[tag] ?? 0), 0);
    return {
      memory_parameters: total("parameter"),
      memory_optimizer: total("optimizer"),
      memory_data: total("data"),
      memory_total: devices.reduce((n, d) => n + (d.inUse ?? d.buffers), 0),
    };
  }

  note(text: string): void {
    if (this.#printEvery > 0)
      console.log(
        `  ${text}${this.#tokens === undefined ? "" : ` after ${this.#tokens.toLocaleString("en")} tokens`}`,
      );
  }

  /** Leaves the time since the last step out of the speeds: it was not training. */
  skip(): void {
    this.#arrivals = [performance.now()];
  }
}

function tagOf(path: string): "parameter" | "optimizer" | undefined {
  if (path.startsWith("0.model")) return "parameter";
  return path.startsWith("0.optimizer") ? "optimizer" : undefined;
}

function onDevice(batch: Batch): DeviceBatch {
  const shape = [batch.batchSize, batch.sequenceLength];
  const bytes = (view: ArrayBufferView): Uint8Array =>
    new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  return {
    inputs: fromBytes(bytes(batch.inputs), shape, "int32"),
    targets: fromBytes(bytes(batch.targets), shape, "int32"),
    ...(batch.weights !== undefined && { weights: fromBytes(bytes(batch.weights), shape, "float32") }),
  };
}

const copy = jit((model: Module) => model, { name: "copy", tag: () => "parameter" });

/** Draws the parameters of a model that has none yet; copies those of one that was trained or loaded, since a step takes them over. */
function startingPoint<M extends Module>(model: M, seed: number): M {
  return leaves(model).some((leaf) => leaf.buffer !== undefined)
    ? (copy(model) as M)
    : initialize(model, seed);
}

/** The configuration as JSON, for the run's record. */
function describe(config: Settings): Record<string, string | number | boolean> {
  const { name, steps, precision = "float32", seed = 0, data } = config;
  return {
    name,
    steps,
    precision,
    seed,
    batchSize: data.batchSize,
    sequenceLength: data.sequenceLength,
  };
}

function checkConfig(config: Settings): void {
  const positive = (field: string, value: number | undefined): void => {
    if (value !== undefined && (!Number.isInteger(value) || value < 1)) {
      throw new ArgumentError(`Trainer: ${field} is ${value}`, "give a positive integer");
    }
  };
  positive("steps", config.steps);
  positive("validation.every", config.validation?.every);
  positive("validation.batches", config.validation?.batches);
  positive("checkpoints.every", config.checkpoints?.every);
  positive("checkpoints.keep", config.checkpoints?.keep);
  if (config.precision !== undefined && !["float32", "bf16"].includes(config.precision)) {
    throw new ArgumentError(`Trainer: precision is "${String(config.precision)}"`, 'use "float32" or "bf16"');
  }
  const vocabulary = (config.model as { config?: { vocabSize?: number } }).config?.vocabSize;
  if (vocabulary !== undefined && config.data.vocabSize > vocabulary) {
    throw new ArgumentError(
      `Trainer: the data's tokenizer has ids up to ${config.data.vocabSize - 1}, the model's vocabSize is ${vocabulary}`,
      `make the model with vocabSize: ${config.data.vocabSize}`,
    );
  }
}
