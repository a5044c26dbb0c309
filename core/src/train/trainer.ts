/** Training a model: steps, validation, checkpoints, divergence and interruption. */
import { randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Batch, BatchSource, DataPosition, TokenFields } from "../data/batch.js";
import { EndOfData } from "../data/errors.js";
import { ArgumentError } from "../graph/errors.js";
import { Interrupted, Interruption } from "../host/interrupt.js";
import { displayIdOf, type MetricsRow, RunWriter, runReference } from "../metrics/index.js";
import { escapeMarkup } from "../metrics/record-picture.js";
import { RuntimeLost } from "../runtime/errors.js";
import { Runtime } from "../runtime/runtime.js";
import { readBatch } from "./batches.js";
import {
  type CheckpointEvent,
  emit,
  emitToAll,
  type TrainerCallback,
  type TrainingHandle,
} from "./callbacks.js";
import { type PartialReport, TrainingCheckpoints } from "./checkpoints.js";
import { CompiledStep } from "./compiled-step.js";
import { bestOf, checkConfig, describe, type Settings, type TrainerConfig } from "./config.js";
import { DivergencePolicy, describeDivergence, TrainingDiverged } from "./divergence.js";
import { Evaluation } from "./evaluation.js";
import { handleOf } from "./handle.js";
import { Meter } from "./meter.js";
import { type ParallelPlan, planOf } from "./parallel.js";
import { arriving, inFlight, type Pending } from "./pending.js";
import { placeBatch } from "./placement.js";
import { resolvePrecision } from "./precision.js";
import { Progress } from "./progress.js";
import type { StepOptions, TrainableModel } from "./step.js";
import { takePart } from "./underway.js";

/** How a call of `fit` ended: all steps done, by an interrupt or signal, or by a callback. */
export interface FitResult {
  readonly status: "finished" | "interrupted" | "stopped";
  readonly step: number;
  /** Of the last step; NaN if there was none. */
  readonly loss: number;
  /** Of the last validation. */
  readonly validationLoss?: number;
  /** All figures of the last validation by column: `valid_loss`, `valid_<metric>`. */
  readonly validation?: Readonly<Record<string, number>>;
}

/** A step that `update` has queued. */
export interface QueuedStep {
  readonly step: number;
  /** Its row of metrics, once the device has computed it: later steps, `finish()` or `fit()` bring it on. */
  readonly row: Promise<MetricsRow>;
  /** Whether the run has ended with it: all steps are done, or a callback stopped it. */
  readonly ended: boolean;
}

/** What is open between the first step of a call of `fit`, or of `update`, and its end. */
interface Session {
  readonly run: RunWriter;
  readonly meter: Meter;
}

/**
 * Trains a model. `fit()` may be called again: after an interrupt it goes on with the next step; after the runtime was lost it goes on
 * from the last checkpoint.
 */
export class Trainer<M extends TrainableModel, F extends object = TokenFields> {
  readonly config: Readonly<TrainerConfig<M, F>>;
  readonly #checkpoints: TrainingCheckpoints | undefined;
  readonly #plan: ParallelPlan | undefined;
  readonly #callbacks: readonly TrainerCallback<M>[];
  readonly #root: string;
  /** Known before the run begins, so that a panel can wait for it. */
  #id: string = randomUUID();
  /** That the state lies in. */
  #runtime: Runtime | undefined;
  #run: RunWriter | undefined;
  readonly #at: Progress<M, F>;
  /** Steps that are queued on the device. */
  #queue: Pending[] = [];
  /** The newest step whose figures have come. */
  #recorded = 0;
  #loss = Number.NaN;
  /** Of the last validation, by column. */
  #validation: Readonly<Record<string, number>> | undefined;
  #validatedAt = -1;
  /** Of `update`, between its first call and `finish`. */
  #session: (Session & Disposable) | undefined;
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
  readonly #step: CompiledStep<M>;
  readonly #evaluation: Evaluation<M, F>;

  constructor(config: TrainerConfig<M, F>) {
    checkConfig(config as unknown as Settings);
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
      division: this.#at.division,
      loss: config.loss as StepOptions<M>["loss"],
      step: config.step as StepOptions<M>["step"],
      precision: resolvePrecision(config.precision),
      plan: this.#plan,
      totalSteps: config.steps,
      seed: config.seed ?? 0,
      averageDecay: config.average?.decay,
      spikes: config.spikes,
      skip: config.onDivergence === "skip",
      statistics: config.statistics,
      compiler: config.deterministic === true ? { flags: { xla_gpu_deterministic_ops: true } } : undefined,
    };
    this.#step = new CompiledStep(options, {
      accumulate: config.accumulate ?? 1,
      checkMemory: config.checkMemory ?? true,
      devices: this.#devices,
    });
    this.#evaluation = new Evaluation(config, options);
  }

  /** The model with its present parameters. While `fit` runs they are replaced with every step. */
  get model(): M {
    return this.#at.model;
  }

  /** The model with the running average of the parameters, with `average` in the configuration and once `fit` has begun. */
  get averaged(): M | undefined {
    return this.#at.averaged;
  }

  /** With `resume: "partial"`: what of the checkpoint did not fit. */
  get resumeReport(): PartialReport | undefined {
    return this.#at.partial;
  }

  /** Updates done. */
  get step(): number {
    return this.#at.step;
  }

  /** Where the data stand after the last step: what `restore` of the source of a loop of one's own takes after a resume. */
  get position(): DataPosition | undefined {
    return this.#at.position;
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
      const { data } = this.config;
      if (data === undefined) {
        throw new ArgumentError(
          "Trainer: fit() without data",
          "give `data`, a source of batches; or give batches yourself: for await (const batch of source) await trainer.update(batch)",
        );
      }
      if (this.#session !== undefined) await this.#closeSession();
      using _ = takePart(this.config.name, this.#folder, data);
      using interruption = new Interruption(options.signal);
      return await this.#ending(async () => {
        const result = await this.#fitOnce(data, interruption, options.signal);
        if (result.status === "interrupted" && interruption.byKernel)
          this.#throwInterrupted("call fit() again");
        return result;
      });
    });
  }

  /**
   * One update by a batch of a loop of one's own, with the metrics, validations, checkpoints and interruption of `fit`. It resolves when the step
   * is queued, two steps before the oldest that is not computed: the device does not wait for the loop. The last of `steps` ends the run, as
   * `finish()` does before.
   *
   * @throws Interrupted when the notebook interrupts the cell: the step is made, and everything is kept
   * @throws ArgumentError when all steps are done
   */
  async update(batch: Batch<F> | Omit<Batch<F>, "after">): Promise<QueuedStep> {
    return this.#exclusively(async () => {
      if (this.#at.state !== undefined && this.#at.step >= this.config.steps) {
        throw new ArgumentError(
          `Trainer: update() after all ${this.config.steps} steps`,
          "end the loop there: for (...) if (trainer.step === trainer.config.steps) break; or raise steps",
        );
      }
      using interruption = new Interruption();
      const opens = this.#session === undefined;
      const part = opens ? takePart(this.config.name, this.#folder, this) : undefined;
      try {
        return await this.#failing(async () => {
          if (part !== undefined) {
            await this.#prepare();
            const session = await this.#open();
            this.#session = { ...session, [Symbol.dispose]: () => part[Symbol.dispose]() };
          }
          const session = this.#session!;
          const queued = await this.#advance(batch as Batch<object>, "update(batch)", session, interruption);
          const ended = this.#at.step >= this.config.steps || this.#stopReason !== undefined;
          if (ended || interruption.requested) await this.#closeSession();
          if (interruption.requested) this.#throwInterrupted("go on with the loop");
          return { ...queued, ended };
        });
      } catch (error) {
        this.#dropSession(part);
        throw error;
      }
    });
  }

  /** Ends a loop of `update` before the last step: waits for all steps, saves, and closes the run as finished. */
  async finish(): Promise<FitResult> {
    return this.#exclusively(() =>
      this.#failing(async () => {
        this.#stopReason ??= this.#at.step < this.config.steps ? "finish()" : undefined;
        await this.#closeSession();
        return this.#resultOf(this.#at.step >= this.config.steps ? "finished" : "stopped");
      }),
    );
  }

  #throwInterrupted(how: string): never {
    throw new Interrupted(
      `stopped after step ${this.#at.step} of ${this.config.steps}; parameters, optimizer and data position are kept`,
      `${how} to go on`,
    );
  }

  #dropSession(part: Disposable | undefined): void {
    this.#session?.meter.close();
    (this.#session ?? part)?.[Symbol.dispose]();
    this.#session = undefined;
  }

  /** Ends what `update` opened, with the queue empty and the last state saved. */
  async #closeSession(): Promise<void> {
    const session = this.#session;
    if (session === undefined) return;
    try {
      await this.#settle(session);
      const status = await this.#close(session);
      await emitToAll(this.#callbacks, "onEnd", { status, step: this.#at.step }, this.#handle);
    } finally {
      this.#dropSession(undefined);
    }
  }

  /** `work`, whose failure leaves the run as failed and is told to the callbacks. */
  async #failing<R>(work: () => Promise<R>): Promise<R> {
    try {
      return await work();
    } catch (error) {
      const interrupted = error instanceof Interrupted;
      const later = interrupted ? [] : await this.#failed(error);
      const end = { status: interrupted ? "interrupted" : "failed", step: this.#at.step } as const;
      later.push(...(await emitToAll(this.#callbacks, "onEnd", end, this.#handle)));
      // The first failure is the one to report.
      for (const each of later) console.error("a callback failed as well:", each);
      throw error;
    }
  }

  /** `#failing`, with the callbacks told of the end. */
  async #ending(work: () => Promise<FitResult>): Promise<FitResult> {
    const result = await this.#failing(work);
    const end = { status: result.status, step: result.step };
    const errors = await emitToAll(this.#callbacks, "onEnd", end, this.#handle);
    if (errors.length > 0) throw errors[0];
    return result;
  }

  /**
   * Mean loss of the present parameters over the data's validation split; undefined without one.
   *
   * @param batches - at most so many; default those of the configuration
   */
  async validate(batches = this.config.validation?.batches): Promise<number | undefined> {
    return (await this.evaluate(batches))?.valid_loss;
  }

  /**
   * Loss and metrics of the present parameters over the data's validation split, with those of `validation.measure`, as a validation logs them:
   * `valid_loss`, `valid_<metric>`; undefined without a split.
   *
   * @param batches - at most so many; default those of the configuration
   */
  async evaluate(
    batches = this.config.validation?.batches,
  ): Promise<Readonly<Record<string, number>> | undefined> {
    return this.#exclusively(async () => {
      await this.#prepare();
      return this.#measured(batches, () => false);
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
  async #fitOnce(
    data: BatchSource<F>,
    interruption: Interruption,
    signal: AbortSignal | undefined,
  ): Promise<FitResult> {
    try {
      await this.#prepare(signal);
    } catch (error) {
      // Reading and tokenizing stop in their midst; nothing has begun.
      if (interruption.requested) return this.#resultOf("interrupted");
      throw error;
    }
    await this.#step.requireAll(this.#at.state!, this.#at.held, data as BatchSource<object>);
    const session = await this.#open();
    try {
      const ended = (): boolean => interruption.requested || this.#stopReason !== undefined;
      while ((this.#at.step < this.config.steps && !ended()) || this.#queue.length > 0) {
        if (this.#at.step < this.config.steps && !ended()) {
          const batch = await data.next().catch((error: unknown) => {
            if (!(error instanceof EndOfData)) throw error;
            this.#stopReason = `the data end after ${this.#at.step} of ${this.config.steps} steps`;
          });
          if (batch !== undefined || this.#stopReason === undefined)
            await this.#advance(batch as Batch<object>, "data.next()", session, interruption);
        }
        if (this.#at.step === this.config.steps || ended()) await this.#settle(session);
      }
    } finally {
      session.meter.close();
    }
    return this.#resultOf(await this.#close(session));
  }

  /** Begins the run, or goes on with it, for steps that are prepared. */
  async #open(): Promise<Session> {
    const run = await this.#startRun();
    run.status("running");
    for (const callback of this.#callbacks) await callback.onStart?.(this.#handle);
    return { run, meter: new Meter(run, this.config as unknown as Settings, this.#devices) };
  }

  /** Saves the state where steps ended, and says how they did. */
  async #close({ run }: Session): Promise<FitResult["status"]> {
    if (this.#checkpoints !== undefined) {
      await this.#saving;
      if (this.#at.savedStep !== this.#at.step) await this.#save();
      await this.#tellSaved();
    }
    await run.media.settled();
    const finished = this.#at.step >= this.config.steps;
    const stopped = !finished && this.#stopReason !== undefined;
    run.status(finished || stopped ? "finished" : "interrupted", this.#stopReason);
    return finished ? "finished" : stopped ? "stopped" : "interrupted";
  }

  #resultOf(status: FitResult["status"]): FitResult {
    const validation = this.#validation;
    return {
      status,
      step: this.#at.step,
      loss: this.#loss,
      ...(validation !== undefined && { validationLoss: validation.valid_loss!, validation }),
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
    this.#stopReason = undefined;
    if (this.#diverged !== undefined) {
      throw new TrainingDiverged(
        `the run "${this.config.name}" cannot go on: ${this.#diverged}`,
        "make a new Trainer; with resume: true it goes on from the last checkpoint, which is from before",
      );
    }
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
        config: describe(config as unknown as Settings),
        ...(this.#at.resumed && { resumeAfterStep: this.#at.step }),
      });
      if (this.#at.resumed) {
        this.#loss = this.rows.findLast((row) => row.loss !== undefined)?.loss ?? Number.NaN;
        const validated = this.rows.findLast((row) => row.valid_loss !== undefined);
        this.#validation =
          validated &&
          Object.fromEntries(Object.entries(validated).filter(([column]) => column.startsWith("valid_")));
      } else {
        const kept = await this.#checkpoints?.setAside();
        if (kept !== undefined)
          console.log(`the checkpoints of an earlier run "${config.name}" are kept in ${kept}`);
      }
    }
    this.#lost = false;
    return this.#run;
  }

  /** Queues the step of a batch, and does what is due after it. */
  async #advance(
    given: Batch<object>,
    call: "data.next()" | "update(batch)",
    { run, meter }: Session,
    interruption: Interruption,
  ): Promise<Omit<QueuedStep, "ended">> {
    const { steps, validation, checkpoints, accumulate, statistics } = this.config;
    const batch = readBatch(given, this.config as never, call);
    const placed = placeBatch(batch, accumulate, this.#plan);
    const { moment: before, held } = this.#at;
    const compiled = !this.#step.has(placed);
    meter.temporaries = await this.#step.require(before.state, held, placed, batch.rows);
    const queuedAt = performance.now();
    const [state, report] = this.#step.run(before.state, held, placed);
    const after = {
      step: before.step + 1,
      counts: added(before.counts, batch.counts),
      position: batch.after,
    };
    this.#at.stand(state, after);
    const wantsStatistics = this.#at.step % (statistics?.every ?? Number.POSITIVE_INFINITY) === 0;
    let logged!: (row: MetricsRow) => void;
    let failed!: (error: unknown) => void;
    const row = new Promise<MetricsRow>((resolveRow, reject) => {
      [logged, failed] = [resolveRow, reject];
    });
    // It is awaited by whom it concerns, or not at all.
    row.catch(() => {});
    this.#queue.push({
      before,
      after,
      queuedAt,
      compiled,
      own: { ...batch.counts } as Record<string, number>,
      flops: this.#flopsOf(given, batch.counts),
      columns: this.config.data?.columns?.() ?? {},
      result: arriving(this.#at.step, report, wantsStatistics),
      logged,
      failed,
    });
    const { step } = this.#at;
    const isLast = step === steps;
    let validate = validation !== undefined && (step % validation.every === 0 || isLast);
    let save = checkpoints !== undefined && step % checkpoints.every === 0 && !isLast;
    // A state is measured and saved when it is known to be sound.
    const sound = await this.#recordTo(validate || save ? 0 : inFlight, meter);
    if (!sound) [validate, save] = [false, false];
    if (validate && !interruption.requested) await this.#validate(run, meter, interruption);
    if (save) {
      // One at a time: a disk that is slower than the training holds it up, and no states pile up in memory.
      await this.#saving;
      this.#saving = this.#save().catch((error: Error) =>
        console.error(`checkpoint of step ${step}: ${error.message}`),
      );
      meter.skip();
    }
    await this.#tellSaved();
    return { step, row };
  }

  /** Waits for all steps that are queued. */
  async #settle({ meter }: Session): Promise<void> {
    await this.#recordTo(0, meter);
    await this.#tellSaved();
  }

  /** Waits for the oldest steps until so many are left; false if the training went back to before one of them. */
  async #recordTo(room: number, meter: Meter): Promise<boolean> {
    let sound = true;
    while (this.#queue.length > room) if (!(await this.#record(this.#queue.shift()!, meter))) sound = false;
    return sound;
  }

  #flopsOf(batch: Batch<object>, { tokens }: { readonly tokens?: number }): number | undefined {
    const { flops, model, data } = this.config;
    if (flops !== undefined) return flops(batch as Batch<F>);
    const time = batch.sequenceLength ?? data?.sequenceLength;
    if (tokens === undefined || time === undefined) return undefined;
    const each = model.flopsPerToken?.(time);
    return each === undefined ? undefined : each * tokens;
  }

  /** Waits for a step's figures and logs them; false if the training went back to before it. */
  async #record(pending: Pending, meter: Meter): Promise<boolean> {
    const { figures, more, at } = await pending.result.catch((error: unknown) => {
      for (const { failed } of [pending, ...this.#queue]) failed(error);
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
    const { columns, after } = pending;
    const row = await meter.record({
      ...pending,
      ...figures,
      counts: after.counts,
      more: { ...columns, ...more },
      at,
    });
    pending.logged(row);
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
  async #rollBack(bad: Pending, meter: Meter): Promise<void> {
    await this.#saving;
    for (const { failed, after } of this.#queue)
      failed(
        new TrainingDiverged(`step ${after.step} was given up: step ${bad.after.step} diverged before it`),
      );
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
    const step = this.#at.step;
    const stopped = (): boolean => interruption.requested;
    const found = await this.#measured(this.config.validation!.batches, stopped);
    if (found === undefined && !stopped())
      meter.note("the data have no validation split: nothing is measured");
    // Of a part of the batches it would be another figure.
    if (found !== undefined && !stopped()) {
      this.#validation = found;
      this.#validatedAt = step;
      run.log({ step, ...this.#at.counts, ...found });
      const { valid_loss: loss, valid_loss_average: averagedLoss } = found as {
        valid_loss: number;
      } & typeof found;
      const ofAverage = averagedLoss === undefined ? "" : ` (${averagedLoss.toFixed(4)} of the average)`;
      const others = Object.entries(found)
        .filter(([column]) => !column.startsWith("valid_loss") && !column.endsWith("_average"))
        .map(([column, value]) => `, ${column.slice(6)} ${value.toPrecision(4)}`);
      meter.note(`validation loss ${loss.toFixed(4)}${ofAverage}${others.join("")}`);
      const event = { step, loss, averagedLoss, metrics: found };
      await emit(this.#callbacks, "onValidation", event, this.#handle);
    }
    meter.skip();
  }

  #measured(
    batches: number | undefined,
    stopped: () => boolean,
  ): Promise<Record<string, number> | undefined> {
    const { state, held, step, model } = this.#at;
    return this.#evaluation.columns({ state: state!, held, step, model }, batches, stopped);
  }

  /** By what a checkpoint of this step is compared with others: the lowest is best. */
  #score(): number | undefined {
    if (this.#validatedAt !== this.#at.step || this.#validation === undefined) return undefined;
    const { count, by, mode } = bestOf(this.config.checkpoints);
    const value = this.#validation[by];
    if (value === undefined && count > 0) {
      throw new ArgumentError(
        `Trainer: checkpoints.keepBest.by is "${by}", and the validation has no such column`,
        `name one of ${Object.keys(this.#validation).join(", ")}`,
      );
    }
    return value === undefined || mode === "min" ? value : -value;
  }

  /** Saves the present state; the result is of the disk. */
  async #save(): Promise<void> {
    const step = this.#at.step;
    const { division, counts, position } = this.#at;
    const score = this.#score();
    // Rows up to this step must not be younger than the checkpoint.
    this.#run?.flush();
    const { folder } = await this.#checkpoints!.save(
      this.#at.state!,
      { division, model: this.model },
      { step, counts, position },
      this.config.seed ?? 0,
      score,
    );
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
    return handleOf(this, {
      run: () => this.#run,
      recorded: () => this.#recorded,
      stop: (reason) => {
        this.#stopReason = reason;
      },
    });
  }

  /** Of the run: the kernel brings what it shows up to date when it ends. */
  get [Symbol.for("Jupyter.displayId")](): string {
    return displayIdOf(this.#id);
  }

  /** A live panel in JupyterLab; elsewhere, and once the run has ended, its record. */
  [Symbol.for("Jupyter.display")](): Record<string, unknown> {
    const { name, steps } = this.config;
    const record = this.#run?.savedRecord;
    const line = `Trainer "${name}": step ${this.#at.step} of ${steps}${Number.isNaN(this.#loss) ? "" : `, loss ${this.#loss.toFixed(4)}`}`;
    return {
      "text/html": `<p>${escapeMarkup(line)}</p>`,
      ...record,
      "text/plain": record === undefined ? line : `${line}\n${record["text/plain"]}`,
      ...runReference(this.#id, name, this.#folder),
    };
  }
}

function added(
  to: Readonly<Record<string, number>>,
  counts: Readonly<Record<string, number | undefined>>,
): Record<string, number> {
  const sum: Record<string, number> = { ...to };
  for (const [name, count = 0] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}
