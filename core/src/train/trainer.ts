/** Training a model: the loop of steps, validation, checkpoints, divergence and interruption. */
import { randomUUID } from "node:crypto";
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import type { Tensor } from "../array/tensor.js";
import type { Checkpoint } from "../checkpoint/index.js";
import type { DataPosition } from "../data/batch.js";
import { ArgumentError } from "../graph/errors.js";
import { Interrupted, Interruption } from "../host/interrupt.js";
import { type MetricsRow, RunWriter } from "../metrics/index.js";
import { RuntimeLost } from "../runtime/errors.js";
import { Runtime } from "../runtime/runtime.js";
import { type Jitted, jit } from "../transform/jit.js";
import { leaves } from "../transform/tree.js";
import { type CheckpointEvent, emit, type TrainerCallback, type TrainingHandle } from "./callbacks.js";
import { describePartial, type PartialReport, TrainingCheckpoints } from "./checkpoints.js";
import { checkConfig, describe, type TrainerConfig } from "./config.js";
import { DivergencePolicy, describeDivergence } from "./divergence.js";
import { requireMemory, requireStateMemory, stepMemory } from "./memory.js";
import { Meter } from "./meter.js";
import { type ParallelPlan, planOf } from "./parallel.js";
import { arriving, inFlight, meanOf, type Pending } from "./pending.js";
import { type DeviceBatch, placeBatch, type StartOptions, startingState, stateLike } from "./placement.js";
import type { TrainState } from "./state.js";
import { lossOf, type StepOptions, type StepReport, type TrainableModel, update } from "./step.js";

/** How a call of `fit` ended: all steps done, by an interrupt or signal, or by a callback. */
export interface FitResult {
  readonly status: "finished" | "interrupted" | "stopped";
  readonly step: number;
  /** Of the last step. */
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
  #partial: PartialReport | undefined;
  /** Why a callback ended the training. */
  #stopReason: string | undefined;
  readonly #divergence: DivergencePolicy;
  /** The step whose state is on the disk already. */
  #savedStep: number | undefined;
  /** Whether the newest checkpoint is of this training: one that lies there from an earlier run of the name is not returned to. */
  #hasCheckpoint = false;
  /** The checkpoint that is being written; it never rejects. */
  #saving: Promise<void> = Promise.resolve();
  /** Checkpoints on the disk that the callbacks have not heard of. */
  #saved: CheckpointEvent[] = [];
  readonly #train: Jitted<[TrainState<M>, DeviceBatch], [TrainState<M>, StepReport]>;
  readonly #evaluate: Jitted<[M, DeviceBatch], Tensor>;

  constructor(config: TrainerConfig<M>) {
    checkConfig(config);
    this.config = config;
    this.#callbacks = config.callbacks ?? [];
    this.#divergence = new DivergencePolicy(config.onDivergence ?? "stop");
    const root = config.folder ?? "runs";
    if (config.checkpoints !== undefined) {
      this.#checkpoints = new TrainingCheckpoints(`${root}/${config.name}/checkpoints`, config.checkpoints);
    }
    this.#plan = planOf(config);
    const options: StepOptions<M> = {
      loss: config.loss,
      precision: config.precision ?? "float32",
      plan: this.#plan,
      optimizer: config.optimizer,
      totalSteps: config.steps,
      microbatches: config.accumulate ?? 1,
      averageDecay: config.average?.decay,
      spikes: config.spikes,
      skip: config.onDivergence === "skip",
      statistics: config.statistics,
    };
    this.#train = jit((state: TrainState<M>, batch: DeviceBatch) => update(state, batch, options), {
      donate: [0],
      name: "train_step",
      tag: tagOf,
    });
    this.#evaluate = jit(lossOf(options), { name: "evaluate" });
  }

  /** The model with its present parameters. While `fit` runs they are replaced with every step. */
  get model(): M {
    return this.#state?.model ?? this.config.model;
  }

  /** The model with the running average of the parameters, with `average` in the configuration and once `fit` has begun. */
  get averaged(): M | undefined {
    return this.#state?.average ?? undefined;
  }

  /** With `resume: "partial"`: what of the checkpoint did not fit. */
  get resumeReport(): PartialReport | undefined {
    return this.#partial;
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
   * @throws TrainingDiverged when the loss is not finite, see `onDivergence`
   */
  async fit(options: { signal?: AbortSignal } = {}): Promise<FitResult> {
    return this.#exclusively(async () => {
      using interruption = new Interruption(options.signal);
      let status: FitResult["status"] | "failed" = "failed";
      try {
        status = await this.#fitOnce(interruption);
        if (status === "interrupted" && interruption.byKernel) {
          throw new Interrupted(
            `stopped after step ${this.#step} of ${this.config.steps}; parameters, optimizer and data position are kept`,
            "call fit() again to go on",
          );
        }
        return {
          status,
          step: this.#step,
          loss: this.#loss,
          ...(this.#validationLoss !== undefined && { validationLoss: this.#validationLoss }),
        };
      } catch (error) {
        if (!(error instanceof Interrupted)) await this.#failed(error);
        throw error;
      } finally {
        await emit(this.#callbacks, "onEnd", { status, step: this.#step }, this.#handle);
      }
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
      return this.#validationOf(this.#state!.model, batches);
    });
  }

  /** That it runs on. */
  get #devices(): number {
    return this.#plan?.mesh.count ?? 1;
  }

  async #exclusively<R>(work: () => Promise<R>): Promise<R> {
    if (this.#running) {
      throw new ArgumentError(
        `the run "${this.config.name}" is being trained already`,
        "await the first fit() before the next",
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
  async #fitOnce(interruption: Interruption): Promise<FitResult["status"]> {
    this.#stopReason = undefined;
    await this.#prepare();
    const run = this.#startRun();
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
      if (this.#savedStep !== this.#step) await this.#save();
      await this.#tellSaved();
    }
    const finished = this.#step >= this.config.steps;
    const stopped = !finished && this.#stopReason !== undefined;
    run.status(finished || stopped ? "finished" : "interrupted", this.#stopReason);
    return finished ? "finished" : stopped ? "stopped" : "interrupted";
  }

  async #failed(error: unknown): Promise<void> {
    await this.#saving;
    this.#run?.status("failed", error instanceof Error ? error.message : String(error));
    if (error instanceof RuntimeLost || Runtime.default().lost !== undefined) {
      // The buffers are gone with the process.
      this.#state = undefined;
      this.#lost = true;
      const steps = this.#hasCheckpoint ? await this.#checkpoints?.steps().catch(() => []) : [];
      const last = steps?.at(-1);
      console.error(
        last === undefined
          ? `The runtime was lost at step ${this.#step} and the run "${this.config.name}" has no checkpoint: fit() will start again from step 0.`
          : `The runtime was lost at step ${this.#step}: call fit() again to go on from the checkpoint of step ${last}.`,
      );
    }
    await emit(this.#callbacks, "onException", error, this.#handle);
  }

  /** Data and state: what a first step needs. */
  async #prepare(): Promise<void> {
    const { data, name, resume } = this.config;
    this.#plan?.check(await Runtime.default().ready);
    await data.prepare();
    if (this.#state !== undefined) return;
    this.#start ??= data.position();
    const wanted = (resume ?? false) !== false || (this.#lost && this.#hasCheckpoint);
    const checkpoint = wanted ? await this.#checkpoints?.latest() : undefined;
    await this.#begin(checkpoint);
    if (checkpoint !== undefined) {
      const part = this.#partial === undefined ? "" : `: ${describePartial(this.#partial)}`;
      console.log(`resumed "${name}" from the checkpoint of step ${this.#step}${part}`);
    }
    await data.restore(this.#position!);
  }

  /** Takes the state of a checkpoint, or that before the first step. */
  async #begin(checkpoint: Checkpoint | undefined): Promise<void> {
    const { model, optimizer, average, spikes, seed = 0 } = this.config;
    const options: StartOptions = {
      optimizer,
      seed,
      average: average !== undefined,
      watch: spikes !== undefined,
      plan: this.#plan,
    };
    if (this.config.checkMemory !== false)
      await requireStateMemory(stateLike(model, options), this.#plan?.stateParts ?? 1);
    if (checkpoint === undefined) {
      this.#state = startingState(model, options);
      this.#savedStep = undefined;
      this.#step = 0;
      this.#tokens = 0;
      this.#position = this.#start;
      return;
    }
    this.#hasCheckpoint = true;
    const place = this.#plan?.place;
    const loaded =
      this.config.resume === "partial"
        ? await this.#checkpoints!.loadPart(checkpoint, startingState(model, options), place)
        : {
            ...(await this.#checkpoints!.load(checkpoint, stateLike(model, options), place)),
            report: undefined,
          };
    this.#partial = loaded.report;
    this.#savedStep = loaded.report === undefined ? loaded.standing.step : undefined;
    this.#state = loaded.state;
    this.#step = loaded.standing.step;
    this.#tokens = loaded.standing.tokens;
    this.#position = loaded.standing.position;
  }

  #startRun(): RunWriter {
    const { config } = this;
    if (this.#run === undefined || this.#lost) {
      if (this.#run !== undefined) this.#id = randomUUID();
      this.#run = new RunWriter({
        id: this.#id,
        name: config.name,
        root: config.folder ?? "runs",
        totalSteps: config.steps,
        loggers: config.loggers,
        config: describe(config),
        ...(this.#step > 0 && { resumeAfterStep: this.#step }),
      });
    }
    this.#lost = false;
    return this.#run;
  }

  async #loop(run: RunWriter, meter: Meter, interruption: Interruption): Promise<void> {
    const { steps, validation, checkpoints, data, accumulate } = this.config;
    const ended = (): boolean => interruption.requested || this.#stopReason !== undefined;
    let queue: Pending[] = [];
    while ((this.#step < steps && !ended()) || queue.length > 0) {
      let [validate, save] = [false, false];
      if (this.#step < steps && !ended()) {
        const batch = await data.next();
        const placed = placeBatch(batch, accumulate, this.#plan);
        meter.temporaries ??= await this.#requireMemory(placed);
        const [state, report] = this.#train(this.#state!, placed);
        this.#state = state;
        this.#position = batch.after;
        this.#step++;
        this.#tokens += batch.batchSize * batch.sequenceLength;
        const wantsColumns = this.#step % (this.config.statistics?.every ?? Number.POSITIVE_INFINITY) === 0;
        const result = arriving(this.#step, report, wantsColumns);
        queue.push({ step: this.#step, tokens: this.#tokens, after: batch.after, result });
        const isLast = this.#step === steps;
        validate = validation !== undefined && (this.#step % validation.every === 0 || isLast);
        save = checkpoints !== undefined && this.#step % checkpoints.every === 0 && !isLast;
      }
      // A state is measured and saved when it is known to be sound.
      const room = validate || save || this.#step === steps || ended() ? 0 : inFlight;
      while (queue.length > room) {
        const pending = queue.shift()!;
        if (await this.#record(pending, meter)) continue;
        queue = [];
        [validate, save] = [false, false];
        await this.#rollBack(pending, meter);
      }
      if (validate) await this.#validate(run, meter);
      if (save) {
        // One at a time: a disk that is slower than the training holds it up, and no states pile up in memory.
        await this.#saving;
        const step = this.#step;
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
    const info = await this.#train.lower(this.#state!, batch).compile();
    if (checkMemory) {
      const { batchSize } = data;
      await requireMemory(stepMemory(this.#state!, info), { batchSize, accumulate });
    }
    return info.memory.temporaries * this.#devices;
  }

  /** Waits for a step's figures and logs them; false if the training must go back to before it. */
  async #record(pending: Pending, meter: Meter): Promise<boolean> {
    const { figures, more, at } = await pending.result;
    const { step, loss } = figures;
    this.#loss = loss;
    const row = await meter.record({ ...figures, tokens: pending.tokens, more, at });
    await emit(this.#callbacks, "onStep", { step, loss, row }, this.#handle);
    const verdict = this.#divergence.judge(figures);
    if (verdict === "skipped") meter.note(`${describeDivergence(figures)}: the update was left out`);
    return verdict !== "rollback";
  }

  /** Returns to the last checkpoint, or the start, with the data after the bad step's batch. */
  async #rollBack(bad: Pending, meter: Meter): Promise<void> {
    await this.#saving;
    for (const leaf of leaves(this.#state)) leaf.dispose();
    this.#state = undefined;
    await this.#begin(this.#hasCheckpoint ? await this.#checkpoints?.latest() : undefined);
    this.#position = bad.after;
    await this.config.data.restore(bad.after);
    meter.note(`step ${bad.step} diverged: back to step ${this.#step}, with the data after its batch`);
    meter.skip();
  }

  async #validate(run: RunWriter, meter: Meter): Promise<void> {
    const { batches } = this.config.validation!;
    const step = this.#step;
    const { model, average } = this.#state!;
    const loss = await this.#validationOf(model, batches);
    this.#validationLoss = loss;
    this.#validatedAt = step;
    if (loss !== undefined) {
      const averagedLoss = average === null ? undefined : await this.#validationOf(average, batches);
      run.log({
        step,
        tokens: this.#tokens,
        valid_loss: loss,
        ...(averagedLoss !== undefined && { valid_loss_average: averagedLoss }),
      });
      const ofAverage = averagedLoss === undefined ? "" : ` (${averagedLoss.toFixed(4)} of the average)`;
      meter.note(`validation loss ${loss.toFixed(4)}${ofAverage}`);
      await emit(this.#callbacks, "onValidation", { step, loss, averagedLoss }, this.#handle);
    }
    meter.skip();
  }

  async #validationOf(model: M, limit?: number): Promise<number | undefined> {
    return meanOf(this.config.data.validation(limit), (batch) =>
      this.#evaluate(model, placeBatch(batch, 1, this.#plan)).item(),
    );
  }

  /** Saves the present state; the result is of the disk. */
  async #save(): Promise<void> {
    const step = this.#step;
    const standing = { step, tokens: this.#tokens, position: this.#position! };
    const score = this.#validatedAt === step ? this.#validationLoss : undefined;
    // Rows up to this step must not be younger than the checkpoint.
    this.#run?.flush();
    const { folder } = await this.#checkpoints!.save(this.#state!, standing, this.config.seed ?? 0, score);
    this.#divergence.saved();
    this.#hasCheckpoint = true;
    this.#savedStep = step;
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
        return trainer.#step;
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
      log: (columns) => this.#run?.log({ step: this.#step, ...columns }),
      sample: (name, text) => {
        const line = JSON.stringify({ step: this.#step, name, text });
        if (this.#run !== undefined) appendFileSync(join(this.#run.folder, "samples.jsonl"), `${line}\n`);
        console.log(`  ${name}: ${text}`);
      },
      stop: (reason) => {
        this.#stopReason = reason;
      },
    };
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

function tagOf(path: string): "parameter" | "optimizer" | undefined {
  if (path.startsWith("0.model")) return "parameter";
  return /^0\.(optimizer|average|watch)/.test(path) ? "optimizer" : undefined;
}
