/** Where a training stands: its state on the devices, the position of its data, and how both come back from a checkpoint. */
import type { Checkpoint } from "../checkpoint/index.js";
import type { DataPosition } from "../data/batch.js";
import { DataError } from "../data/errors.js";
import { ArgumentError } from "../graph/errors.js";
import { isUndrawn, type Module } from "../nn/module.js";
import { leaves } from "../transform/tree.js";
import {
  describePartial,
  type PartialReport,
  type Standing,
  type TrainingCheckpoints,
} from "./checkpoints.js";
import type { TrainerConfig } from "./config.js";
import { requireStateMemory } from "./memory.js";
import type { ParallelPlan } from "./parallel.js";
import { resolvePrecision } from "./precision.js";
import { drawnTogether, heldLeaves, type StartOptions, startingState, stateLike } from "./start.js";
import { Division, type Held, type TrainState } from "./state.js";
import type { TrainableModel } from "./step.js";

/** Where a training stood, with the state that it had there. */
export interface Moment extends Standing {
  readonly state: TrainState;
}

export class Progress<M extends TrainableModel, F extends object> {
  /** Undefined before it is drawn or read, and once it is lost. */
  state: TrainState | undefined;
  /** What steps only read; there with the state. */
  held: Held = [];
  /** Of the model, with its frozen parts drawn once the state is there. */
  division: Division<M>;
  /** Updates done, as the host counts them. */
  step = 0;
  counts: Readonly<Record<string, number>> = {};
  /** Where the data stood before the first step, and after the last one. */
  #start: DataPosition | undefined;
  position: DataPosition | undefined;
  /** Whether it began with a checkpoint. */
  resumed = false;
  /** With `resume: "partial"`: what of the checkpoint did not fit. */
  partial: PartialReport | undefined;
  /** The step whose state is on the disk already. */
  savedStep: number | undefined;
  readonly #config: TrainerConfig<M, F>;
  readonly #checkpoints: TrainingCheckpoints | undefined;
  readonly #plan: ParallelPlan | undefined;

  constructor(
    config: TrainerConfig<M, F>,
    checkpoints: TrainingCheckpoints | undefined,
    plan: ParallelPlan | undefined,
  ) {
    this.#config = config;
    this.division = divisionOf(config, config.model, config.references);
    this.#checkpoints = checkpoints;
    this.#plan = plan;
  }

  /**
   * Data and state: what a first step needs. Does nothing about a state that is there.
   *
   * @param resume - whether to go on from the newest checkpoint, if there is one
   * @throws ArgumentError if it is of a later step than the last
   */
  async prepare(resume: boolean, signal?: AbortSignal): Promise<void> {
    const { data, name, steps } = this.#config;
    await data?.prepare?.({ ...(signal && { signal }) });
    if (this.state !== undefined) return;
    this.#start ??= data?.position();
    const checkpoint = resume ? await this.#checkpoints?.latest() : undefined;
    if (checkpoint !== undefined && checkpoint.step > steps) {
      throw new ArgumentError(
        `Trainer: steps is ${steps}, and the checkpoint to go on from is of step ${checkpoint.step}`,
        "raise steps, or leave resume out",
      );
    }
    await this.#begin(checkpoint);
    try {
      await this.#restoreData();
    } catch (error) {
      this.state = undefined;
      throw error;
    }
    this.resumed = checkpoint !== undefined;
    if (this.resumed) {
      const part = this.partial === undefined ? "" : `: ${describePartial(this.partial)}`;
      console.log(`resumed "${name}" from the checkpoint of step ${this.step}${part}`);
    }
  }

  /** Returns to the last checkpoint, or the start, with the data from a position on. */
  async rollBack(position: DataPosition | undefined): Promise<void> {
    for (const leaf of leaves(this.state)) leaf.dispose();
    this.state = undefined;
    await this.#begin(await this.#checkpoints?.latest());
    this.position = position;
    if (position !== undefined) await this.#config.data?.restore(position);
  }

  /** The model with the state's parameters and buffers; before there is one, the configuration's. */
  get model(): M {
    const { state } = this;
    return state === undefined
      ? this.#config.model
      : this.division.model({ ...state.parameters, ...state.buffers }, this.held);
  }

  /** The model with the running average. */
  get averaged(): M | undefined {
    const average = this.state?.average ?? undefined;
    return average && this.division.model({ ...this.state!.buffers, ...average }, this.held);
  }

  /** Where it stands now. */
  get moment(): Moment {
    return { state: this.state!, step: this.step, counts: this.counts, position: this.position };
  }

  /** Returns to before a step that failed; false if the step has used up what it was given. */
  returnTo(before: Moment): boolean {
    if (leaves(before.state).some(({ buffer }) => buffer !== undefined && buffer.state !== "live"))
      return false;
    this.stand(before.state, before);
    return true;
  }

  /** Takes the data back to the state's position: a batch that was read and not computed must come again. */
  async returnData(): Promise<void> {
    if (this.state === undefined || this.position === undefined) return;
    // Data that cannot be read any more may be what failed; the next call will say so.
    await this.#config.data?.restore(this.position).catch(() => {});
  }

  /** Takes the state of a checkpoint, or that before the first step. */
  async #begin(checkpoint: Checkpoint | undefined): Promise<void> {
    const { model, references = {}, average, spikes, seed = 0, checkMemory, resume } = this.#config;
    const plan = this.#plan;
    const options: StartOptions = {
      seed,
      precision: resolvePrecision(this.#config.precision),
      average: average !== undefined,
      watch: spikes !== undefined,
      plan,
    };
    if (checkMemory !== false)
      await requireStateMemory(stateLike(this.division, options), plan?.stateParts ?? 1);
    // What is only read and has no values is drawn once; the rest where no checkpoint has it.
    const read = new Set(this.division.held());
    if ([...read].some(isUndrawn)) {
      const all = [model, ...Object.values(references)] as const;
      const [own, ...others] = drawnTogether(all, options, read);
      const named = Object.keys(references).map((name, i) => [name, others[i]!]);
      this.division = divisionOf(this.#config, own, Object.fromEntries(named));
    }
    const held = heldLeaves(this.division, plan);
    if (checkpoint === undefined) {
      this.savedStep = undefined;
      const standing = { step: 0, counts: {}, position: this.#start };
      this.stand(startingState(this.division, options), standing);
      this.held = held;
      return;
    }
    const { read: names } = this.division;
    const loaded =
      resume === "partial"
        ? await this.#checkpoints!.loadPart(
            checkpoint,
            startingState(this.division, options),
            names,
            plan?.place,
          )
        : {
            ...(await this.#checkpoints!.load(
              checkpoint,
              stateLike(this.division, options),
              names,
              plan?.place,
            )),
            report: undefined,
          };
    // A checkpoint of this training's own, that it returns to, fits.
    this.partial ??= loaded.report;
    this.savedStep = loaded.report === undefined ? loaded.standing.step : undefined;
    this.stand(loaded.state, loaded.standing);
    this.held = held;
  }

  /** Takes a state, and that it stands there. */
  stand(state: TrainState, { step, counts, position }: Standing): void {
    this.state = state;
    this.step = step;
    this.counts = counts;
    this.position = position;
  }

  /** Takes the data to the state's position; where only what fits is resumed, other data begin anew. */
  async #restoreData(): Promise<void> {
    const { data } = this.#config;
    if (data === undefined || this.position === undefined) return;
    try {
      await data.restore(this.position);
    } catch (error) {
      if (this.partial === undefined || !(error instanceof DataError)) throw error;
      this.partial = { ...this.partial, freshData: true };
      this.position = this.#start!;
      await data.restore(this.position);
    }
  }
}

function divisionOf<M extends TrainableModel, F extends object>(
  { optimizer, optimizers }: TrainerConfig<M, F>,
  model: M,
  references: Readonly<Record<string, Module>> | undefined,
): Division<M> {
  return new Division(model, optimizer ?? optimizers!, references);
}
