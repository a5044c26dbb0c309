/** Trees of arrays that stay on the devices, under a name, when this process ends: a kernel that is restarted finds them again. */
import { bufferOf, materialize } from "../array/evaluate.js";
import { fromBuffer } from "../array/storage.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { Runtime } from "../runtime/runtime.js";
import type { JsonValue, WorkspaceInfo } from "../runtime/workspace.js";
import { flatten } from "./tree.js";

/** The name of a tree that is a single Tensor. */
const ALONE = "value";

/**
 * A named set of arrays in the runtime process, which outlives this one.
 *
 * Arrays are held, not copied: a jitted function that takes one over by donation takes it from the workspace too, so a loop that
 * donates its state calls `set` again with the state it got back.
 */
export class ArrayWorkspace {
  constructor(readonly name: string) {
    if (name === "")
      throw new ArgumentError('a workspace has the name ""', "give it a name, e.g. experiment");
  }

  /**
   * Keeps the Tensors of a tree under their paths (`layers.0.weight`), in the place of those that had the same ones, and `metadata`,
   * if given, beside them. Computes what has not been computed. Resolves when the runtime has them.
   */
  async set(tree: unknown, metadata?: JsonValue): Promise<void> {
    const { leaves, paths } = flatten(tree);
    materialize(leaves);
    const buffers = Object.fromEntries(leaves.map((leaf, i) => [paths[i] || ALONE, bufferOf(leaf)]));
    await this.#remote().set(buffers, metadata);
  }

  /** All arrays by their paths. */
  get(): Promise<Record<string, Tensor>>;
  /**
   * A tree like `like`, a model for instance, with the arrays that are kept under its paths.
   * @throws ArgumentError if one is missing or has another shape or dtype.
   */
  get<T>(like: T): Promise<T>;
  async get(like?: unknown): Promise<unknown> {
    const remote = this.#remote();
    if (like === undefined) {
      const buffers = await remote.get();
      return Object.fromEntries(Object.entries(buffers).map(([name, buffer]) => [name, fromBuffer(buffer)]));
    }
    const { leaves, paths, rebuild } = flatten(like);
    const names = paths.map((path) => path || ALONE);
    const { buffers: kept } = await remote.list();
    for (const [i, name] of names.entries()) {
      const found = kept[name];
      const { shape, dtype } = leaves[i]!;
      if (found === undefined) {
        const all = Object.keys(kept).join(", ") || "nothing";
        throw new ArgumentError(`workspace ${this.name} holds no ${name}`, `it holds: ${all}`);
      }
      if (found.dtype !== dtype || found.shape.join() !== shape.join()) {
        throw new ArgumentError(
          `workspace ${this.name} holds ${name} as ${found.dtype}[${found.shape.join(", ")}], not as ${dtype}[${shape.join(", ")}]`,
          "get() without an argument gives what there is",
        );
      }
    }
    const buffers = await remote.get(names);
    return rebuild(names.map((name) => fromBuffer(buffers[name]!)));
  }

  /** What it holds, by path, and the metadata; empty for a name that nobody has used. */
  info(): Promise<WorkspaceInfo> {
    return this.#remote().list();
  }

  /** Lets go of the arrays under these paths, or of all and the metadata. */
  async delete(paths?: readonly string[]): Promise<void> {
    await this.#remote().delete(paths);
  }

  /** That of the runtime of the moment: after one is lost, there is another. */
  #remote() {
    return Runtime.default().workspace(this.name);
  }
}

/** The workspace of this name in the runtime; it need not exist yet. */
export function workspace(name: string): ArrayWorkspace {
  return new ArrayWorkspace(name);
}
