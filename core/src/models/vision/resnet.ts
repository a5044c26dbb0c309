/** ResNet (He et al. 2016, "Deep residual learning for image recognition"), in the form with the stride in the 3x3 convolution. */
import { add, relu } from "../../array/elementwise.js";
import { mean } from "../../array/reductions.js";
import type { Tensor } from "../../array/tensor.js";
import { maxPool } from "../../array/windows.js";
import { ArgumentError } from "../../graph/errors.js";
import { Conv2d } from "../../nn/convolutions.js";
import { kaimingNormal } from "../../nn/initializers.js";
import { Linear } from "../../nn/layers.js";
import { Module } from "../../nn/module.js";
import { BatchNorm } from "../../nn/norms.js";
import {
  checkConfig,
  type ImageConfig,
  readClasses,
  readFields,
  writeClasses,
  writeFields,
} from "./config.js";
import { checkStages } from "./convnext.js";
import {
  type Encoded,
  type EncodeOptions,
  ImageModel,
  layoutOf,
  type Rules,
  type VisionFamily,
} from "./family.js";
import { checkPixels } from "./tower.js";

export interface ResNetConfig extends ImageConfig {
  /** Features of the stem. Default 64. */
  embeddingSize?: number;
  /** Features of each stage. */
  hiddenSizes: readonly number[];
  /** Layers of each stage. */
  depths: readonly number[];
  /** "basic": two 3x3 convolutions; "bottleneck": 1x1, 3x3 and 1x1, a quarter as wide between. Default "bottleneck". */
  layerType?: "basic" | "bottleneck";
  /** Whether the first stage halves the sides too. Default false. */
  downsampleInFirstStage?: boolean;
  /** Whether bottlenecks halve the sides in their first convolution. Default false. */
  downsampleInBottleneck?: boolean;
}

const defaults = {
  channels: 3,
  embeddingSize: 64,
  layerType: "bottleneck",
  downsampleInFirstStage: false,
  downsampleInBottleneck: false,
} as const;

class ConvNorm extends Module {
  convolution: Conv2d;
  normalization: BatchNorm;
  readonly activated: boolean;

  constructor(inputs: number, outputs: number, { kernel = 3, strides = 1, activated = true } = {}) {
    super();
    const padding = Math.floor(kernel / 2);
    this.activated = activated;
    this.convolution = new Conv2d(inputs, outputs, kernel, {
      strides,
      padding,
      bias: false,
      init: kaimingNormal(),
    });
    this.normalization = new BatchNorm(outputs);
  }

  forward(x: Tensor, training: boolean): Tensor {
    const y = this.normalization.forward(this.convolution.forward(x), { training });
    return this.activated ? relu(y) : y;
  }
}

class Layer extends Module {
  shortcut: ConvNorm | null;
  layer: ConvNorm[];

  constructor(
    inputs: number,
    outputs: number,
    strides: number,
    {
      layerType,
      downsampleInBottleneck,
    }: Required<Pick<ResNetConfig, "layerType" | "downsampleInBottleneck">>,
  ) {
    super();
    const plain = { activated: false };
    this.shortcut =
      inputs === outputs && strides === 1
        ? null
        : new ConvNorm(inputs, outputs, { kernel: 1, strides, ...plain });
    const narrow = Math.floor(outputs / 4);
    const [early, late] = downsampleInBottleneck ? [strides, 1] : [1, strides];
    this.layer =
      layerType === "basic"
        ? [new ConvNorm(inputs, outputs, { strides }), new ConvNorm(outputs, outputs, plain)]
        : [
            new ConvNorm(inputs, narrow, { kernel: 1, strides: early }),
            new ConvNorm(narrow, narrow, { strides: late }),
            new ConvNorm(narrow, outputs, { kernel: 1, ...plain }),
          ];
  }

  forward(x: Tensor, training: boolean): Tensor {
    const branch = this.layer.reduce((y, each) => each.forward(y, training), x);
    return relu(add(branch, this.shortcut === null ? x : this.shortcut.forward(x, training)));
  }
}

class Stage extends Module {
  layers: Layer[];

  constructor(layers: Layer[]) {
    super();
    this.layers = layers;
  }
}

export class ResNet extends ImageModel {
  embedder: ConvNorm;
  stages: Stage[];
  classifier: Linear | null;
  readonly config: ResNetConfig & Required<Pick<ResNetConfig, keyof typeof defaults>>;
  readonly family: VisionFamily = resNetFamily;

  constructor(config: ResNetConfig) {
    super();
    checkConfig("resNet", config, [...Object.keys(defaults), "hiddenSizes", "depths", "classes", "labels"]);
    checkStages("resNet", config.hiddenSizes, config.depths);
    this.config = { ...defaults, ...config };
    const { hiddenSizes, depths, channels, embeddingSize, classes, layerType } = this.config;
    if (layerType !== "basic" && layerType !== "bottleneck")
      throw new ArgumentError(
        `resNet: layerType is ${JSON.stringify(layerType)}`,
        'give "basic" or "bottleneck"',
      );
    this.embedder = new ConvNorm(channels, embeddingSize, { kernel: 7, strides: 2 });
    this.stages = hiddenSizes.map((features, s) => {
      const inputs = s === 0 ? embeddingSize : hiddenSizes[s - 1]!;
      const strides = s > 0 || this.config.downsampleInFirstStage ? 2 : 1;
      const layer = (i: number): Layer =>
        new Layer(i === 0 ? inputs : features, features, i === 0 ? strides : 1, this.config);
      return new Stage(Array.from({ length: depths[s]! }, (_, i) => layer(i)));
    });
    this.classifier = classes === undefined ? null : new Linear(hiddenSizes.at(-1)!, classes, { bias: true });
  }

  encode(pixels: Tensor, { training = false }: EncodeOptions = {}): Encoded {
    checkPixels("resNet", pixels, this.config.channels);
    const stem = this.embedder.forward(pixels, training);
    const pooled = maxPool(stem, 3, { strides: 2, padding: 1, layout: "channelsFirst" });
    const states = this.stages
      .flatMap(({ layers }) => layers)
      .reduce((x, layer) => layer.forward(x, training), pooled);
    return { states, pooled: mean(states, [2, 3]) };
  }
}

const rules = (prefix: string): Rules => [
  [/^embedder\./, `${prefix}embedder.embedder.`],
  [/^stages\./, `${prefix}encoder.stages.`],
  [/^classifier\./, "classifier.1."],
];

const fields = {
  embeddingSize: "embedding_size",
  hiddenSizes: "hidden_sizes",
  depths: "depths",
  layerType: "layer_type",
  channels: "num_channels",
  downsampleInFirstStage: "downsample_in_first_stage",
  downsampleInBottleneck: "downsample_in_bottleneck",
};

export const resNetFamily: VisionFamily = {
  name: "resNet",
  modelType: "resnet",
  architectures: ["ResNetForImageClassification", "ResNetModel"],
  layouts: [layoutOf((model) => rules((model as ResNet).classifier === null ? "" : "resnet."))],
  open(json, architecture, path) {
    const config = readFields<ResNetConfig>(json, path, {
      fields,
      defaults: { hiddenSizes: [256, 512, 1024, 2048], depths: [3, 4, 6, 3] },
      only: { hidden_act: ["relu", undefined] },
    });
    const classes = architecture.endsWith("ForImageClassification") ? readClasses(json) : {};
    return new ResNet({ ...config, ...classes });
  },
  write: (model) => {
    const { config } = model as ResNet;
    return { ...writeFields(config, fields), hidden_act: "relu", ...writeClasses(config) };
  },
  architectureOf: (model) =>
    (model as ResNet).classifier === null ? "ResNetModel" : "ResNetForImageClassification",
};

/** A ResNet; with `classes` a classifier over the mean of all places. Its batch norms' statistics are state that a training carries. */
export const resNet = (config: ResNetConfig): ResNet => new ResNet(config);

const widths = [64, 128, 256, 512];

/** Published sizes. */
export const resNetConfigs = {
  resnet18: { hiddenSizes: widths, depths: [2, 2, 2, 2], layerType: "basic" },
  resnet34: { hiddenSizes: widths, depths: [3, 4, 6, 3], layerType: "basic" },
  resnet50: { hiddenSizes: widths.map((n) => 4 * n), depths: [3, 4, 6, 3] },
  resnet101: { hiddenSizes: widths.map((n) => 4 * n), depths: [3, 4, 23, 3] },
} as const satisfies Record<string, ResNetConfig>;
