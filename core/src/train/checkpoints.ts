/** The checkpoints of a training: what is saved of its state, and the state that comes back. */
import { scalar } from "../array/creation.js";
import { type Checkpoint, CheckpointStore } from "../checkpoint/index.js";
import type { DataPosition } from "../data/batch.js";
import type { Module } from "../nn/module.js";
import { progressOf, restore, snapshot, type TrainState } from "./state.js";

/** Where a training stands, beside its tensors. */
export interface Standing {
  readonly step: number;
  readonly tokens: number;
  readonly position: DataPosition;
}

export class TrainingCheckpoints {
  readonly #store: CheckpointStore;

  constructor(folder: string, { keep = 3, keepBest }: { keep?: number; keepBest?: number }) {
    this.#store = new CheckpointStore(folder, { keep, keepBest });
  }

  /** The steps of the checkpoints that are whole. */
  steps(): Promise<number[]> {
    return this.#store.steps();
  }

  latest(): Promise<Checkpoint | undefined> {
    return this.#store.latest();
  }

  /** Saves the state as it is now; later steps may take it over at once. */
  save<M extends Module>(
    state: TrainState<M>,
    { step, tokens, position }: Standing,
    seed: number,
    score?: number,
  ): Promise<Checkpoint> {
    const { model, optimizer, average, watch } = state;
    return this.#store.save({
      step,
      score,
      tensors: {
        model: snapshot(model),
        optimizer: snapshot(optimizer),
        ...(average !== null && { average: snapshot(average) }),
        ...(watch !== null && { watch: snapshot(watch) }),
      },
      trainer: { version: 1, step, tokens, seed, data: position },
    });
  }

  /** The state of a checkpoint, which must be of the same structure as `like`. */
  async load<M extends Module>(
    checkpoint: Checkpoint,
    like: TrainState<M>,
  ): Promise<{ state: TrainState<M>; standing: Standing }> {
    const { step, tokens, data } = progressOf(checkpoint);
    const { files } = checkpoint;
    const model = await restore(like.model, files.model!, "parameter");
    const optimizer = await restore(like.optimizer, files.optimizer!, "optimizer");
    const average = like.average && (await restore(like.average, files.average!, "parameter"));
    const watch = like.watch && (await restore(like.watch, files.watch!, "optimizer"));
    return {
      state: { model, optimizer, average, watch, step: scalar(step, "int32") },
      standing: { step, tokens, position: data as DataPosition },
    };
  }
}
