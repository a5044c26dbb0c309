/** Swin transformer (Liu et al. 2021): attention within windows, which every second layer shifts; sides halve from stage to stage. */
import { broadcastTo } from "../../array/broadcast.js";
import { constantArray } from "../../array/creation.js";
import { add, equal } from "../../array/elementwise.js";
import { slice, take } from "../../array/indexing.js";
import { roll } from "../../array/joining.js";
import { mean } from "../../array/reductions.js";
import { expandDims, pad, reshape, transpose } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import { ArgumentError } from "../../graph/errors.js";
import { attention } from "../../nn/attention.js";
import { StochasticDepth } from "../../nn/dropout.js";
import { normalInit } from "../../nn/initializers.js";
import { LayerNorm, Linear } from "../../nn/layers.js";
import { type Activation, Mlp } from "../../nn/mlp.js";
import { Module } from "../../nn/module.js";
import {
  checkConfig,
  type ImageConfig,
  readClasses,
  readFields,
  writeClasses,
  writeFields,
} from "./config.js";
import { checkStages } from "./convnext.js";
import { type Encoded, ImageModel, layoutOf, type Rules, type VisionFamily } from "./family.js";
import { checkPixels, PatchEmbedding } from "./tower.js";

export interface SwinConfig extends ImageConfig {
  /** Side of the pictures that checkpoints name; any other with windows as large works. */
  imageSize: number;
  /** Default 4. */
  patchSize?: number;
  /** Features of the first stage; they double from stage to stage. */
  embedSize: number;
  /** Layers of each stage. */
  depths: readonly number[];
  /** Heads of each stage. */
  heads: readonly number[];
  /** Side of the windows, in patches. Default 7. */
  windowSize?: number;
  /** Default 4. */
  mlpRatio?: number;
  qkvBias?: boolean;
  activation?: Activation;
  normEpsilon?: number;
  initStd?: number;
  /** Largest rate of stochastic depth. Default 0.1. */
  dropPath?: number;
}

const defaults = {
  channels: 3,
  patchSize: 4,
  windowSize: 7,
  mlpRatio: 4,
  qkvBias: true,
  activation: "gelu",
  normEpsilon: 1e-5,
  initStd: 0.02,
  dropPath: 0.1,
} as const;

type Resolved = SwinConfig & Required<Pick<SwinConfig, keyof typeof defaults>>;

/** [batch, height, width, features] as [batch · windows, side², features]. */
function inWindows(x: Tensor, side: number): Tensor {
  const [batch, height, width, features] = x.shape as [number, number, number, number];
  const parts = reshape(x, [batch, height / side, side, width / side, side, features]);
  return reshape(transpose(parts, [0, 1, 3, 2, 4, 5]), [-1, side * side, features]);
}

function fromWindows(x: Tensor, side: number, [batch, height, width]: readonly number[]): Tensor {
  const parts = reshape(x, [batch!, height! / side, width! / side, side, side, -1]);
  return reshape(transpose(parts, [0, 1, 3, 2, 4, 5]), [batch!, height!, width!, -1]);
}

/** bool [windows, side², side²]: which places of a shifted picture lay beside each other before. */
function neighbours(height: number, width: number, side: number, shift: number): Tensor {
  const region = (i: number, length: number) => Number(i >= length - side) + Number(i >= length - shift);
  const regions: number[] = [];
  for (let top = 0; top < height; top += side)
    for (let left = 0; left < width; left += side)
      for (let i = 0; i < side * side; i++)
        regions.push(3 * region(top + Math.floor(i / side), height) + region(left + (i % side), width));
  const ids = reshape(constantArray(regions, { dtype: "int32" }), [-1, side * side]);
  return equal(expandDims(ids, 1), expandDims(ids, 2));
}

class WindowAttention extends Module {
  qProj: Linear;
  kProj: Linear;
  vProj: Linear;
  outProj: Linear;
  /** A score for each distance of rows and columns, by head. */
  biasTable: Tensor;
  readonly heads: number;
  readonly side: number;

  constructor(features: number, heads: number, { qkvBias: bias, windowSize, initStd }: Resolved) {
    super();
    this.heads = heads;
    this.side = windowSize;
    const init = normalInit(initStd);
    const layer = () => new Linear(features, features, { bias, init, axes: ["heads", "embed"] });
    this.qProj = layer();
    this.kProj = layer();
    this.vProj = layer();
    this.outProj = new Linear(features, features, { bias: true, init, axes: ["embed", "heads"] });
    this.biasTable = this.parameter("biasTable", [(2 * windowSize - 1) ** 2, heads], { init });
  }

  /** [1, heads, side², side²]. */
  private bias(): Tensor {
    const { side } = this;
    const places = Array.from({ length: side * side }, (_, i) => [Math.floor(i / side), i % side] as const);
    const distances = places.flatMap(([y, x]) =>
      places.map(([v, u]) => (y - v + side - 1) * (2 * side - 1) + (x - u + side - 1)),
    );
    const scores = take(this.biasTable, constantArray(distances, { dtype: "int32" }), 0);
    return expandDims(transpose(reshape(scores, [side * side, side * side, -1]), [2, 0, 1]), 0);
  }

  /** [windows, side², features]. */
  forward(x: Tensor, mask: Tensor | undefined): Tensor {
    const inHeads = (y: Tensor): Tensor => reshape(y, [x.shape[0]!, x.shape[1]!, this.heads, -1]);
    const [q, k, v] = [this.qProj, this.kProj, this.vProj].map((layer) => inHeads(layer.forward(x)));
    const options = { causal: false, bias: this.bias(), ...(mask !== undefined && { mask }) };
    return this.outProj.forward(reshape(attention(q!, k!, v!, options), x.shape));
  }
}

class Layer extends Module {
  norm1: LayerNorm;
  attention: WindowAttention;
  drop: StochasticDepth | null;
  norm2: LayerNorm;
  mlp: Mlp;
  readonly shifted: boolean;

  constructor(features: number, heads: number, shifted: boolean, config: Resolved) {
    super();
    const { normEpsilon: epsilon, activation, mlpRatio, initStd, dropPath } = config;
    this.shifted = shifted;
    this.norm1 = new LayerNorm(features, { epsilon });
    this.attention = new WindowAttention(features, heads, config);
    this.drop = dropPath > 0 ? new StochasticDepth(dropPath) : null;
    this.norm2 = new LayerNorm(features, { epsilon });
    const init = normalInit(initStd);
    this.mlp = new Mlp(features, Math.trunc(mlpRatio * features), { activation, bias: true, init });
  }

  /** [batch, height, width, features]. */
  forward(x: Tensor): Tensor {
    const mixed = this.mix(this.norm1.forward(x));
    const attended = add(x, this.drop === null ? mixed : this.drop.forward(mixed));
    return add(attended, this.mlp.forward(this.norm2.forward(attended)));
  }

  private mix(x: Tensor): Tensor {
    const [batch, height, width] = x.shape as [number, number, number, number];
    const { side } = this.attention;
    if (Math.min(height, width) < side)
      throw new ArgumentError(
        `swin: a stage of ${height} x ${width} patches with windows of ${side}`,
        "give larger pictures, or a smaller windowSize",
      );
    // One window across has nothing to be shifted.
    const shift = this.shifted && Math.min(height, width) > side ? Math.floor(side / 2) : 0;
    const over = (length: number): readonly [number, number] => [0, (side - (length % side)) % side];
    const padded = pad(x, [[0, 0], over(height), over(width), [0, 0]]);
    const sizes = padded.shape.slice(0, 3);
    const turned = (y: Tensor, by: number): Tensor => (by === 0 ? y : roll(roll(y, by, 1), by, 2));
    const windows = inWindows(turned(padded, -shift), side);
    const beside = shift === 0 ? undefined : neighbours(sizes[1]!, sizes[2]!, side, shift);
    const mask =
      beside && reshape(broadcastTo(beside, [batch, ...beside.shape]), [-1, ...beside.shape.slice(1)]);
    const mixed = turned(fromWindows(this.attention.forward(windows, mask), side, sizes), shift);
    return slice(mixed, null, [0, height], [0, width]);
  }
}

/** Four patches to one of twice the features. */
class Reduction extends Module {
  norm: LayerNorm;
  reduction: Linear;

  constructor(features: number, initStd: number) {
    super();
    this.norm = new LayerNorm(4 * features);
    this.reduction = new Linear(4 * features, 2 * features, { init: normalInit(initStd) });
  }

  forward(x: Tensor): Tensor {
    const [batch, height, width, features] = x.shape as [number, number, number, number];
    const even = pad(x, [
      [0, 0],
      [0, height % 2],
      [0, width % 2],
      [0, 0],
    ]);
    const [rows, columns] = [Math.ceil(height / 2), Math.ceil(width / 2)];
    const parts = transpose(reshape(even, [batch, rows, 2, columns, 2, features]), [0, 1, 3, 4, 2, 5]);
    return this.reduction.forward(this.norm.forward(reshape(parts, [batch, rows, columns, 4 * features])));
  }
}

class Stage extends Module {
  blocks: Layer[];
  downsample: Reduction | null;

  constructor(blocks: Layer[], downsample: Reduction | null) {
    super();
    this.blocks = blocks;
    this.downsample = downsample;
  }

  forward(x: Tensor): Tensor {
    const y = this.blocks.reduce((state, layer) => layer.forward(state), x);
    return this.downsample === null ? y : this.downsample.forward(y);
  }
}

export class Swin extends ImageModel {
  patches: PatchEmbedding;
  patchNorm: LayerNorm;
  layers: Stage[];
  norm: LayerNorm;
  classifier: Linear | null;
  readonly config: Resolved;
  readonly family: VisionFamily = swinFamily;

  constructor(config: SwinConfig) {
    super();
    const { heads, ...rest } = config;
    checkConfig("swin", rest, [
      ...Object.keys(defaults),
      "imageSize",
      "embedSize",
      "depths",
      "classes",
      "labels",
    ]);
    checkStages("swin", heads, config.depths);
    this.config = { ...defaults, ...config };
    const { channels, patchSize, embedSize, depths, initStd, dropPath, normEpsilon, classes } = this.config;
    const all = depths.reduce((a, b) => a + b);
    let i = 0;
    this.patches = new PatchEmbedding(channels, embedSize, patchSize, { initStd });
    this.patchNorm = new LayerNorm(embedSize);
    this.layers = depths.map((depth, s) => {
      const features = embedSize * 2 ** s;
      const blocks = Array.from({ length: depth }, (_, k) => {
        const rate = all === 1 ? dropPath : (dropPath * i++) / (all - 1);
        return new Layer(features, heads[s]!, k % 2 === 1, { ...this.config, dropPath: rate });
      });
      return new Stage(blocks, s + 1 < depths.length ? new Reduction(features, initStd) : null);
    });
    const width = embedSize * 2 ** (depths.length - 1);
    this.norm = new LayerNorm(width, { epsilon: normEpsilon });
    this.classifier =
      classes === undefined ? null : new Linear(width, classes, { bias: true, init: normalInit(initStd) });
  }

  encode(pixels: Tensor): Encoded {
    const { channels, patchSize } = this.config;
    checkPixels("swin", pixels, channels);
    const over = (length: number): readonly [number, number] => [
      0,
      (patchSize - (length % patchSize)) % patchSize,
    ];
    const whole = pad(pixels, [[0, 0], [0, 0], over(pixels.shape[2]!), over(pixels.shape[3]!)]);
    const start = this.patchNorm.forward(this.patches.forward(whole));
    const last = this.layers.reduce((x, stage) => stage.forward(x), start);
    const states = reshape(this.norm.forward(last), [last.shape[0]!, -1, last.shape[3]!]);
    return { states, pooled: mean(states, 1) };
  }
}

const rules = (prefix: string): Rules => [
  [/^patches\./, `${prefix}embeddings.patch_embeddings.projection.`],
  [/^patch_norm\./, `${prefix}embeddings.norm.`],
  [/^norm\./, `${prefix}layernorm.`],
  [/^layers\./, `${prefix}encoder.layers.`],
  [/\.attention\.q_proj\./, ".attention.self.query."],
  [/\.attention\.k_proj\./, ".attention.self.key."],
  [/\.attention\.v_proj\./, ".attention.self.value."],
  [/\.attention\.bias_table$/, ".attention.self.relative_position_bias_table"],
  [/\.attention\.out_proj\./, ".attention.output.dense."],
  [/\.norm1\./, ".layernorm_before."],
  [/\.norm2\./, ".layernorm_after."],
  [/\.mlp\.up_proj\./, ".intermediate.dense."],
  [/\.mlp\.down_proj\./, ".output.dense."],
];

const fields = {
  imageSize: "image_size",
  patchSize: "patch_size",
  channels: "num_channels",
  embedSize: "embed_dim",
  depths: "depths",
  heads: "num_heads",
  windowSize: "window_size",
  mlpRatio: "mlp_ratio",
  qkvBias: "qkv_bias",
  activation: "hidden_act",
  normEpsilon: "layer_norm_eps",
  dropPath: "drop_path_rate",
  initStd: "initializer_range",
};

export const swinFamily: VisionFamily = {
  name: "swin",
  modelType: "swin",
  architectures: ["SwinForImageClassification", "SwinModel"],
  layouts: [layoutOf((model) => rules((model as Swin).classifier === null ? "" : "swin."))],
  open(json, architecture, path) {
    const config = readFields<SwinConfig>(json, path, {
      fields,
      defaults: { imageSize: 224, embedSize: 96, depths: [2, 2, 6, 2], heads: [3, 6, 12, 24] },
      only: { use_absolute_embeddings: [false, undefined] },
    });
    const classes = architecture.endsWith("ForImageClassification") ? readClasses(json) : {};
    return new Swin({ ...config, ...classes });
  },
  write: (model) => {
    const { config } = model as Swin;
    return { ...writeFields(config, fields), ...writeClasses(config) };
  },
  architectureOf: (model) =>
    (model as Swin).classifier === null ? "SwinModel" : "SwinForImageClassification",
  pythonName: (name) =>
    name
      .replace(/\.attention\.self\.(q|k|v)(uery|ey|alue)\./, ".attention.$1_proj.")
      .replace(
        ".attention.self.relative_position_bias_table",
        ".attention.relative_position_bias.relative_position_bias_table",
      )
      .replace(".attention.output.dense.", ".attention.o_proj.")
      .replace(".intermediate.dense.", ".mlp.fc1.")
      .replace(/(blocks\.\d+)\.output\.dense\./, "$1.mlp.fc2."),
  ignored: /\.relative_position_index$/,
};

/** A Swin transformer; with `classes` a classifier over the mean of all patches. */
export const swin = (config: SwinConfig): Swin => new Swin(config);

/** Published sizes. */
export const swinConfigs = {
  swin_tiny: { imageSize: 224, embedSize: 96, depths: [2, 2, 6, 2], heads: [3, 6, 12, 24] },
  swin_small: { imageSize: 224, embedSize: 96, depths: [2, 2, 18, 2], heads: [3, 6, 12, 24] },
  swin_base: { imageSize: 224, embedSize: 128, depths: [2, 2, 18, 2], heads: [4, 8, 16, 32] },
} as const satisfies Record<string, SwinConfig>;
