/** The state of a training, and how a model's leaves are divided over it. */

import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import type { Module } from "../nn/module.js";
import type { Leaves } from "../optim/groups.js";
import type { Optimizer } from "../optim/optimizer.js";
import { flatten } from "../transform/tree.js";

/** Running statistics of the loss, float32 scalars: what a spike is judged by. */
export interface LossWatch {
  readonly mean: Tensor;
  readonly variance: Tensor;
  /** Losses seen. */
  readonly count: Tensor;
}

/** What float16 gradients are scaled by, so that small ones are not rounded to zero. */
export interface LossScale {
  /** float32 scalar. */
  readonly scale: Tensor;
  /** Good updates since it last changed, int32 scalar. */
  readonly good: Tensor;
}

/** What a step takes over and gives back, all on the device. Leaves of the model are by their paths in it. */
export interface TrainState {
  /** Those that are trained. */
  readonly parameters: Leaves;
  readonly buffers: Leaves;
  /** Of one optimizer; of several a record by name of `{ state, count }`, with the updates that each has made. */
  readonly optimizer: unknown;
  /** Running average of the parameters and of buffers of floats, where one is kept. */
  readonly average: Leaves | null;
  /** Where spikes are looked for. */
  readonly watch: LossWatch | null;
  /** Where the loss is scaled. */
  readonly scale: LossScale | null;
  /** Updates done, int32 scalar. */
  readonly step: Tensor;
}

/** Leaves that a step only reads: frozen ones and constants of the model, and those of the references. Each Tensor is there once. */
export type Held = readonly Tensor[];

/** One of the optimizers of a training with its parameters. */
export interface Part {
  /** Empty for the only one. */
  readonly name: string;
  readonly optimizer: Optimizer;
  /** Paths of what it trains. */
  readonly paths: readonly string[];
}

/**
 * Which leaves of a model are trained, which are buffers, and which are only read; and models put together from them.
 */
export class Division<M extends Module> {
  readonly parts: readonly Part[];
  /** Paths of all trained parameters. */
  readonly trained: readonly string[];
  readonly buffers: readonly string[];
  /** Buffers that take their new values from the derivative. */
  readonly cotangents: readonly string[];
  /** Paths of what is only read. */
  readonly read: readonly string[];
  readonly #model: M;
  readonly #references: Readonly<Record<string, Module>>;

  /** @throws ArgumentError where nothing is trained, or an optimizer has no parameters */
  constructor(
    model: M,
    optimizers: Optimizer | Readonly<Record<string, Optimizer>>,
    references: Readonly<Record<string, Module>> = {},
  ) {
    this.#model = model;
    this.#references = references;
    const flat = flatten(model);
    const single = typeof (optimizers as Optimizer).update === "function";
    const named: [string, Optimizer][] = single
      ? [["", optimizers as Optimizer]]
      : Object.entries(optimizers as Readonly<Record<string, Optimizer>>);
    const owned = (prefix: string, path: string): boolean => prefix === "" || path.startsWith(`${prefix}.`);
    this.parts = named.map(([name, optimizer]) => ({
      name,
      optimizer,
      paths: flat.paths.filter(
        (path, i) =>
          flat.kinds[i] === "parameter" &&
          owned(name, path) &&
          (optimizer.trains?.(path, flat.leaves[i]!) ?? true),
      ),
    }));
    for (const { name, optimizer, paths } of this.parts) {
      const all = flat.paths.flatMap((path, i) =>
        owned(name, path) && ["parameter", "frozen"].includes(flat.kinds[i]!)
          ? [[path, flat.leaves[i]!]]
          : [],
      );
      optimizer.check?.(Object.fromEntries(all));
      if (paths.length > 0) continue;
      const own = flat.paths.filter((path) => owned(name, path));
      throw new ArgumentError(
        name === ""
          ? "Trainer: the optimizer trains no parameter"
          : `Trainer: optimizers.${name} trains no parameter: ${own.length === 0 ? `the model has no part "${name}"` : "all are frozen"}`,
        own.length === 0
          ? `name a part of the model: ${[...new Set(flat.paths.map((path) => path.split(".")[0]))].join(", ")}`
          : "leave one unfrozen; a Tensor is trained where its Module declares it with this.parameter(name, shape)",
      );
    }
    this.trained = [...new Set(this.parts.flatMap(({ paths }) => paths))];
    const isTrained = new Set(this.trained);
    const of = (...kinds: string[]): string[] => flat.paths.filter((_, i) => kinds.includes(flat.kinds[i]!));
    this.buffers = of("buffer", "cotangent");
    this.cotangents = of("cotangent");
    const isBuffer = new Set(this.buffers);
    this.read = flat.paths.filter((path) => !isTrained.has(path) && !isBuffer.has(path));
  }

  /** Leaves of the model, of those at `paths`. */
  leaves(paths: readonly string[], model: Module = this.#model): Record<string, Tensor> {
    const flat = flatten(model);
    const wanted = new Set(paths);
    return Object.fromEntries(
      flat.paths.flatMap((path, i) => (wanted.has(path) ? [[path, flat.leaves[i]!]] : [])),
    );
  }

  /** What is only read, as the configuration has it: leaves that the model and its references share are there once. */
  held(): Tensor[] {
    return [...this.#places().keys()];
  }

  /** Tensors that are only read, with the number of each. */
  #places(): Map<Tensor, number> {
    const places = new Map<Tensor, number>();
    const note = (x: Tensor): void => {
      if (!places.has(x)) places.set(x, places.size);
    };
    const own = new Set(this.read);
    const flat = flatten(this.#model);
    for (const [i, leaf] of flat.leaves.entries()) if (own.has(flat.paths[i]!)) note(leaf);
    for (const reference of Object.values(this.#references))
      for (const x of flatten(reference).leaves) note(x);
    return places;
  }

  /** The path of each Tensor that is only read, for its placement. */
  heldPaths(): string[] {
    const paths = new Map<Tensor, string>();
    for (const reference of Object.values(this.#references)) {
      const flat = flatten(reference);
      for (const [i, leaf] of flat.leaves.entries()) paths.set(leaf, flat.paths[i]!);
    }
    const flat = flatten(this.#model);
    for (const [i, leaf] of flat.leaves.entries()) paths.set(leaf, flat.paths[i]!);
    return this.held().map((x) => paths.get(x)!);
  }

  /** The model with other leaves: by path, else those that are only read. */
  model(leaves: Leaves, held: Held): M {
    const places = this.#places();
    const flat = flatten(this.#model);
    return flat.rebuild(
      flat.leaves.map((leaf, i) => leaves[flat.paths[i]!] ?? held[places.get(leaf)!]!),
    ) as M;
  }

  /** The references, with what they are made of. */
  references(held: Held): Record<string, Module> {
    const places = this.#places();
    return Object.fromEntries(
      Object.entries(this.#references).map(([name, reference]) => {
        const flat = flatten(reference);
        return [name, flat.rebuild(flat.leaves.map((leaf) => held[places.get(leaf)!]!)) as Module];
      }),
    );
  }

  /** The model that was divided. */
  get source(): M {
    return this.#model;
  }
}
