/** ConvNeXt V2 (Woo et al. 2023): depthwise convolutions with the layers of a transformer around them, and response normalization. */

import { sum } from "../../array/broadcast.js";
import { add, div, mul, sqrt, square } from "../../array/elementwise.js";
import { mean } from "../../array/reductions.js";
import { transpose } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import { ArgumentError } from "../../graph/errors.js";
import { Conv2d } from "../../nn/convolutions.js";
import { StochasticDepth } from "../../nn/dropout.js";
import { constantInit, type Initializer, normalInit } from "../../nn/initializers.js";
import { LayerNorm, Linear } from "../../nn/layers.js";
import { type Activation, activations } from "../../nn/mlp.js";
import { Module } from "../../nn/module.js";
import {
  checkConfig,
  type ImageConfig,
  readClasses,
  readFields,
  writeClasses,
  writeFields,
} from "./config.js";
import { type Encoded, ImageModel, layoutOf, type Rules, type VisionFamily } from "./family.js";
import { checkPixels } from "./tower.js";

export interface ConvNextV2Config extends ImageConfig {
  /** Features of each stage. */
  hiddenSizes: readonly number[];
  /** Layers of each stage. */
  depths: readonly number[];
  /** Side of the patches of the stem. Default 4. */
  patchSize?: number;
  activation?: Activation;
  /** Of the last norm. Default 1e-12. */
  normEpsilon?: number;
  initStd?: number;
  /** Largest rate of stochastic depth. Default 0. */
  dropPath?: number;
}

const defaults = {
  channels: 3,
  patchSize: 4,
  activation: "gelu",
  normEpsilon: 1e-12,
  initStd: 0.02,
  dropPath: 0,
} as const;

/** [batch, channels, height, width] with channels last, and back. */
const last = (x: Tensor): Tensor => transpose(x, [0, 2, 3, 1]);
const second = (x: Tensor): Tensor => transpose(x, [0, 3, 1, 2]);

/** Global response normalization (section 3.3): features by how strong each is among all. */
class ResponseNorm extends Module {
  weight: Tensor;
  bias: Tensor;

  constructor(features: number) {
    super();
    this.weight = this.parameter("weight", [features], { init: constantInit(0) });
    this.bias = this.parameter("bias", [features], { init: constantInit(0) });
  }

  /** [batch, height, width, features]. */
  forward(x: Tensor): Tensor {
    const strength = sqrt(sum(square(x), [1, 2], { keepDims: true }));
    const share = div(strength, add(mean(strength, -1, { keepDims: true }), 1e-6));
    return add(add(mul(this.weight, mul(x, share)), this.bias), x);
  }
}

class Layer extends Module {
  depthwise: Conv2d;
  norm: LayerNorm;
  up: Linear;
  response: ResponseNorm;
  down: Linear;
  drop: StochasticDepth | null;
  readonly activation: Activation;

  constructor(
    features: number,
    { activation, initStd, dropPath }: { activation: Activation; initStd: number; dropPath: number },
  ) {
    super();
    const init = normalInit(initStd);
    this.activation = activation;
    this.depthwise = new Conv2d(features, features, 7, { padding: 3, groups: features, init });
    this.norm = new LayerNorm(features, { epsilon: 1e-6 });
    this.up = new Linear(features, 4 * features, { bias: true, init, axes: ["mlp", "embed"] });
    this.response = new ResponseNorm(4 * features);
    this.down = new Linear(4 * features, features, { bias: true, init, axes: ["embed", "mlp"] });
    this.drop = dropPath > 0 ? new StochasticDepth(dropPath) : null;
  }

  forward(x: Tensor): Tensor {
    const wide = activations[this.activation](
      this.up.forward(this.norm.forward(last(this.depthwise.forward(x)))),
    );
    const branch = second(this.down.forward(this.response.forward(wide)));
    return add(x, this.drop === null ? branch : this.drop.forward(branch));
  }
}

/** Halves the sides. */
class Reduction extends Module {
  norm: LayerNorm;
  conv: Conv2d;

  constructor(inputs: number, outputs: number, init: Initializer) {
    super();
    this.norm = new LayerNorm(inputs, { epsilon: 1e-6 });
    this.conv = new Conv2d(inputs, outputs, 2, { strides: 2, init });
  }

  forward(x: Tensor): Tensor {
    return this.conv.forward(second(this.norm.forward(last(x))));
  }
}

class Stage extends Module {
  reduction: Reduction | null;
  layers: Layer[];

  constructor(reduction: Reduction | null, layers: Layer[]) {
    super();
    this.reduction = reduction;
    this.layers = layers;
  }

  forward(x: Tensor): Tensor {
    const start = this.reduction === null ? x : this.reduction.forward(x);
    return this.layers.reduce((y, layer) => layer.forward(y), start);
  }
}

export class ConvNextV2 extends ImageModel {
  patches: Conv2d;
  patchNorm: LayerNorm;
  stages: Stage[];
  norm: LayerNorm;
  classifier: Linear | null;
  readonly config: ConvNextV2Config & Required<Pick<ConvNextV2Config, keyof typeof defaults>>;
  readonly family: VisionFamily = convNextV2Family;

  constructor(config: ConvNextV2Config) {
    super();
    checkConfig("convNextV2", config, [
      ...Object.keys(defaults),
      "hiddenSizes",
      "depths",
      "classes",
      "labels",
    ]);
    checkStages("convNextV2", config.hiddenSizes, config.depths);
    this.config = { ...defaults, ...config };
    const { hiddenSizes, depths, channels, patchSize, initStd, dropPath, classes } = this.config;
    const init = normalInit(initStd);
    const first = hiddenSizes[0]!;
    const layers = depths.reduce((a, b) => a + b);
    let i = 0;
    this.patches = new Conv2d(channels, first, patchSize, { strides: patchSize, init });
    this.patchNorm = new LayerNorm(first, { epsilon: 1e-6 });
    this.stages = hiddenSizes.map((features, s) => {
      const reduction = s === 0 ? null : new Reduction(hiddenSizes[s - 1]!, features, init);
      const own = Array.from({ length: depths[s]! }, () => {
        const rate = layers === 1 ? dropPath : (dropPath * i++) / (layers - 1);
        return new Layer(features, { ...this.config, dropPath: rate });
      });
      return new Stage(reduction, own);
    });
    const width = hiddenSizes.at(-1)!;
    this.norm = new LayerNorm(width, { epsilon: this.config.normEpsilon });
    this.classifier = classes === undefined ? null : new Linear(width, classes, { bias: true, init });
  }

  encode(pixels: Tensor): Encoded {
    const { channels, patchSize, hiddenSizes } = this.config;
    checkPixels("convNextV2", pixels, channels, patchSize * 2 ** (hiddenSizes.length - 1));
    const stem = second(this.patchNorm.forward(last(this.patches.forward(pixels))));
    const states = this.stages.reduce((x, stage) => stage.forward(x), stem);
    return { states, pooled: this.norm.forward(mean(states, [2, 3])) };
  }
}

/** @throws ArgumentError where stages have not each a width and a depth */
export function checkStages(name: string, widths: readonly number[], depths: readonly number[]): void {
  const whole = [widths, depths].every(
    (list) => Array.isArray(list) && list.length > 0 && list.every((n) => Number.isInteger(n) && n >= 1),
  );
  if (whole && widths.length === depths.length) return;
  throw new ArgumentError(
    `${name}: stages of ${JSON.stringify(widths)} features and ${JSON.stringify(depths)} layers`,
    "give two lists of one length, a number from 1 for each stage",
  );
}

const rules = (prefix: string): Rules => [
  [/^patches\./, `${prefix}embeddings.patch_embeddings.`],
  [/^patch_norm\./, `${prefix}embeddings.layernorm.`],
  [/^norm\./, `${prefix}layernorm.`],
  [/^stages\./, `${prefix}encoder.stages.`],
  [/\.reduction\.norm\./, ".downsampling_layer.0."],
  [/\.reduction\.conv\./, ".downsampling_layer.1."],
  [/\.depthwise\./, ".dwconv."],
  [/(layers\.\d+)\.norm\./, "$1.layernorm."],
  [/\.up\./, ".pwconv1."],
  [/\.response\./, ".grn."],
  [/\.down\./, ".pwconv2."],
];

const fields = {
  hiddenSizes: "hidden_sizes",
  depths: "depths",
  patchSize: "patch_size",
  channels: "num_channels",
  activation: "hidden_act",
  normEpsilon: "layer_norm_eps",
  dropPath: "drop_path_rate",
  initStd: "initializer_range",
};

export const convNextV2Family: VisionFamily = {
  name: "convNextV2",
  modelType: "convnextv2",
  architectures: ["ConvNextV2ForImageClassification", "ConvNextV2Model"],
  layouts: [
    layoutOf(
      (model) => rules((model as ConvNextV2).classifier === null ? "" : "convnextv2."),
      [[/\.response\./, (shape) => [1, 1, 1, ...shape]]],
    ),
  ],
  open(json, architecture, path) {
    const config = readFields<ConvNextV2Config>(json, path, {
      fields,
      defaults: { hiddenSizes: [96, 192, 384, 768], depths: [3, 3, 9, 3] },
      only: { num_stages: [undefined, (json.hidden_sizes as number[] | undefined)?.length ?? 4] },
    });
    const classes = architecture.endsWith("ForImageClassification") ? readClasses(json) : {};
    return new ConvNextV2({ ...config, ...classes });
  },
  write: (model) => {
    const { config } = model as ConvNextV2;
    return { ...writeFields(config, fields), num_stages: config.depths.length, ...writeClasses(config) };
  },
  architectureOf: (model) =>
    (model as ConvNextV2).classifier === null ? "ConvNextV2Model" : "ConvNextV2ForImageClassification",
};

/** A ConvNeXt V2; with `classes` a classifier over the mean of all places. */
export const convNextV2 = (config: ConvNextV2Config): ConvNextV2 => new ConvNextV2(config);

const small = (width: number, depths = [2, 2, 6, 2]) => ({
  hiddenSizes: [1, 2, 4, 8].map((n) => n * width),
  depths,
});

/** Published sizes. */
export const convNextConfigs = {
  convnextv2_atto: small(40),
  convnextv2_nano: small(80, [2, 2, 8, 2]),
  convnextv2_tiny: small(96, [3, 3, 9, 3]),
  convnextv2_base: small(128, [3, 3, 27, 3]),
  convnextv2_large: small(192, [3, 3, 27, 3]),
} as const satisfies Record<string, ConvNextV2Config>;
