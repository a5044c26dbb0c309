/** (IA)³ (Liu et al. 2022, "Few-shot parameter-efficient fine-tuning is better and cheaper than in-context learning"): learnt factors of keys, values and what feed-forward layers hold. */
import { cast, mul } from "../array/elementwise.js";
import { reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import { Conv } from "../nn/convolutions.js";
import { constantInit } from "../nn/initializers.js";
import { Embedding } from "../nn/layers.js";
import type { Module } from "../nn/module.js";
import { Adapter, checkName, withAdapter } from "./adapter.js";
import { type AuxiliaryOptions, auxiliary } from "./auxiliary.js";
import { defaultFeedforward, defaultTargets } from "./defaults.js";
import { type LowRankBase, sizesOf } from "./low-rank.js";
import { attached, beginning, placeAdapters } from "./model.js";
import { chosen, isLayer, isNamed, type Target, type Targets } from "./targets.js";

export interface Ia3Options extends Pick<AuxiliaryOptions, "modulesToSave"> {
  /** Which modules. Default PEFT's of the model's family (keys, values and the last layer of feed-forward ones), else "all-linear". */
  targetModules?: Targets;
  excludeModules?: Exclude<Targets, "all-linear">;
  /** Names of those of them that scale what they are given, not what they give. Default PEFT's of the family, else none. */
  feedforwardModules?: readonly string[];
  /** The adapter's name. Default "default". */
  name?: string;
}

/** Factors of a layer's outputs, or inputs. */
export class Scaling extends Adapter {
  readonly method = "IA3";
  readonly feedforward: boolean;
  /** Axes of space after that of the channels. */
  readonly space: number;
  /** [outputs], or [inputs] of feed-forward layers. */
  factors: Tensor;

  constructor(layer: LowRankBase, feedforward: boolean) {
    super();
    this.feedforward = feedforward;
    this.space = layer instanceof Conv ? layer.weight.ndim - 2 : 0;
    const [outputs] = sizesOf(layer);
    const inputs = layer.weight.shape[1]!;
    this.factors = this.parameter("factors", [feedforward ? inputs : outputs], { init: constantInit(1) });
  }

  private times(x: Tensor): Tensor {
    return mul(x, reshape(cast(this.factors, x.dtype), [-1, ...new Array<number>(this.space).fill(1)]));
  }

  override before(x: Tensor): Tensor {
    return this.feedforward ? this.times(x) : x;
  }

  override after(y: unknown): unknown {
    return this.feedforward ? y : this.times(y as Tensor);
  }
}

/**
 * The model with learnt factors at some of its layers, which alone are trained: everything else is frozen. Fresh ones change nothing.
 *
 * @throws ArgumentError for names and patterns that match nothing, and layers that have no factors
 */
export function ia3<M extends Module>(model: M, options: Ia3Options = {}): M {
  refuseUnknownOptions("ia3", options, [
    "targetModules",
    "excludeModules",
    "feedforwardModules",
    "modulesToSave",
    "name",
  ]);
  const { name = "default", excludeModules: exclude } = options;
  checkName("ia3", name);
  const base = beginning("ia3", model, name);
  const targets = options.targetModules ?? defaultTargets(model, "IA3");
  const feedforward = options.feedforwardModules ?? defaultFeedforward(model) ?? [];
  const found = chosen("ia3", base, { targets, exclude });
  const unused = options.feedforwardModules?.find((each) => !found.some((target) => isNamed([each], target)));
  if (unused !== undefined)
    throw new ArgumentError(
      `ia3: feedforwardModules has ${JSON.stringify(unused)}, which is no target module`,
      "name modules that targetModules takes",
    );
  const made = new Map(
    found.map((target) => [
      target.path,
      (layer: Module) => withAdapter(layer, name, scaling(layer, target, isNamed(feedforward, target))),
    ]),
  );
  return attached(auxiliary("ia3", placeAdapters(base, made), name, options), name);
}

function scaling(layer: Module, { name }: Target, feedforward: boolean): Scaling {
  if (!isLayer(layer) || layer instanceof Embedding)
    throw new ArgumentError(
      `ia3: "${name}" is a ${layer.constructor.name}, which has no factors`,
      "name Linear or convolution layers",
    );
  return new Scaling(layer, feedforward);
}
