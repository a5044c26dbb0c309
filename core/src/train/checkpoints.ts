/**
 * The checkpoints of a training: what is saved of its state, and the state that comes back. Tensors go between the disk and the devices
 * without passing through this process.
 */
import { renameSync } from "node:fs";
import { scalar } from "../array/creation.js";
import type { Tensor } from "../array/tensor.js";
import { type Checkpoint, CheckpointError, CheckpointStore, type TensorFolder } from "../checkpoint/index.js";
import {
  compareTree,
  describeReport,
  fits,
  readTree,
  releaseFitting,
  type TreeFit,
  treeFolder,
} from "../checkpoint/trees.js";
import type { DataPosition } from "../data/batch.js";
import { ArgumentError } from "../graph/errors.js";
import type { Placement } from "../graph/mesh.js";
import { checkpointName, type Module } from "../nn/module.js";
import { matches } from "../nn/selection.js";
import type { Leaves } from "../optim/groups.js";
import { flatten } from "../transform/tree.js";
import { bestOf, type CheckpointOptions } from "./config.js";
import type { Division, TrainState } from "./state.js";
import type { TrainableModel } from "./step.js";

/** Where a training stands, beside its tensors. */
export interface Standing {
  readonly step: number;
  /** What the batches so far held. */
  readonly counts: Readonly<Record<string, number>>;
  /** Undefined where batches come without one. */
  readonly position: DataPosition | undefined;
}

/** What a checkpoint that was opened in part lacked, or had too much. Names are those of the files. */
export interface PartialReport {
  /** Of the model, and not in the checkpoint: they keep the values that they began with. */
  readonly missing: readonly string[];
  /** In the checkpoint, and not of the model. */
  readonly unexpected: readonly string[];
  /** In both with another shape or element type, with both: they keep the values that they began with. */
  readonly different: readonly string[];
  /** Whether the optimizer's state began anew, since it did not fit. */
  readonly freshOptimizer: boolean;
  /** Whether the data began anew, since the checkpoint's position is of other data. */
  readonly freshData: boolean;
}

/** Where each leaf of a tree lies; default whole on the first device. */
type Place = (path: string, leaf: Tensor) => Placement | undefined;

export class TrainingCheckpoints {
  readonly #store: CheckpointStore;
  readonly #save: NonNullable<CheckpointOptions["save"]>;

  constructor(folder: string, options: CheckpointOptions) {
    const { keep = 3, save = "trained" } = options;
    this.#store = new CheckpointStore(folder, { keep, keepBest: bestOf(options).count });
    this.#save = save;
  }

  /** The steps of the checkpoints that are whole. */
  steps(): Promise<number[]> {
    return this.#store.steps();
  }

  latest(): Promise<Checkpoint | undefined> {
    return this.#store.latest();
  }

  /** Moves what an earlier run left out of the way; the folder where it is kept, undefined if there was nothing. */
  async setAside(): Promise<string | undefined> {
    if ((await this.#store.steps()).length === 0) return undefined;
    const stamp = new Date().toISOString().replace(/[:.]/g, "-");
    const kept = `${this.#store.folder}-${stamp}`;
    renameSync(this.#store.folder, kept);
    return kept;
  }

  /**
   * Saves the state as it is now; later steps may take it over at once.
   *
   * @param model - the whole one, and whether all of it is saved
   */
  save<M extends TrainableModel>(
    state: TrainState,
    { division, model }: { division: Division<M>; model: M },
    { step, counts, position }: Standing,
    seed: number,
    score?: number,
  ): Promise<Checkpoint> {
    const { parameters, buffers, optimizer, average, watch, scale } = state;
    const all = this.#save === "all" || division.read.length === 0;
    const read = all ? division.leaves(division.read, model) : {};
    // A part of a model is none that could be opened by itself.
    const config = all ? model.configText?.() : undefined;
    const folder = (tree: unknown, text?: string): TensorFolder =>
      treeFolder(tree, text === undefined ? {} : { config: text });
    return this.#store.save({
      step,
      score,
      tensors: {
        model: folder({ ...read, ...buffers, ...parameters }, config),
        optimizer: folder(optimizer),
        ...(average !== null && { average: folder({ ...read, ...average }, config) }),
        ...(watch !== null && { watch: folder(watch) }),
        ...(scale !== null && { scale: folder(scale) }),
        ...this.#chosen(model, folder),
      },
      trainer: { version: 1, step, tokens: counts.tokens ?? 0, counts, seed, data: position ?? null },
    });
  }

  /** The folders of the configuration's own. */
  #chosen(model: Module, folder: (tree: unknown) => TensorFolder): Record<string, TensorFolder> {
    if (typeof this.#save === "string") return {};
    const flat = flatten(model);
    return Object.fromEntries(
      Object.entries(this.#save).map(([name, pattern]) => {
        const taken = flat.paths.flatMap((path, i) =>
          matches(pattern, path, flat.leaves[i]!) ? [[path, flat.leaves[i]!] as const] : [],
        );
        if (taken.length === 0) {
          throw new ArgumentError(
            `Trainer: checkpoints.save.${name} (${String(pattern)}) matches nothing`,
            `paths are like ${flat.paths.slice(0, 3).join(", ")}`,
          );
        }
        return [name, folder(Object.fromEntries(taken))];
      }),
    );
  }

  /**
   * The state of a checkpoint, of the structure of `like`.
   *
   * @param read - names of the model's leaves that are only read: a checkpoint may have them, and they are not taken from it
   * @param place - where the leaves of the state lie
   * @throws CheckpointError if names, shapes or element types differ
   */
  async load(
    checkpoint: Checkpoint,
    like: TrainState,
    read: readonly string[],
    place?: Place,
  ): Promise<{ state: TrainState; standing: Standing }> {
    const { files } = checkpoint;
    const standing = standingOf(checkpoint);
    const part = async <T>(key: keyof TrainState & string, tree: T): Promise<T> => {
      if (tree === null) return tree;
      const path = files[key];
      // Statistics of the loss and its scale find themselves again.
      if (path === undefined && (key === "watch" || key === "scale")) return tree;
      if (path === undefined) {
        throw new CheckpointError(
          `${checkpoint.folder} has no ${key}`,
          'it was saved without: train on without it, or set resume: "partial", which begins one with what there is',
        );
      }
      return restore(tree, path, "optimizer", [], place);
    };
    const own = { ...like.buffers, ...like.parameters };
    const model = await restore(own, files.model!, "parameter", read, place);
    const averagePath = files.average;
    const state: TrainState = {
      ...divided(model, like),
      optimizer: await part("optimizer", like.optimizer),
      average:
        like.average === null || averagePath === undefined
          ? await part("average", like.average)
          : await restore(like.average, averagePath, "optimizer", read, place),
      watch: await part("watch", like.watch),
      scale: await part("scale", like.scale),
      step: scalar(standing.step, "int32"),
    };
    return { state, standing };
  }

  /**
   * `start`, which is taken over, with what of a checkpoint fits it: parameters of equal name, shape and element type, and the optimizer's state if all of it
   * does. An average that the checkpoint does not have begins with the parameters that came of it.
   */
  async loadPart(
    checkpoint: Checkpoint,
    start: TrainState,
    read: readonly string[],
    place?: Place,
  ): Promise<{ state: TrainState; standing: Standing; report: PartialReport }> {
    const { files } = checkpoint;
    const standing = standingOf(checkpoint);
    const own = { ...start.buffers, ...start.parameters };
    const fit = withoutRead(await compareTree(own, files.model!), read);
    releaseFitting(own, fit);
    const model = await readTree(own, files.model!, fit, { place, tag: "parameter" });
    let { average, optimizer, watch, scale } = start;
    if (average !== null) {
      const averagePath = files.average ?? files.model!;
      const averageFit = await compareTree(average, averagePath);
      releaseFitting(average, averageFit);
      average = await readTree(average, averagePath, averageFit, { place, tag: "optimizer" });
    }
    const whatFits = async <T>(tree: T, path: string): Promise<T> =>
      readTree(tree, path, await compareTree(tree, path), { place, tag: "optimizer" });
    if (watch !== null && files.watch !== undefined) watch = await whatFits(watch, files.watch);
    if (scale !== null && files.scale !== undefined) scale = await whatFits(scale, files.scale);
    const optimizerFit = await compareTree(optimizer, files.optimizer!);
    const freshOptimizer = !fits(optimizerFit);
    if (!freshOptimizer) {
      releaseFitting(optimizer, optimizerFit);
      optimizer = await readTree(optimizer, files.optimizer!, optimizerFit, { place, tag: "optimizer" });
    }
    return {
      state: {
        ...divided(model, start),
        average,
        optimizer,
        watch,
        scale,
        step: scalar(standing.step, "int32"),
      },
      standing,
      report: {
        missing: fit.missing,
        unexpected: fit.unexpected,
        different: fit.different,
        freshOptimizer,
        freshData: false,
      },
    };
  }
}

/** Parameters and buffers apart again. */
function divided(leaves: Leaves, like: TrainState): Pick<TrainState, "parameters" | "buffers"> {
  const of = (part: Leaves): Leaves =>
    Object.fromEntries(Object.keys(part).map((path) => [path, leaves[path]!]));
  return { parameters: of(like.parameters), buffers: of(like.buffers) };
}

/** A comparison in which leaves that are only read are not unexpected. */
function withoutRead(fit: TreeFit, read: readonly string[]): TreeFit {
  const known = new Set(read.map(checkpointName));
  return { ...fit, unexpected: fit.unexpected.filter((name) => !known.has(name)) };
}

/** `tree` with the values of a checkpoint's folder; every name, shape and dtype must fit. */
async function restore<T>(
  tree: T,
  path: string,
  tag: "parameter" | "optimizer",
  read: readonly string[],
  place?: Place,
): Promise<T> {
  const fit = withoutRead(await compareTree(tree, path), read);
  if (!fits(fit)) {
    throw new CheckpointError(
      `${path} does not fit the model: ${describeReport(fit)}`,
      'load it with the configuration that it was saved from, or set resume: "partial" for what fits',
    );
  }
  return readTree(tree, path, fit, { place, tag });
}

/** The report as one line. */
export function describePartial(report: PartialReport): string {
  const { freshOptimizer, freshData } = report;
  const parts = [
    fits(report) ? "" : describeReport(report),
    freshOptimizer ? "the optimizer's state begins anew" : "",
    freshData ? "the data begin anew" : "",
  ].filter((each) => each !== "");
  return parts.length === 0 ? "everything fits" : parts.join("; ");
}

/** What a checkpoint says beside the tensors. */
interface SavedProgress {
  readonly version: 1;
  readonly step: number;
  readonly tokens: number;
  /** Of all that batches say they hold; older checkpoints have tokens only. */
  readonly counts?: Readonly<Record<string, number>>;
  readonly seed: number;
  readonly data: DataPosition | null;
}

function standingOf(checkpoint: Checkpoint): Standing {
  const progress = checkpoint.trainer as unknown as SavedProgress;
  if (progress?.version !== 1) {
    throw new CheckpointError(
      `${checkpoint.folder}/trainer.json has version ${String(progress?.version)}`,
      "it takes version 1",
    );
  }
  const { step, tokens, counts = { tokens } } = progress;
  return { step, counts, position: progress.data ?? undefined };
}
