/** SigLIP (Zhai et al. 2023, "Sigmoid loss for language image pre-training"): pairs each by themselves, pictures pooled by a learned probe. */
import { broadcastTo } from "../../array/broadcast.js";
import { add } from "../../array/elementwise.js";
import { slice } from "../../array/indexing.js";
import { squeeze } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import { sigmoidPairLoss } from "../../nn/contrastive.js";
import { MultiheadCrossAttention } from "../../nn/cross-attention.js";
import { constantInit, normalInit } from "../../nn/initializers.js";
import { LayerNorm, Linear } from "../../nn/layers.js";
import { Mlp } from "../../nn/mlp.js";
import { Module } from "../../nn/module.js";
import { checkLayerOptions, type LayerOptions } from "../../nn/stack.js";
import { type ClipVisionConfig, section, type TextConfig, textFields, towerRules } from "./clip.js";
import { checkConfig, patchFields, readFields, type TransformerConfig, writeFields } from "./config.js";
import { DualEncoder } from "./dual.js";
import { type Layout, type Rules, renamed, type VisionFamily } from "./family.js";
import { ImageTower, TextTower } from "./tower.js";
import type { BlockOptions } from "./transformer.js";

export interface SiglipConfig {
  vision: ClipVisionConfig;
  text: TextConfig & {
    /** Features of the common space. Default hiddenSize. */
    projection?: number;
  };
}

const layerDefaults = { activation: "geluTanh", normEpsilon: 1e-6, initStd: 0.02, dropPath: 0 } as const;

/** Sizes of layers with their defaults. */
export const filled = <T extends TransformerConfig>(config: T) => ({
  intermediateSize: 4 * config.hiddenSize,
  ...layerDefaults,
  ...config,
});

/** Pools states by attention from one learned probe. */
export class AttentionPool extends Module {
  probe: Tensor;
  attention: MultiheadCrossAttention;
  norm: LayerNorm;
  mlp: Mlp;

  constructor({ hiddenSize, intermediateSize, heads, activation, normEpsilon, initStd }: BlockOptions) {
    super();
    const init = normalInit(initStd);
    this.probe = this.parameter("probe", [hiddenSize], { init, axes: ["embed"] });
    this.attention = new MultiheadCrossAttention(hiddenSize, heads, { init });
    this.norm = new LayerNorm(hiddenSize, { epsilon: normEpsilon });
    this.mlp = new Mlp(hiddenSize, intermediateSize, { activation, bias: true, init });
  }

  /**
   * [batch, tokens, features] to [batch, features].
   *
   * @param mask - bool [batch, tokens]: false is padding
   */
  forward(states: Tensor, mask?: Tensor): Tensor {
    const [batch, , features] = states.shape as [number, number, number];
    const probe = broadcastTo(this.probe, [batch, 1, features]);
    const mixed = this.attention.forward(probe, states, states, mask === undefined ? {} : { mask });
    return squeeze(add(mixed, this.mlp.forward(this.norm.forward(mixed))), 1);
  }
}

/** What SigLIP and SigLIP 2 share: the text's side, the scale and the loss. */
export abstract class SigmoidPairs extends DualEncoder {
  abstract text: TextTower;
  abstract textHead: Linear;
  abstract pool: AttentionPool;
  abstract override logitScale: Tensor;
  abstract override logitBias: Tensor;

  textFeatures(tokens: Tensor, mask?: Tensor): Tensor {
    return this.textHead.forward(slice(this.text.forward(tokens, mask), null, -1));
  }

  pairLoss(logits: Tensor): Tensor {
    return sigmoidPairLoss(logits);
  }
}

export class Siglip extends SigmoidPairs {
  vision: ImageTower;
  pool: AttentionPool;
  text: TextTower;
  textHead: Linear;
  logitScale: Tensor;
  logitBias: Tensor;
  readonly config: ReturnType<typeof resolved>;
  readonly family: VisionFamily = siglipFamily;

  constructor(config: SiglipConfig, execution: LayerOptions = {}) {
    super();
    checkConfig("siglip", config, ["vision", "text"]);
    checkConfig("siglip: vision", config.vision, [...layerNames, "imageSize", "patchSize", "channels"]);
    checkConfig("siglip: text", config.text, [...layerNames, "vocabSize", "maxPositions", "projection"]);
    checkLayerOptions("siglip", execution);
    this.config = resolved(config);
    const { vision, text } = this.config;
    this.vision = new ImageTower({ ...vision, classToken: false }, execution);
    this.pool = new AttentionPool(vision);
    this.text = new TextTower({ ...text, causal: false }, execution);
    this.textHead = new Linear(text.hiddenSize, text.projection, {
      bias: true,
      init: normalInit(text.initStd),
    });
    // The logarithm of 10, and -10: at first nearly all pairs are wrong.
    this.logitScale = this.parameter("logitScale", [1], { init: constantInit(Math.log(10)) });
    this.logitBias = this.parameter("logitBias", [1], { init: constantInit(-10) });
  }

  imageFeatures(pixels: Tensor): Tensor {
    return this.pool.forward(this.vision.forward(pixels));
  }
}

export const layerNames = [
  ...["hiddenSize", "intermediateSize", "layers", "heads"],
  ...["activation", "normEpsilon", "initStd", "dropPath"],
];

function resolved({ vision, text }: SiglipConfig) {
  return {
    vision: { channels: 3, ...filled(vision) },
    text: { projection: text.hiddenSize, ...filled(text) },
  };
}

const rules: Rules = [
  [/^pool\.attention\.[qkv]_proj\.(weight|bias)$/, "vision_model.head.attention.in_proj_$1"],
  [/^pool\.attention\./, "vision_model.head.attention."],
  [/^pool\.norm\./, "vision_model.head.layernorm."],
  [/^pool\./, "vision_model.head."],
  [/^text_head\./, "text_model.head."],
  [/^(vision_model\.head\.attention\.\w+)/, "$1"],
];

/** Transformers' names; torch's attention has queries, keys and values in one tensor. */
export const siglipLayout: Layout = {
  name: "huggingface",
  stored(_model, path, shape) {
    const [, letter] = /^pool\.attention\.([qkv])Proj\./.exec(path) ?? [];
    const name = path.startsWith("pool.")
      ? renamed(path, [...rules, ...towerRules.slice(-2)])
      : renamed(path, [...rules, ...towerRules]);
    return {
      names: [name],
      stacked: false,
      transposed: false,
      ...(letter !== undefined && { part: { index: "qkv".indexOf(letter), of: 3 } }),
      ...(path === "pool.probe" && { shape: [1, 1, ...shape] }),
    };
  },
};

export const siglipTextFields = { ...textFields, projection: "projection_size" };

export const textDefaults = {
  ...{ hiddenSize: 768, intermediateSize: 3072, layers: 12, heads: 12 },
  ...{ vocabSize: 32_000, maxPositions: 64 },
};

export const siglipFamily: VisionFamily = {
  name: "siglip",
  modelType: "siglip",
  architectures: ["SiglipModel"],
  layouts: [siglipLayout],
  open(json, _architecture, path, options) {
    return new Siglip(
      {
        vision: readFields<ClipVisionConfig>(section(json, "vision_config"), `${path}: vision_config`, {
          fields: patchFields,
          defaults: {
            hiddenSize: 768,
            intermediateSize: 3072,
            layers: 12,
            heads: 12,
            imageSize: 224,
            patchSize: 16,
          },
          only: { vision_use_head: [true, undefined] },
        }),
        text: readFields<SiglipConfig["text"]>(section(json, "text_config"), `${path}: text_config`, {
          fields: siglipTextFields,
          defaults: textDefaults,
        }),
      },
      options,
    );
  },
  write(model) {
    const { vision, text } = (model as Siglip).config;
    return {
      vision_config: { model_type: "siglip_vision_model", ...writeFields(vision, patchFields) },
      text_config: { model_type: "siglip_text_model", ...writeFields(text, siglipTextFields) },
    };
  },
  architectureOf: () => "SiglipModel",
  ignored: /\.position_ids$/,
};

/** A SigLIP-style model. */
export const siglip = (config: SiglipConfig, options?: LayerOptions): Siglip => new Siglip(config, options);

const base = { hiddenSize: 768, layers: 12, heads: 12 };

/** Published sizes. */
export const siglipConfigs = {
  siglip_base: {
    vision: { ...base, imageSize: 224, patchSize: 16 },
    text: { ...base, vocabSize: 32_000, maxPositions: 64 },
  },
  siglip_so400m: {
    vision: {
      hiddenSize: 1152,
      intermediateSize: 4304,
      layers: 27,
      heads: 16,
      imageSize: 384,
      patchSize: 14,
    },
    text: {
      hiddenSize: 1152,
      intermediateSize: 4304,
      layers: 27,
      heads: 16,
      vocabSize: 32_000,
      maxPositions: 64,
    },
  },
} as const satisfies Record<string, SiglipConfig>;
