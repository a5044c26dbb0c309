/** How a training is spread over devices: the mesh, and where parameters, optimizer and batches lie on it. */
import { ArgumentError } from "../graph/errors.js";
import { Mesh, type Placement } from "../graph/mesh.js";
import { initialize, type Module, parameterLayout } from "../nn/module.js";
import type { RuntimeInfo } from "../runtime/runtime.js";
import { distributeBy } from "../sharding/distribute.js";
import { gathered, type Layout, layoutLike } from "../sharding/layout.js";
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

/** The axes that split the batch. */
const batchAxes = ["data", "fsdp"] as const;

export class ParallelPlan {
  readonly mesh: Mesh;
  readonly layout: Layout;
  readonly #rules: Rules;

  /** @throws ArgumentError for sizes that are no positive integers, or do not divide the batch or the heads */
  constructor(
    { data = 1, fsdp = 1, tensor = 1, rules = defaultRules }: ParallelConfig,
    model: Module,
    batchSize: number,
  ) {
    this.mesh = new Mesh({ data, fsdp, tensor });
    this.#rules = rules;
    this.layout = parameterLayout(model, this.mesh, rules);
    const parts = data * fsdp;
    if (batchSize % parts !== 0) {
      throw new ArgumentError(
        `Trainer: a batch of ${batchSize} sequences over parallel.data ${data} x parallel.fsdp ${fsdp} devices`,
        `give a batchSize that is a multiple of ${parts}`,
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

  /** A model's parameters drawn in parts. */
  initialize<M extends Module>(model: M, seed: number): M {
    return initialize(model, seed, this.layout);
  }

  /** A tree of values with the parameters' paths, copied to where parameters lie. */
  distribute<T>(tree: T): T {
    return distributeBy(tree, (path) => this.layout.get(path));
  }

  /** Where the leaves of an optimizer's state lie. */
  get likeParameters(): (path: string, leaf: { readonly shape: readonly number[] }) => Placement | undefined {
    return layoutLike(this.layout);
  }

  /** The model as a step computes with it: weights whole along the axis that only stores them in parts. */
  forUse<M extends Module>(model: M): M {
    return gathered(model, this.layout, [batchAxes[1]]);
  }

  /** Where a batch [batch, ...] lies. */
  batch(shape: readonly number[]): Placement {
    return placeAxes(
      ["batch", ...shape.slice(1).map(() => null)],
      { shape, dtype: "int32" },
      this.mesh,
      this.#rules,
    );
  }
}
