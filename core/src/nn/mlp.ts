/** Feed-forward layers of transformers. Fields are named as in Hugging Face's checkpoints, in camel case. */
import { gelu, mul, relu, sigmoid, silu, square } from "../array/elementwise.js";
import { split } from "../array/joining.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { checkpointName } from "../transform/remat.js";
import { type Initializer, normalInit } from "./initializers.js";
import { Linear } from "./layers.js";
import { Module } from "./module.js";

/** Nonlinearities by name; `geluTanh` is GELU's tanh approximation, `relu2` the square of ReLU (So et al. 2021, "Primer"), `quickGelu` CLIP's x · σ(1.702 x). */
export const activations = {
  silu,
  gelu: (x: Tensor): Tensor => gelu(x),
  geluTanh: (x: Tensor): Tensor => gelu(x, { approximate: true }),
  relu,
  relu2: (x: Tensor): Tensor => square(relu(x)),
  quickGelu: (x: Tensor): Tensor => mul(x, sigmoid(mul(x, 1.702))),
} as const satisfies Record<string, (x: Tensor) => Tensor>;

export type Activation = keyof typeof activations;

function checkActivation(activation: Activation): void {
  if (!Object.hasOwn(activations, activation))
    throw new ArgumentError(
      `the activation is ${JSON.stringify(activation)}`,
      `one of ${Object.keys(activations).join(", ")}`,
    );
}

export interface MlpOptions {
  /** Default "silu" where gated, else "gelu". */
  activation?: Activation;
  bias?: boolean;
  init?: Initializer;
  /** Of the layer that writes to the residual stream; default `init`. */
  outputInit?: Initializer;
}

/** down(activation(up(x))): [..., features] to [..., features]. */
export class Mlp extends Module {
  upProj: Linear;
  downProj: Linear;
  readonly activation: Activation;

  constructor(features: number, hidden: number, options: MlpOptions = {}) {
    super();
    const { activation = "gelu", bias = false, init = normalInit(0.02), outputInit = init } = options;
    checkActivation(activation);
    this.activation = activation;
    this.upProj = new Linear(features, hidden, { bias, init, axes: ["mlp", "embed"] });
    this.downProj = new Linear(hidden, features, { bias, init: outputInit, axes: ["embed", "mlp"] });
  }

  forward(x: Tensor): Tensor {
    return this.downProj.forward(checkpointName(activations[this.activation](this.upProj.forward(x)), "mlp"));
  }
}

/** down(activation(gate(x)) · up(x)) (Shazeer 2020, "GLU variants improve transformer"): [..., features] to [..., features]. */
export class GatedMlp extends Module {
  gateProj: Linear | null;
  upProj: Linear | null;
  /** Gate and up in one product (Phi-3). */
  gateUpProj: Linear | null;
  downProj: Linear;
  readonly activation: Activation;

  constructor(features: number, hidden: number, options: MlpOptions & { fused?: boolean } = {}) {
    super();
    const {
      activation = "silu",
      bias = false,
      init = normalInit(0.02),
      outputInit = init,
      fused = false,
    } = options;
    const layer = (outputs: number): Linear =>
      new Linear(features, outputs, { bias, init, axes: ["mlp", "embed"] });
    checkActivation(activation);
    this.activation = activation;
    this.gateProj = fused ? null : layer(hidden);
    this.upProj = fused ? null : layer(hidden);
    this.gateUpProj = fused ? layer(2 * hidden) : null;
    this.downProj = new Linear(hidden, features, { bias, init: outputInit, axes: ["embed", "mlp"] });
  }

  forward(x: Tensor): Tensor {
    const [gate, up] =
      this.gateUpProj === null
        ? [this.gateProj!.forward(x), this.upProj!.forward(x)]
        : (split(this.gateUpProj.forward(x), 2, -1) as [Tensor, Tensor]);
    return this.downProj.forward(checkpointName(mul(activations[this.activation](gate), up), "mlp"));
  }
}
