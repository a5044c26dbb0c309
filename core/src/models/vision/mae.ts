/** Masked autoencoder (He et al. 2022, "Masked autoencoders are scalable vision learners"). */
import { broadcastTo, sum, zeros } from "../../array/broadcast.js";
import {
  add,
  cast,
  div,
  greaterEqual,
  mul,
  rsqrt,
  square,
  stopGradient,
  sub,
} from "../../array/elementwise.js";
import { slice, takeAlongAxis } from "../../array/indexing.js";
import { concatenate } from "../../array/joining.js";
import { type Key, uniform } from "../../array/random.js";
import { mean, variance } from "../../array/reductions.js";
import { expandDims, reshape, transpose } from "../../array/shaping.js";
import { argsort } from "../../array/sorting.js";
import type { Tensor } from "../../array/tensor.js";
import { ArgumentError, ShapeError } from "../../graph/errors.js";
import { type Initializer, normalInit } from "../../nn/initializers.js";
import { LayerNorm, Linear } from "../../nn/layers.js";
import { Module, redeclare } from "../../nn/module.js";
import { sinusoidalPositions2d } from "../../nn/positions.js";
import { applyLayers, checkLayerOptions, type LayerOptions } from "../../nn/stack.js";
import { checkConfig, type PatchConfig, patchFields, readFields, writeFields } from "./config.js";
import { layoutOf, type Rules, type VisionFamily, VisionModel } from "./family.js";
import { checkPixels, ImageTower, patchesOf } from "./tower.js";
import { type Block, blocks } from "./transformer.js";
import { embeddingRules, layerRules, pythonLayerName, tokenShapes } from "./vit.js";

export interface MaeConfig extends PatchConfig {
  channels?: number;
  qkvBias?: boolean;
  /** Share of the patches that are left out. Default 0.75. */
  maskRatio?: number;
  /** Whether each patch's pixels are standardized before they are compared. Default false. */
  normalizeTargets?: boolean;
  /** The light transformer that paints the patches. Default 8 layers of 512 with 16 heads. */
  decoder?: { hiddenSize?: number; layers?: number; heads?: number; intermediateSize?: number };
}

const defaults = {
  channels: 3,
  qkvBias: true,
  maskRatio: 0.75,
  normalizeTargets: false,
  activation: "gelu",
  normEpsilon: 1e-12,
  initStd: 0.02,
  dropPath: 0,
} as const;

const decoderDefaults = { hiddenSize: 512, layers: 8, heads: 16 };

function resolved(config: MaeConfig) {
  const decoder = { ...decoderDefaults, ...config.decoder };
  return {
    intermediateSize: 4 * config.hiddenSize,
    ...defaults,
    ...config,
    decoder: { intermediateSize: 4 * decoder.hiddenSize, ...decoder },
  };
}

const known = [
  ...Object.keys(defaults),
  ...["hiddenSize", "intermediateSize", "layers", "heads", "imageSize", "patchSize", "decoder"],
];

/** Sines and cosines of columns, then of rows, after a class token's zeros: fixed, by the paper's code. */
function sineTable(side: number, features: number): Initializer {
  return (_key, _shape, dtype) => {
    const both = reshape(sinusoidalPositions2d(side, side, features, { layout: "halves" }), [
      side * side,
      features,
    ]);
    const half = features / 2;
    const swapped = concatenate([slice(both, null, [half]), slice(both, null, [0, half])], -1);
    return cast(concatenate([zeros([1, features]), swapped]), dtype);
  };
}

class Decoder extends Module {
  embed: Linear;
  maskToken: Tensor;
  positions: Tensor;
  layers: Block[];
  norm: LayerNorm;
  predict: Linear;

  constructor(config: ReturnType<typeof resolved>) {
    super();
    const { decoder, hiddenSize, patchSize, channels, imageSize, initStd, normEpsilon } = config;
    const dense = { bias: true, init: normalInit(initStd) };
    const features = decoder.hiddenSize;
    const side = Math.floor(imageSize / patchSize);
    this.embed = new Linear(hiddenSize, features, dense);
    this.maskToken = this.parameter("maskToken", [features], { init: normalInit(initStd) });
    this.positions = this.parameter("positions", [side ** 2 + 1, features], {
      init: sineTable(side, features),
    });
    redeclare(this, { positions: "frozen" });
    this.layers = blocks(decoder.layers, { ...config, ...decoder, dropPath: 0 });
    this.norm = new LayerNorm(features, { epsilon: normEpsilon });
    this.predict = new Linear(features, channels * patchSize ** 2, dense);
  }
}

/** What a masked autoencoder gives. */
export interface Reconstruction {
  /** [batch, patches, side² · channels]: the pixels of each patch, channels last. */
  readonly patches: Tensor;
  /** float32 [batch, patches]: 1 for what was left out. */
  readonly mask: Tensor;
}

export class Mae extends VisionModel {
  tower: ImageTower;
  decoder: Decoder;
  readonly config: ReturnType<typeof resolved>;
  readonly family: VisionFamily = maeFamily;

  constructor(config: MaeConfig, execution: LayerOptions = {}) {
    super();
    checkConfig("mae", config, known);
    checkLayerOptions("mae", execution);
    this.config = resolved(config);
    const { maskRatio, imageSize, patchSize, hiddenSize } = this.config;
    if (!(maskRatio > 0 && maskRatio < 1))
      throw new ArgumentError(`mae: maskRatio is ${maskRatio}`, "give a share between 0 and 1, e.g. 0.75");
    this.tower = new ImageTower(this.config, execution);
    // Fixed, not learned.
    const side = Math.floor(imageSize / patchSize);
    this.tower.embeddings.fixPositions(sineTable(side, hiddenSize));
    this.decoder = new Decoder(this.config);
  }

  /**
   * Leaves patches out, and paints all.
   *
   * @param pixels - [batch, channels, height, width] of the model's size, normalized
   * @param noise - [batch, patches], a number for each: those of the greatest are left out. Or a random key
   */
  reconstruct(pixels: Tensor, noise: Tensor | Key | number): Reconstruction {
    const { channels, patchSize, imageSize, maskRatio } = this.config;
    checkPixels("mae", pixels, channels, patchSize);
    if (pixels.shape[2] !== imageSize || pixels.shape[3] !== imageSize)
      throw new ShapeError(
        `mae: the pictures have shape [${pixels.shape.join(", ")}]`,
        `its positions are fixed: give [batch, ${channels}, ${imageSize}, ${imageSize}]`,
      );
    const { embeddings } = this.tower;
    const grid = embeddings.patches.forward(pixels);
    const [batch, rows, columns, features] = grid.shape as [number, number, number, number];
    const count = rows * columns;
    const positions = stopGradient(embeddings.positions);
    const words = add(reshape(grid, [batch, count, features]), slice(positions, [1]));
    const order = argsort(
      typeof noise === "object" && "shape" in noise && noise.shape.length === 2
        ? noise
        : uniform(noise, [batch, count]),
      1,
    );
    const restore = argsort(order, 1);
    const kept = Math.trunc(count * (1 - maskRatio));
    const mask = cast(greaterEqual(restore, kept), "float32");
    const seen = takeAlongAxis(words, along(slice(order, null, [0, kept]), features), 1);
    const first = broadcastTo(add(embeddings.classToken!, slice(positions, 0)), [batch, 1, features]);
    const states = this.tower.norm.forward(this.tower.run(concatenate([first, seen], 1)));
    return { patches: this.paint(states, restore), mask };
  }

  private paint(states: Tensor, restore: Tensor): Tensor {
    const { embed, maskToken, positions, layers, norm, predict } = this.decoder;
    const small = embed.forward(states);
    const [batch, given, features] = small.shape as [number, number, number];
    const count = restore.shape[1]!;
    const left = broadcastTo(maskToken, [batch, count + 1 - given, features]);
    const shuffled = concatenate([slice(small, null, [1]), left], 1);
    const words = takeAlongAxis(shuffled, along(restore, features), 1);
    const start = add(concatenate([slice(small, null, [0, 1]), words], 1), stopGradient(positions));
    const painted = applyLayers(layers, start, (layer, x) => layer.forward(x), this.tower.execution);
    return slice(predict.forward(norm.forward(painted)), null, [1]);
  }

  /** Mean squared error of the pixels that were left out. */
  loss(pixels: Tensor, noise: Tensor | Key | number): Tensor {
    return this.errorOf(pixels, this.reconstruct(pixels, noise));
  }

  /** The loss of a reconstruction of `pixels`. */
  errorOf(pixels: Tensor, { patches, mask }: Reconstruction): Tensor {
    const own = this.patchify(pixels);
    const target = this.config.normalizeTargets ? standardized(own) : own;
    const error = mean(square(sub(cast(patches, "float32"), target)), -1);
    return div(sum(mul(error, mask)), sum(mask));
  }

  /** [batch, channels, height, width] to [batch, patches, side² · channels]. */
  patchify(pixels: Tensor): Tensor {
    const parts = transpose(patchesOf(cast(pixels, "float32"), this.config.patchSize), [0, 1, 2, 4, 5, 3]);
    const [batch, rows, columns] = parts.shape as [number, number, number];
    return reshape(parts, [batch, rows * columns, -1]);
  }

  /** The pictures that patches make: [batch, patches, side² · channels] to [batch, channels, height, width]. */
  unpatchify(patches: Tensor): Tensor {
    const { patchSize: side, channels, imageSize } = this.config;
    const rows = Math.floor(imageSize / side);
    const parts = reshape(patches, [patches.shape[0]!, rows, rows, side, side, channels]);
    const size = rows * side;
    return reshape(transpose(parts, [0, 5, 1, 3, 2, 4]), [patches.shape[0]!, channels, size, size]);
  }
}

/** Integer [batch, count] for a gather of whole rows. */
function along(indices: Tensor, features: number): Tensor {
  return broadcastTo(expandDims(indices, -1), [...indices.shape, features]);
}

/** By the unbiased variance of each patch. */
function standardized(target: Tensor): Tensor {
  const n = target.shape.at(-1)!;
  const spread = mul(variance(target, -1, { keepDims: true }), n / (n - 1));
  return mul(sub(target, mean(target, -1, { keepDims: true })), rsqrt(add(spread, 1e-6)));
}

const rules = (layers: string): Rules => [
  [/^tower\.norm\./, "vit.layernorm."],
  [/^tower\.layers\./, "vit.encoder.layer."],
  [/^tower\./, "vit."],
  ...embeddingRules,
  [/^decoder\.embed\./, "decoder.decoder_embed."],
  [/^decoder\.positions$/, "decoder.decoder_pos_embed"],
  [/^decoder\.layers\./, layers],
  [/^decoder\.norm\./, "decoder.decoder_norm."],
  [/^decoder\.predict\./, "decoder.decoder_pred."],
  ...layerRules,
];

const fields = {
  ...patchFields,
  qkvBias: "qkv_bias",
  maskRatio: "mask_ratio",
  normalizeTargets: "norm_pix_loss",
  initStd: "initializer_range",
};

const decoderFields = {
  hiddenSize: "decoder_hidden_size",
  layers: "decoder_num_hidden_layers",
  heads: "decoder_num_attention_heads",
  intermediateSize: "decoder_intermediate_size",
};

export const maeFamily: VisionFamily = {
  name: "mae",
  modelType: "vit_mae",
  architectures: ["ViTMAEForPreTraining"],
  layouts: [
    layoutOf(() => rules("decoder.decoder_layers."), tokenShapes),
    // As transformers 5 saves it.
    layoutOf(() => rules("decoder.decoder_encoder.layer."), tokenShapes),
  ],
  open(json, _architecture, path, options) {
    const config = readFields<MaeConfig>(json, path, {
      fields,
      defaults: {
        hiddenSize: 768,
        layers: 12,
        heads: 12,
        intermediateSize: 3072,
        imageSize: 224,
        patchSize: 16,
      },
    });
    const decoder = readFields(json, path, {
      fields: decoderFields,
      defaults: { ...decoderDefaults, intermediateSize: 2048 },
    });
    return new Mae({ ...config, decoder }, options);
  },
  write: (model) => {
    const { config } = model as Mae;
    return { ...writeFields(config, fields), ...writeFields(config.decoder, decoderFields) };
  },
  architectureOf: () => "ViTMAEForPreTraining",
  pythonName: (name) =>
    name.startsWith("decoder.")
      ? pythonLayerName(name.replace("decoder.decoder_encoder.layer.", "decoder.decoder_layers.")).replace(
          /(decoder_layers\.\d+)\.output\.dense\./,
          "$1.mlp.fc2.",
        )
      : pythonLayerName(name),
};

/** A masked autoencoder of a ViT. */
export const mae = (config: MaeConfig, options?: LayerOptions): Mae => new Mae(config, options);
