/** Training a model: the loop of steps, validation, checkpoints, divergence and interruption. */
import { randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { ArgumentError } from "../graph/errors.js";
import { Interrupted, Interruption } from "../host/interrupt.js";
import { type MetricsRow, RunWriter } from "../metrics/index.js";
import { RuntimeLost } from "../runtime/errors.js";
import { Runtime } from "../runtime/runtime.js";
import { type Jitted, jit } from "../transform/jit.js";
import { checkBatch } from "./batches.js";
import {
  type CheckpointEvent,
  emit,
  emitToAll,
  type TrainerCallback,
  type TrainingHandle,
} from "./callbacks.js";
import { type PartialReport, TrainingCheckpoints } from "./checkpoints.js";
import { checkConfig, describe, type TrainerConfig } from "./config.js";
import { DivergencePolicy, describeDivergence, TrainingDiverged } from "./divergence.js";
import { Evaluation } from "./evaluation.js";
import { requireMemory, stepMemory } from "./memory.js";
import { Meter } from "./meter.js";
import { type ParallelPlan, planOf } from "./parallel.js";
import { arriving, inFlight, type Pending } from "./pending.js";
import { type DeviceBatch, placeBatch } from "./placement.js";
import { Progress } from "./progress.js";
import type { TrainState } from "./state.js";
import { type StepOptions, type StepReport, type TrainableModel, update } from "./step.js";
import { takePart } from "./underway.js";

/** How a call of `fit` ended: all steps done, by an interrupt or signal, or by a callback. */
export interface FitResult {
  readonly status: "finished" | "interrupted" | "stopped";
  readonly step: number;
  /** Of the last step; NaN if there was none. */
  readonly loss: number;
  /** Of the last validation. */
  readonly validationLoss?: number;
}

/**
 * Trains a model. `fit()` may be called again: after an interrupt it goes on with the next step; after the runtime was lost it goes on
 * from the last checkpoint.
 */
export class Trainer<M extends TrainableModel> {
  readonly config: Readonly<TrainerConfig<M>>;
  readonly #checkpoints: TrainingCheckpoints | undefined;
  readonly #plan: ParallelPlan | undefined;
  readonly #callbacks: readonly TrainerCallback<M>[];
  readonly #root: string;
  /** Known before the run begins, so that a panel can wait for it. */
  #id: string = randomUUID();
  /** That the state lies in. */
  #runtime: Runtime | undefined;
  #run: RunWriter | undefined;
  readonly #at: Progress<M>;
  /** Steps that are queued on the device. */
  #queue: Pending<M>[] = [];
  /** The newest step whose figures have come. */
  #recorded = 0;
  #loss = Number.NaN;
  #validationLoss: number | undefined;
  #validatedAt = -1;
  #running = false;
  /** Whether the state is gone: with the runtime, or with a step that the device could not compute. */
  #lost = false;
  /** Why the state is worthless: a loss that is not finite, whose update was made. */
  #diverged: string | undefined;
  /** Why a callback ended the training. */
  #stopReason: string | undefined;
  readonly #divergence: DivergencePolicy;
  /** The checkpoint that is being written; it never rejects. */
  #saving: Promise<void> = Promise.resolve();
  /** Checkpoints on the disk that the callbacks have not heard of. */
  #saved: CheckpointEvent[] = [];
  readonly #train: Jitted<[TrainState<M>, DeviceBatch], [TrainState<M>, StepReport]>;
  readonly #evaluation: Evaluation<M>;

  constructor(config: TrainerConfig<M>) {
    checkConfig(config);
    this.config = config;
    this.#callbacks = config.callbacks ?? [];
    this.#divergence = new DivergencePolicy(config.onDivergence ?? "stop");
    this.#root = resolve(config.folder ?? "runs");
    if (config.checkpoints !== undefined) {
      this.#checkpoints = new TrainingCheckpoints(join(this.#folder, "checkpoints"), config.checkpoints);
    }
    this.#plan = planOf(config);
    this.#at = new Progress(config, this.#checkpoints, this.#plan);
    const options: StepOptions<M> = {
      loss: config.loss,
      precision: config.precision ?? "float32",
      plan: this.#plan,
      optimizer: config.optimizer,
      totalSteps: config.steps,
      seed: config.seed ?? 0,
      microbatches: config.accumulate ?? 1,
      averageDecay: config.average?.decay,
      spikes: config.spikes,
      skip: config.onDivergence === "skip",
      statistics: config.statistics,
      compiler: config.deterministic === true ? { flags: { xla_gpu_deterministic_ops: true } } : undefined,
    };
    this.#train = jit((state: TrainState<M>, batch: DeviceBatch) => update(state, batch, options), {
      donate: [0],
      name: "train_step",
      tag: tagOf,
      compiler: options.compiler,
    });
    this.#evaluation = new Evaluation(config, options);
  }

  /** The model with its present parameters. While `fit` runs they are replaced with every step. */
  get model(): M {
    return this.#at.state?.model ?? this.config.model;
  }

  /** The model with the running average of the parameters, with `average` in the configuration and once `fit` has begun. */
  get averaged(): M | undefined {
    return this.#at.state?.average ?? undefined;
  }

  /** With `resume: "partial"`: what of the checkpoint did not fit. */
  get resumeReport(): PartialReport | undefined {
    return this.#at.partial;
  }

  /** Updates done. */
  get step(): number {
    return this.#at.step;
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
   * @throws TrainingDiverged when the loss is not finite, see `onDivergence`
   */
  async fit(options: { signal?: AbortSignal } = {}): Promise<FitResult> {
    return this.#exclusively(async () => {
      using _ = takePart(this.config.name, this.#folder, this.config.data);
      using interruption = new Interruption(options.signal);
      let result: FitResult;
      try {
        result = await this.#fitOnce(interruption, options.signal);
        if (result.status === "interrupted" && interruption.byKernel) {
          throw new Interrupted(
            `stopped after step ${this.#at.step} of ${this.config.steps}; parameters, optimizer and data position are kept`,
            "call fit() again to go on",
          );
        }
      } catch (error) {
        const interrupted = error instanceof Interrupted;
        const later = interrupted ? [] : await this.#failed(error);
        const end = { status: interrupted ? "interrupted" : "failed", step: this.#at.step } as const;
        later.push(...(await emitToAll(this.#callbacks, "onEnd", end, this.#handle)));
        // The first failure is the one to report.
        for (const each of later) console.error("a callback failed as well:", each);
        throw error;
      }
      const end = { status: result.status, step: result.step };
      const errors = await emitToAll(this.#callbacks, "onEnd", end, this.#handle);
      if (errors.length > 0) throw errors[0];
      return result;
    });
  }

  /**
   * Mean loss of the present parameters over the data's validation split; undefined without one.
   *
   * @param batches - at most so many; default those of the configuration
   */
  async validate(batches = this.config.validation?.batches): Promise<number | undefined> {
    return this.#exclusively(async () => {
      await this.#prepare();
      return this.#evaluation.of(this.#at.state!.model, batches);
    });
  }

  /** That it runs on. */
  get #devices(): number {
    return this.#plan?.mesh.count ?? 1;
  }

  /** The run's. */
  get #folder(): string {
    return join(this.#root, this.config.name);
  }

  async #exclusively<R>(work: () => Promise<R>): Promise<R> {
    if (this.#running) {
      throw new ArgumentError(
        `the run "${this.config.name}" is being trained already`,
        "await the first fit() before the next; `validation` measures while it runs",
      );
    }
    this.#running = true;
    try {
      return await work();
    } finally {
      this.#running = false;
    }
  }

  /** One call of `fit`, without its failures. */
  async #fitOnce(interruption: Interruption, signal: AbortSignal | undefined): Promise<FitResult> {
    this.#stopReason = undefined;
    if (this.#diverged !== undefined) {
      throw new TrainingDiverged(
        `the run "${this.config.name}" cannot go on: ${this.#diverged}`,
        "make a new Trainer; with resume: true it goes on from the last checkpoint, which is from before",
      );
    }
    try {
      await this.#prepare(signal);
    } catch (error) {
      // Reading and tokenizing stop in their midst; nothing has begun.
      if (interruption.requested) return this.#resultOf("interrupted");
      throw error;
    }
    const run = await this.#startRun();
    run.status("running");
    const training = this.#handle;
    for (const callback of this.#callbacks) await callback.onStart?.(training);
    const meter = new Meter(run, this.config, this.#devices);
    try {
      await this.#loop(run, meter, interruption);
    } finally {
      meter.close();
    }
    if (this.#checkpoints !== undefined) {
      await this.#saving;
      if (this.#at.savedStep !== this.#at.step) await this.#save();
      await this.#tellSaved();
    }
    const finished = this.#at.step >= this.config.steps;
    const stopped = !finished && this.#stopReason !== undefined;
    run.status(finished || stopped ? "finished" : "interrupted", this.#stopReason);
    return this.#resultOf(finished ? "finished" : stopped ? "stopped" : "interrupted");
  }

  #resultOf(status: FitResult["status"]): FitResult {
    const validationLoss = this.#validationLoss;
    return {
      status,
      step: this.#at.step,
      loss: this.#loss,
      ...(validationLoss !== undefined && { validationLoss }),
    };
  }

  /** Leaves the run as failed; what callbacks threw at the news. */
  async #failed(error: unknown): Promise<unknown[]> {
    await this.#saving;
    this.#run?.status("failed", error instanceof Error ? error.message : String(error));
    if (error instanceof RuntimeLost || this.#runtime?.lost !== undefined) this.#lost = true;
    if (this.#lost) {
      this.#at.state = undefined;
      this.#diverged = undefined;
      this.#queue = [];
      const steps = await this.#checkpoints?.steps().catch(() => []);
      const last = this.#run === undefined ? undefined : steps?.at(-1);
      const what = error instanceof RuntimeLost ? "The runtime" : "The state";
      console.error(
        last === undefined
          ? `${what} was lost at step ${this.#at.step} and the run "${this.config.name}" has no checkpoint: fit() will start again from step 0.`
          : `${what} was lost at step ${this.#at.step}: call fit() again to go on from the checkpoint of step ${last}.`,
      );
    }
    await this.#at.returnData();
    return emitToAll(this.#callbacks, "onException", error, this.#handle);
  }

  /** Data and state: what a first step needs. */
  async #prepare(signal?: AbortSignal): Promise<void> {
    if (this.#at.state === undefined) this.#runtime = Runtime.default();
    this.#plan?.check(await Runtime.default().ready);
    // Before its run has begun, what lies in its folder is of another.
    const returns = this.#lost && this.#run !== undefined;
    const fresh = this.#at.state === undefined;
    await this.#at.prepare(returns || (this.config.resume ?? false) !== false, signal);
    if (fresh) this.#recorded = this.#at.step;
  }

  async #startRun(): Promise<RunWriter> {
    const { config } = this;
    if (this.#run === undefined || this.#lost) {
      if (this.#run !== undefined) this.#id = randomUUID();
      try {
        mkdirSync(this.#folder, { recursive: true });
      } catch (error) {
        throw new ArgumentError(
          `Trainer: the run's folder cannot be made: ${(error as Error).message}`,
          "choose another folder",
        );
      }
      this.#run = new RunWriter({
        id: this.#id,
        name: config.name,
        root: this.#root,
        totalSteps: config.steps,
        loggers: config.loggers,
        config: describe(config),
        ...(this.#at.resumed && { resumeAfterStep: this.#at.step }),
      });
      if (this.#at.resumed) {
        this.#loss = this.rows.findLast((row) => row.loss !== undefined)?.loss ?? Number.NaN;
        this.#validationLoss = this.rows.findLast((row) => row.valid_loss !== undefined)?.valid_loss;
      } else {
        const kept = await this.#checkpoints?.setAside();
        if (kept !== undefined)
          console.log(`the checkpoints of an earlier run "${config.name}" are kept in ${kept}`);
      }
    }
    this.#lost = false;
    return this.#run;
  }

  async #loop(run: RunWriter, meter: Meter, interruption: Interruption): Promise<void> {
    const { steps, validation, checkpoints, data, accumulate } = this.config;
    const ended = (): boolean => interruption.requested || this.#stopReason !== undefined;
    while ((this.#at.step < steps && !ended()) || this.#queue.length > 0) {
      let [validate, save] = [false, false];
      if (this.#at.step < steps && !ended()) {
        const batch = await data.next();
        checkBatch(batch, this.config, "next");
        const placed = placeBatch(batch, accumulate, this.#plan);
        meter.temporaries ??= await this.#requireMemory(placed);
        const before = this.#at.moment;
        const [state, report] = this.#train(before.state, placed);
        const after = {
          step: before.step + 1,
          tokens: before.tokens + batch.batchSize * batch.sequenceLength,
          position: batch.after,
        };
        this.#at.stand(state, after);
        const wantsColumns =
          this.#at.step % (this.config.statistics?.every ?? Number.POSITIVE_INFINITY) === 0;
        const result = arriving(this.#at.step, report, wantsColumns);
        this.#queue.push({ before, after, result });
        const isLast = this.#at.step === steps;
        validate = validation !== undefined && (this.#at.step % validation.every === 0 || isLast);
        save = checkpoints !== undefined && this.#at.step % checkpoints.every === 0 && !isLast;
      }
      // A state is measured and saved when it is known to be sound.
      const room = validate || save || this.#at.step === steps || ended() ? 0 : inFlight;
      while (this.#queue.length > room) {
        if (!(await this.#record(this.#queue.shift()!, meter))) [validate, save] = [false, false];
      }
      if (validate && !interruption.requested) await this.#validate(run, meter, interruption);
      if (save) {
        // One at a time: a disk that is slower than the training holds it up, and no states pile up in memory.
        await this.#saving;
        const step = this.#at.step;
        this.#saving = this.#save().catch((error: Error) =>
          console.error(`checkpoint of step ${step}: ${error.message}`),
        );
      }
      await this.#tellSaved();
    }
  }

  /**
   * Compiles the step and compares what it needs with the free memory, before it is run for the first time; the bytes of its temporaries on
   * all devices.
   */
  async #requireMemory(batch: DeviceBatch): Promise<number> {
    const { data, accumulate = 1, checkMemory = true } = this.config;
    const info = await this.#train.lower(this.#at.state!, batch).compile();
    if (checkMemory) {
      const { batchSize } = data;
      await requireMemory(stepMemory(this.#at.state!, info), { batchSize, accumulate });
    }
    return info.memory.temporaries * this.#devices;
  }

  /** Waits for a step's figures and logs them; false if the training went back to before it. */
  async #record(pending: Pending<M>, meter: Meter): Promise<boolean> {
    const { figures, more, at } = await pending.result.catch((error: unknown) => {
      // What the step was to leave behind is not there; what it was given still is, if it failed before it began.
      this.#queue = [];
      this.#lost = !this.#at.returnTo(pending.before);
      if (!this.#lost)
        console.error(
          `Step ${pending.after.step} failed before it began: nothing is lost, and fit() goes on with it.`,
        );
      throw error;
    });
    const { step, loss } = figures;
    this.#loss = loss;
    this.#recorded = step;
    const row = await meter.record({ ...figures, tokens: pending.after.tokens, more, at });
    let sound = true;
    try {
      await emit(this.#callbacks, "onStep", { step, loss, row }, this.#handle);
    } finally {
      // Whatever a callback throws: a bad state must not be gone on with.
      if (figures.why === 1 && this.config.onDivergence !== "skip")
        this.#diverged = describeDivergence(figures);
      const verdict = this.#divergence.judge(figures);
      if (verdict === "skipped") meter.note(`${describeDivergence(figures)}: the update was left out`);
      sound = verdict !== "rollback";
      if (!sound) await this.#rollBack(pending, meter);
    }
    return sound;
  }

  /** Returns to the last checkpoint, or the start, with the data after the bad step's batch. */
  async #rollBack(bad: Pending<M>, meter: Meter): Promise<void> {
    await this.#saving;
    this.#queue = [];
    await this.#at.rollBack(bad.after.position);
    this.#recorded = this.#at.step;
    this.#diverged = undefined;
    meter.note(
      `step ${bad.after.step} diverged: back to step ${this.#at.step}, with the data after its batch`,
    );
    meter.skip();
  }

  async #validate(run: RunWriter, meter: Meter, interruption: Interruption): Promise<void> {
    const { batches } = this.config.validation!;
    const step = this.#at.step;
    const { model, average } = this.#at.state!;
    const stopped = (): boolean => interruption.requested;
    const loss = await this.#evaluation.of(model, batches, stopped);
    const averagedLoss = average === null ? undefined : await this.#evaluation.of(average, batches, stopped);
    if (loss === undefined && !stopped())
      meter.note("the data have no validation split: nothing is measured");
    // Of a part of the batches it would be another figure.
    if (loss !== undefined && !stopped()) {
      this.#validationLoss = loss;
      this.#validatedAt = step;
      run.log({
        step,
        tokens: this.#at.tokens,
        valid_loss: loss,
        ...(averagedLoss !== undefined && { valid_loss_average: averagedLoss }),
      });
      const ofAverage = averagedLoss === undefined ? "" : ` (${averagedLoss.toFixed(4)} of the average)`;
      meter.note(`validation loss ${loss.toFixed(4)}${ofAverage}`);
      await emit(this.#callbacks, "onValidation", { step, loss, averagedLoss }, this.#handle);
    }
    meter.skip();
  }

  /** Saves the present state; the result is of the disk. */
  async #save(): Promise<void> {
    const step = this.#at.step;
    const standing = { step, tokens: this.#at.tokens, position: this.#at.position! };
    const score = this.#validatedAt === step ? this.#validationLoss : undefined;
    // Rows up to this step must not be younger than the checkpoint.
    this.#run?.flush();
    const { folder } = await this.#checkpoints!.save(this.#at.state!, standing, this.config.seed ?? 0, score);
    this.#divergence.saved();
    this.#at.savedStep = step;
    this.#saved.push({ step, folder });
  }

  async #tellSaved(): Promise<void> {
    for (const event of this.#saved.splice(0))
      await emit(this.#callbacks, "onCheckpoint", event, this.#handle);
  }

  /** What the callbacks get. */
  get #handle(): TrainingHandle<M> {
    const trainer = this;
    return {
      name: this.config.name,
      totalSteps: this.config.steps,
      get step() {
        return trainer.#at.step;
      },
      get model() {
        return trainer.model;
      },
      get averaged() {
        return trainer.averaged;
      },
      get rows() {
        return trainer.rows;
      },
      log: (columns) => this.#run?.log({ step: this.#recorded, ...columns }),
      sample: (name, text) => {
        console.log(`  ${name}: ${text}`);
        this.#run?.keepSample({ step: this.#recorded, name, text });
      },
      stop: (reason) => {
        this.#stopReason = reason;
      },
    };
  }

  /** A live panel in JupyterLab; elsewhere a line. */
  [Symbol.for("Jupyter.display")](): Record<string, unknown> {
    const { name, steps } = this.config;
    const line = `Trainer "${name}": step ${this.#at.step} of ${steps}${Number.isNaN(this.#loss) ? "" : `, loss ${this.#loss.toFixed(4)}`}`;
    const path = `${this.config.folder ?? "runs"}/${name}/metrics.arrow`;
    return {
      "text/plain": line,
      "application/vnd.aronnax.run+json": { version: 1, id: this.#id, name, path },
    };
  }
}

function tagOf(path: string): "parameter" | "optimizer" | undefined {
  if (path.startsWith("0.model")) return "parameter";
  return /^0\.(optimizer|average|watch)/.test(path) ? "optimizer" : undefined;
}
