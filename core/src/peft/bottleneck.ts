/**
 * Bottleneck adapters: h + U · f(D · h) after sublayers of a transformer; after attention and feed-forward layers (Houlsby et al. 2019,
 * "Parameter-efficient transfer learning for NLP"), or after the latter alone (Pfeiffer et al. 2021, "AdapterFusion").
 */

import { dotGeneral } from "../array/contraction.js";
import { add, cast } from "../array/elementwise.js";
import { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import { ExpertMlp } from "../nn/experts.js";
import { constantInit, normalInit } from "../nn/initializers.js";
import { type Activation, activations } from "../nn/mlp.js";
import type { Module } from "../nn/module.js";
import { Adapter, checkName, withAdapter } from "./adapter.js";
import { type AuxiliaryOptions, auxiliary } from "./auxiliary.js";
import { sizesOf } from "./low-rank.js";
import { attached, beginning, placeAdapters } from "./model.js";
import { chosen, isLinear, type Target, type Targets } from "./targets.js";

export interface BottleneckOptions extends Pick<AuxiliaryOptions, "modulesToSave"> {
  /** Features in the middle. Default a sixteenth of the layer's outputs, at least 1. */
  features?: number;
  /** Default "gelu" of Houlsby's, "relu" of Pfeiffer's. */
  activation?: Activation;
  /**
   * The layers whose results are changed, before they are added to the residual stream. Default those of language models: `o_proj` and `down_proj` of
   * Houlsby's (`c_proj` of both in GPT-2), the latter of Pfeiffer's; `mlp` where it has experts.
   */
  targetModules?: Targets;
  excludeModules?: Exclude<Targets, "all-linear">;
  /** The adapter's name. Default "default". */
  name?: string;
}

/** h + U · f(D · h + c) + b. */
export class Bottleneck extends Adapter {
  readonly method = "BOTTLENECK";
  readonly activation: Activation;
  /** [features, outputs] and [features]. */
  down: Tensor;
  downBias: Tensor;
  /** [outputs, features] and [outputs]; zeros at first. */
  up: Tensor;
  upBias: Tensor;

  constructor(outputs: number, features: number, activation: Activation) {
    super();
    this.activation = activation;
    this.down = this.parameter("down", [features, outputs], { init: normalInit(0.02) });
    this.downBias = this.parameter("downBias", [features], { init: constantInit(0) });
    this.up = this.parameter("up", [outputs, features], { init: constantInit(0) });
    this.upBias = this.parameter("upBias", [outputs], { init: constantInit(0) });
  }

  override after(given: unknown): unknown {
    if (given instanceof Tensor) return this.changed(given);
    const { output, ...rest } = given as { output: Tensor };
    return { output: this.changed(output), ...rest };
  }

  private changed(h: Tensor): Tensor {
    const over = (x: Tensor, w: Tensor, b: Tensor): Tensor =>
      add(
        dotGeneral(x, cast(w, h.dtype), { contract: [[x.ndim - 1], [1]], batch: [[], []] }),
        cast(b, h.dtype),
      );
    return add(
      h,
      over(activations[this.activation](over(h, this.down, this.downBias)), this.up, this.upBias),
    );
  }
}

const houlsbyTargets = /(.*\.)?(self_attn\.o_proj|mlp\.down_proj|attn\.c_proj|mlp\.c_proj)/;
const pfeifferTargets = /(.*\.)?(mlp\.down_proj|mlp\.c_proj)/;

/** The model with adapters after attention and after feed-forward layers, which alone are trained. Fresh ones change nothing. */
export function houlsby<M extends Module>(model: M, options: BottleneckOptions = {}): M {
  return bottleneck("houlsby", model, { activation: "gelu", ...options }, houlsbyTargets);
}

/** The model with adapters after feed-forward layers, which alone are trained. Fresh ones change nothing. */
export function pfeiffer<M extends Module>(model: M, options: BottleneckOptions = {}): M {
  return bottleneck("pfeiffer", model, { activation: "relu", ...options }, pfeifferTargets);
}

function bottleneck<M extends Module>(
  operation: string,
  model: M,
  options: BottleneckOptions & { activation: Activation },
  otherwise: RegExp,
): M {
  refuseUnknownOptions(operation, options, [
    "features",
    "activation",
    "targetModules",
    "excludeModules",
    "modulesToSave",
    "name",
  ]);
  const { features, activation, name = "default", excludeModules: exclude } = options;
  checkName(operation, name);
  if (features !== undefined && !(Number.isInteger(features) && features > 0))
    throw new ArgumentError(`${operation}: features is ${features}`, "give a positive integer");
  if (!Object.hasOwn(activations, activation))
    throw new ArgumentError(
      `${operation}: the activation is ${JSON.stringify(activation)}`,
      `one of ${Object.keys(activations).join(", ")}`,
    );
  const base = beginning(operation, model, name);
  const own: Targets = (path, module) => otherwise.exec(path)?.[0] === path || module instanceof ExpertMlp;
  const found = chosen(operation, base, { targets: options.targetModules ?? own, exclude });
  const made = new Map(
    found.map((target) => [
      target.path,
      (layer: Module) => {
        const outputs = outputsOf(operation, target);
        return withAdapter(
          layer,
          name,
          new Bottleneck(outputs, features ?? Math.max(1, Math.floor(outputs / 16)), activation),
        );
      },
    ]),
  );
  const placed = placeAdapters(base, made);
  return attached(auxiliary(operation, placed, name, options), name);
}

function outputsOf(operation: string, { module, name }: Target): number {
  if (module instanceof ExpertMlp) return module.experts.downProj.shape[1]!;
  if (isLinear(module)) return sizesOf(module)[0];
  throw new ArgumentError(
    `${operation}: "${name}" is a ${module.constructor.name}`,
    "name Linear layers, whose results have a known number of features",
  );
}
