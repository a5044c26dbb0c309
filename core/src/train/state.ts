/** The state of a training and its way to disk and back. */
import { fromBytes } from "../array/creation.js";
import { fetch, materialize } from "../array/evaluate.js";
import type { Tensor } from "../array/tensor.js";
import type { NamedTensor } from "../checkpoint/index.js";
import { type Checkpoint, CheckpointError, SafetensorsFile, tensorsOf } from "../checkpoint/index.js";
import { checkpointName, type Module } from "../nn/module.js";
import { flatten } from "../transform/tree.js";

/** Running statistics of the loss, float32 scalars: what a spike is judged by. */
export interface LossWatch {
  readonly mean: Tensor;
  readonly variance: Tensor;
  /** Losses seen. */
  readonly count: Tensor;
}

/** What a step takes and gives back, all on the device. */
export interface TrainState<M extends Module = Module> {
  readonly model: M;
  readonly optimizer: unknown;
  /** Running average of the parameters, where one is kept. */
  readonly average: M | null;
  /** Where spikes are looked for. */
  readonly watch: LossWatch | null;
  /** Updates done, int32 scalar. */
  readonly step: Tensor;
}

/**
 * The tensors of a tree under their checkpoint names. The bytes are asked for at once, in the runtime's order: what is queued
 * afterwards (a step that takes the buffers over) cannot disturb them.
 */
export function snapshot(tree: unknown): NamedTensor[] {
  const flat = flatten(tree);
  materialize(flat.leaves);
  return flat.leaves.map((leaf, i) => {
    const bytes = fetch(leaf);
    bytes.catch(() => {});
    return { name: checkpointName(flat.paths[i]!), dtype: leaf.dtype, shape: leaf.shape, bytes: () => bytes };
  });
}

/** `tree` with the values of a checkpoint file; every name, shape and dtype must fit. */
export async function restore<T>(tree: T, path: string, tag: "parameter" | "optimizer"): Promise<T> {
  const file = await SafetensorsFile.open(path);
  try {
    const found = new Map(tensorsOf(file).map((t) => [t.name, t]));
    const flat = flatten(tree);
    const names = flat.paths.map(checkpointName);
    const missing = names.filter((name) => !found.has(name));
    const unexpected = [...found.keys()].filter((name) => !names.includes(name));
    if (missing.length > 0 || unexpected.length > 0) {
      throw new CheckpointError(
        `${path} does not fit the model: ${list("missing", missing)}${missing.length && unexpected.length ? "; " : ""}${list("unexpected", unexpected)}`,
        "load it with the model configuration that it was saved from",
      );
    }
    const loaded: Tensor[] = [];
    for (const [i, leaf] of flat.leaves.entries()) {
      const saved = found.get(names[i]!)!;
      if (saved.dtype !== leaf.dtype || saved.shape.join() !== leaf.shape.join()) {
        throw new CheckpointError(
          `${path}: ${saved.name} is ${saved.dtype}[${saved.shape.join(", ")}], the model's is ${leaf.dtype}[${leaf.shape.join(", ")}]`,
          "load it with the model configuration that it was saved from",
        );
      }
      loaded.push(fromBytes(await saved.bytes(), saved.shape, saved.dtype, tag));
    }
    materialize(loaded);
    return flat.rebuild(loaded) as T;
  } finally {
    await file.close();
  }
}

function list(what: string, names: readonly string[]): string {
  if (names.length === 0) return "";
  const shown = names.slice(0, 5).join(", ");
  return `${names.length} ${what} (${shown}${names.length > 5 ? ", …" : ""})`;
}

/** What a checkpoint says beside the tensors. */
export interface SavedProgress {
  readonly version: 1;
  readonly step: number;
  readonly tokens: number;
  readonly seed: number;
  readonly data: Record<string, unknown>;
}

export function progressOf(checkpoint: Checkpoint): SavedProgress {
  const progress = checkpoint.trainer as unknown as SavedProgress;
  if (progress?.version !== 1) {
    throw new CheckpointError(
      `${checkpoint.folder}/trainer.json has version ${String(progress?.version)}`,
      "it takes version 1",
    );
  }
  return progress;
}
