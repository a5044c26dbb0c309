/**
 * The checkpoints of a training: what is saved of its state, and the state that comes back. Tensors go between the disk and the devices
 * without passing through this process.
 */
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { scalar } from "../array/creation.js";
import { listTensors, loadTensors, saveTensors } from "../array/storage.js";
import type { Tensor } from "../array/tensor.js";
import { type Checkpoint, CheckpointError, CheckpointStore, type TensorFolder } from "../checkpoint/index.js";
import type { DataPosition } from "../data/batch.js";
import { itemSize } from "../graph/dtype.js";
import type { Placement } from "../graph/mesh.js";
import { checkpointName, type Module } from "../nn/module.js";
import { flatten } from "../transform/tree.js";
import type { TrainState } from "./state.js";
import type { TrainableModel } from "./step.js";

/** Where a training stands, beside its tensors. */
export interface Standing {
  readonly step: number;
  readonly tokens: number;
  readonly position: DataPosition;
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

  /** Moves what an earlier run left out of the way; the folder where it is kept, undefined if there was nothing. */
  async setAside(): Promise<string | undefined> {
    if ((await this.#store.steps()).length === 0) return undefined;
    const stamp = new Date().toISOString().replace(/[:.]/g, "-");
    const kept = `${this.#store.folder}-${stamp}`;
    renameSync(this.#store.folder, kept);
    return kept;
  }

  /** Saves the state as it is now; later steps may take it over at once. */
  save<M extends TrainableModel>(
    { model, optimizer, average, watch }: TrainState<M>,
    { step, tokens, position }: Standing,
    seed: number,
    score?: number,
  ): Promise<Checkpoint> {
    return this.#store.save({
      step,
      score,
      tensors: {
        model: folderOf(model, model.configText?.()),
        optimizer: folderOf(optimizer),
        ...(average !== null && { average: folderOf(average, average.configText?.()) }),
        ...(watch !== null && { watch: folderOf(watch) }),
      },
      trainer: { version: 1, step, tokens, seed, data: position },
    });
  }

  /**
   * The state of a checkpoint, of the structure of `like`.
   *
   * @param place - where the leaves of the state lie
   * @throws CheckpointError if names, shapes or element types differ
   */
  async load<M extends Module>(
    checkpoint: Checkpoint,
    like: TrainState<M>,
    place?: Place,
  ): Promise<{ state: TrainState<M>; standing: Standing }> {
    const { files } = checkpoint;
    const standing = standingOf(checkpoint);
    const part = async <T>(key: keyof TrainState & string, tag: "parameter" | "optimizer"): Promise<T> => {
      const tree = like[key] as T;
      if (tree === null) return tree;
      const path = files[key];
      // Statistics of the loss gather by themselves.
      if (path === undefined && key === "watch") return tree;
      if (path === undefined) {
        throw new CheckpointError(
          `${checkpoint.folder} has no ${key}`,
          'it was saved without: train on without it, or set resume: "partial", which begins one with what there is',
        );
      }
      return restore(tree, path, tag, place);
    };
    const state: TrainState<M> = {
      model: await part("model", "parameter"),
      optimizer: await part("optimizer", "optimizer"),
      average: await part("average", "optimizer"),
      watch: await part("watch", "optimizer"),
      step: scalar(standing.step, "int32"),
    };
    return { state, standing };
  }

  /**
   * `start`, which is taken over, with what of a checkpoint fits it: parameters of equal name, shape and element type, and the optimizer's state if all of it
   * does. An average that the checkpoint does not have begins with the parameters that came of it.
   */
  async loadPart<M extends Module>(
    checkpoint: Checkpoint,
    start: TrainState<M>,
    place?: Place,
  ): Promise<{ state: TrainState<M>; standing: Standing; report: PartialReport }> {
    const { files } = checkpoint;
    const standing = standingOf(checkpoint);
    const fit = await compared(start.model, files.model!);
    release(start.model, fit);
    const model = await loaded(start.model, files.model!, fit, "parameter", place);
    let { average, optimizer, watch } = start;
    if (average !== null) {
      const averagePath = files.average ?? files.model!;
      const averageFit = await compared(average, averagePath);
      release(average, averageFit);
      average = await loaded(average, averagePath, averageFit, "optimizer", place);
    }
    if (watch !== null && files.watch !== undefined) {
      watch = await loaded(watch, files.watch, await compared(watch, files.watch), "optimizer", place);
    }
    const optimizerFit = await compared(optimizer, files.optimizer!);
    const freshOptimizer = !isWhole(optimizerFit);
    if (!freshOptimizer) {
      release(optimizer, optimizerFit);
      optimizer = await loaded(optimizer, files.optimizer!, optimizerFit, "optimizer", place);
    }
    return {
      state: {
        model,
        average,
        optimizer,
        watch,
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

/** The tensors of a tree as files of their folder, with `config.json` beside them for a model. */
function folderOf(tree: unknown, config?: string): TensorFolder {
  const flat = flatten(tree);
  const tensors = new Map(flat.leaves.map((leaf, i) => [checkpointName(flat.paths[i]!), leaf]));
  const bytes = flat.leaves.reduce((sum, leaf) => sum + leaf.size * itemSize(leaf.dtype) + 256, 4096);
  return {
    bytes,
    write(folder) {
      if (config !== undefined) writeFileSync(join(folder, "config.json"), config);
      return saveTensors(folder, tensors, { metadata: { format: "pt" } });
    },
  };
}

/** How a tree and the tensors of a folder fit. */
interface Fit {
  /** Positions of the leaves that are there with the same shape and element type. */
  readonly fitting: readonly number[];
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly different: readonly string[];
}

function isWhole({ missing, unexpected, different }: Fit): boolean {
  return missing.length + unexpected.length + different.length === 0;
}

async function compared(tree: unknown, path: string): Promise<Fit> {
  const flat = flatten(tree);
  const saved = await listTensors(path);
  const names = flat.paths.map(checkpointName);
  const expected = new Set(names);
  const different: string[] = [];
  const fitting = flat.leaves.flatMap((leaf, i) => {
    const name = names[i]!;
    const found = saved.get(name);
    if (found === undefined) return [];
    if (found.dtype === leaf.dtype && found.shape.join() === leaf.shape.join()) return [i];
    different.push(
      `${name} is ${found.dtype}[${found.shape.join(", ")}], the model's is ${leaf.dtype}[${leaf.shape.join(", ")}]`,
    );
    return [];
  });
  return {
    fitting,
    missing: names.filter((name) => !saved.has(name)),
    unexpected: [...saved.keys()].filter((name) => !expected.has(name)),
    different,
  };
}

/** Frees the values that are about to be replaced: both at once may be too much. */
function release(tree: unknown, { fitting }: Fit): void {
  const { leaves } = flatten(tree);
  for (const i of fitting) leaves[i]!.dispose();
}

/** `tree` with those of its leaves from a folder that fit. */
async function loaded<T>(
  tree: T,
  path: string,
  { fitting }: Fit,
  tag: "parameter" | "optimizer",
  place: Place = () => undefined,
): Promise<T> {
  const flat = flatten(tree);
  const leaves = [...flat.leaves];
  const wanted = fitting.map((i) => {
    const leaf = leaves[i]!;
    return {
      name: checkpointName(flat.paths[i]!),
      shape: leaf.shape,
      dtype: leaf.dtype,
      to: place(flat.paths[i]!, leaf),
    };
  });
  for (const [k, tensor] of (await loadTensors(path, wanted, tag)).entries()) leaves[fitting[k]!] = tensor;
  return flat.rebuild(leaves) as T;
}

/** `tree` with the values of a checkpoint's folder; every name, shape and dtype must fit. */
async function restore<T>(tree: T, path: string, tag: "parameter" | "optimizer", place?: Place): Promise<T> {
  const fit = await compared(tree, path);
  if (!isWhole(fit)) {
    const { missing, unexpected, different } = fit;
    const problems = [list("missing", missing), list("unexpected", unexpected), list("different", different)];
    throw new CheckpointError(
      `${path} does not fit the model: ${problems.filter((each) => each !== "").join("; ")}`,
      'load it with the configuration that it was saved from, or set resume: "partial" for what fits',
    );
  }
  return loaded(tree, path, fit, tag, place);
}

function list(what: string, names: readonly string[]): string {
  if (names.length === 0) return "";
  const shown = names.slice(0, 5).join(", ");
  return `${names.length} ${what} (${shown}${names.length > 5 ? ", …" : ""})`;
}

/** The report as one line. */
export function describePartial(report: PartialReport): string {
  const { missing, unexpected, different, freshOptimizer, freshData } = report;
  const parts = [
    list("missing", missing),
    list("unexpected", unexpected),
    list("different", different),
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
  readonly seed: number;
  readonly data: DataPosition;
}

function standingOf(checkpoint: Checkpoint): Standing {
  const progress = checkpoint.trainer as unknown as SavedProgress;
  if (progress?.version !== 1) {
    throw new CheckpointError(
      `${checkpoint.folder}/trainer.json has version ${String(progress?.version)}`,
      "it takes version 1",
    );
  }
  return { step: progress.step, tokens: progress.tokens, position: progress.data };
}
