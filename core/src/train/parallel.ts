/** How a training is spread over devices: the mesh, and where parameters, optimizer and batches lie on it. */

import type { DType } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import { Mesh, type Placement, replicated } from "../graph/mesh.js";
import type { Aval } from "../graph/node.js";
import { type Module, parameterLayout } from "../nn/module.js";
import type { RuntimeInfo } from "../runtime/runtime.js";
import { distributeBy } from "../sharding/distribute.js";
import { gathered, type Layout, placeLike } from "../sharding/layout.js";
import { defaultRules, placeAxes, type Rules } from "../sharding/rules.js";

/** Devices along each axis of the mesh; the product is the number of devices. */
export interface ParallelConfig {
  /** Copies of the model, each with its share of the batch. Default 1. */
  data?: number;
  /** Parts of the parameters and optimizer states, gathered where they are used; each part has its share of the batch. Default 1. */
  fsdp?: number;
  /** Parts of each layer's heads, feed-forward and vocabulary, computed side by side. Default 1. */
  tensor?: number;
  /** Which mesh axes split the logical axes that the model declares. Default `defaultRules`. */
  rules?: Rules;
}

export class ParallelPlan {
  readonly mesh: Mesh;
  readonly layout: Layout;
  readonly #rules: Rules;

  /** @throws ArgumentError for sizes that are no positive integers, or do not divide the batch's parts or the heads */
  constructor(
    { data = 1, fsdp = 1, tensor = 1, rules = defaultRules }: ParallelConfig,
    model: Module,
    batchSize: number | undefined,
    accumulate = 1,
  ) {
    this.mesh = new Mesh({ data, fsdp, tensor });
    this.#rules = rules;
    this.layout = parameterLayout(model, this.mesh, rules);
    const parts = data * fsdp;
    if (batchSize !== undefined && (batchSize / accumulate) % parts !== 0) {
      const cut = accumulate === 1 ? "" : ` in accumulate ${accumulate} parts`;
      throw new ArgumentError(
        `Trainer: a batch of ${batchSize} rows${cut} over parallel.data ${data} x parallel.fsdp ${fsdp} devices`,
        accumulate === 1
          ? `give a batchSize that is a multiple of ${parts}`
          : `give an accumulate (in recipes a microBatchSize) whose parts have a multiple of ${parts} rows`,
      );
    }
    const { heads, keyValueHeads } =
      (model as { config?: { heads?: number; keyValueHeads?: number } }).config ?? {};
    for (const [name, count] of Object.entries({ heads, keyValueHeads })) {
      if (count !== undefined && count % tensor !== 0) {
        throw new ArgumentError(
          `Trainer: the model's ${count} ${name} over parallel.tensor ${tensor}`,
          "choose a size of `tensor` that divides them",
        );
      }
    }
  }

  /** @throws ArgumentError if the runtime has too few devices */
  check({ devices, platform }: Pick<RuntimeInfo, "devices" | "platform">): void {
    if (devices.length >= this.mesh.count) return;
    throw new ArgumentError(
      `Trainer: parallel asks for ${this.mesh.count} devices (${this.mesh}), the runtime has ${devices.length}`,
      platform === "cpu"
        ? `set ARONNAX_DEVICES=cpu:${this.mesh.count} before the runtime starts, for as many virtual devices`
        : "lower the sizes, or make more GPUs visible with ARONNAX_DEVICES",
    );
  }

  /** Parts that parameters and optimizer states come in; each copy of the model has all of them. */
  get stateParts(): number {
    return this.mesh.count / this.mesh.size("data");
  }

  /** A copy of a tree of leaves by path, each where it belongs. */
  distribute<T>(tree: T): T {
    return distributeBy(tree, this.place);
  }

  /** Where a leaf of the model, the optimizer's state or the average lies: as the parameter that its path ends with, else on each device. */
  readonly place = (path: string, leaf: Aval): Placement =>
    placeLike(this.layout, path, leaf) ?? replicated(this.mesh, leaf);

  /** The model as a step computes with it: weights whole along the axis that only stores them in parts. */
  forUse<M extends Module>(model: M): M {
    return gathered(model, this.layout, ["fsdp"]);
  }

  /** Where an array of a batch lies whose axis `rows` runs over the rows that are computed at once; null for one that all devices have whole. */
  batch(shape: readonly number[], dtype: DType, rows: number | null): Placement {
    return placeAxes(
      shape.map((_, i) => (i === rows ? "batch" : null)),
      { shape, dtype },
      this.mesh,
      this.#rules,
    );
  }
}

/** The plan of a configuration; undefined for one device. */
export function planOf(config: {
  readonly parallel?: ParallelConfig;
  readonly model: Module;
  readonly data?: { readonly batchSize: number };
  readonly accumulate?: number;
}): ParallelPlan | undefined {
  const { parallel, model, data, accumulate = 1 } = config;
  if (parallel === undefined) return undefined;
  const plan = new ParallelPlan(parallel, model, data?.batchSize, accumulate);
  return plan.mesh.count === 1 ? undefined : plan;
}
