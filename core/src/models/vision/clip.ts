/** CLIP (Radford et al. 2021, "Learning transferable visual models from natural language supervision"). */

import { broadcastTo } from "../../array/broadcast.js";
import { cast, equal } from "../../array/elementwise.js";
import { slice, takeAlongAxis } from "../../array/indexing.js";
import { argmax } from "../../array/reductions.js";
import { expandDims, squeeze } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import { clipLoss } from "../../nn/contrastive.js";
import { constantInit, normalInit } from "../../nn/initializers.js";
import { Linear } from "../../nn/layers.js";
import { checkLayerOptions, type LayerOptions } from "../../nn/stack.js";
import type { Json } from "../pretrained/folders.js";
import {
  checkConfig,
  type PatchConfig,
  patchFields,
  readFields,
  type TransformerConfig,
  transformerFields,
  writeFields,
} from "./config.js";
import { DualEncoder } from "./dual.js";
import { layoutOf, type Rules, type VisionFamily } from "./family.js";
import { openClipLayout } from "./open-clip.js";
import { ImageTower, TextTower } from "./tower.js";

export interface ClipVisionConfig extends PatchConfig {
  channels?: number;
}

export interface TextConfig extends TransformerConfig {
  vocabSize: number;
  /** Tokens of the longest text. */
  maxPositions: number;
}

export interface ClipConfig {
  vision: ClipVisionConfig;
  text: TextConfig & {
    /** The token whose state stands for the text, the first in it; 2 means the greatest of the text, as in the first checkpoints. Default 49407. */
    endId?: number;
  };
  /** Features of the common space. */
  projection: number;
  /** Logarithm of the first scale of the logits. Default ln(1 / 0.07). */
  logitScale?: number;
}

const transformerDefaults = {
  activation: "quickGelu",
  normEpsilon: 1e-5,
  initStd: 0.02,
  dropPath: 0,
} as const;
const layerNames = [
  "hiddenSize",
  "intermediateSize",
  "layers",
  "heads",
  "activation",
  "normEpsilon",
  "initStd",
  "dropPath",
];

const filled = <T extends TransformerConfig, D extends object>(config: T, defaults: D) => ({
  intermediateSize: 4 * config.hiddenSize,
  ...defaults,
  ...config,
});

export class Clip extends DualEncoder {
  vision: ImageTower;
  text: TextTower;
  visionProjection: Linear;
  textProjection: Linear;
  logitScale: Tensor;
  readonly logitBias = null;
  readonly config: ReturnType<typeof resolved>;
  readonly family: VisionFamily = clipFamily;

  constructor(config: ClipConfig, execution: LayerOptions = {}) {
    super();
    checkConfig("clip", config, ["vision", "text", "projection", "logitScale"]);
    checkConfig("clip: vision", config.vision, [...layerNames, "imageSize", "patchSize", "channels"]);
    checkConfig("clip: text", config.text, [...layerNames, "vocabSize", "maxPositions", "endId"]);
    checkLayerOptions("clip", execution);
    this.config = resolved(config);
    const { vision, text, projection, logitScale } = this.config;
    this.vision = new ImageTower({ ...vision, patchBias: false, preNorm: true }, execution);
    this.text = new TextTower({ ...text, causal: true }, execution);
    const project = (features: number): Linear =>
      new Linear(features, projection, { init: normalInit(features ** -0.5), axes: [null, "embed"] });
    this.visionProjection = project(vision.hiddenSize);
    this.textProjection = project(text.hiddenSize);
    this.logitScale = this.parameter("logitScale", [], { init: constantInit(logitScale) });
  }

  imageFeatures(pixels: Tensor): Tensor {
    return this.visionProjection.forward(slice(this.vision.forward(pixels), null, 0));
  }

  textFeatures(tokens: Tensor, mask?: Tensor): Tensor {
    const states = this.text.forward(tokens, mask);
    const { endId } = this.config.text;
    const end = argmax(endId === 2 ? tokens : cast(equal(tokens, endId), "int32"), -1);
    const at = broadcastTo(expandDims(end, [1, 2]), [states.shape[0]!, 1, states.shape[2]!]);
    return this.textProjection.forward(squeeze(takeAlongAxis(states, at, 1), 1));
  }

  pairLoss(logits: Tensor): Tensor {
    return clipLoss(logits);
  }
}

function resolved({ vision, text, projection, logitScale = 2.6592 }: ClipConfig) {
  return {
    vision: filled(vision, { channels: 3, ...transformerDefaults }),
    text: filled(text, { endId: 49_407, ...transformerDefaults }),
    projection,
    logitScale,
  };
}

/** Of transformers' CLIP and SigLIP. */
export const towerRules: Rules = [
  [/^vision\.embeddings\.patches\./, "vision_model.embeddings.patch_embedding."],
  [/^vision\.embeddings\.positions$/, "vision_model.embeddings.position_embedding.weight"],
  [/^vision\.embeddings\.class_token$/, "vision_model.embeddings.class_embedding"],
  [/^vision\.pre_norm\./, "vision_model.pre_layrnorm."],
  [/^vision\.norm\./, "vision_model.post_layernorm."],
  [/^text\.tokens\./, "text_model.embeddings.token_embedding."],
  [/^text\.positions\./, "text_model.embeddings.position_embedding."],
  [/^text\.norm\./, "text_model.final_layer_norm."],
  [/^(vision|text)\.layers\./, "$1_model.encoder.layers."],
  [/\.attention\.(\w+_proj)\./, ".self_attn.$1."],
  [/\.norm([12])\./, ".layer_norm$1."],
  [/\.mlp\.up_proj\./, ".mlp.fc1."],
  [/\.mlp\.down_proj\./, ".mlp.fc2."],
];

const rules: Rules = [...towerRules, [/^vision_projection\./, "visual_projection."]];

export const textFields = {
  ...transformerFields,
  vocabSize: "vocab_size",
  maxPositions: "max_position_embeddings",
};

/** A part of `config.json`, which files without it leave to defaults. */
export function section(json: Json, name: string): Json {
  return (json[name] ?? {}) as Json;
}

export const clipFamily: VisionFamily = {
  name: "clip",
  modelType: "clip",
  architectures: ["CLIPModel"],
  layouts: [layoutOf(() => rules), openClipLayout],
  open(json, _architecture, path, options) {
    const common = { layers: 12, activation: "quickGelu", normEpsilon: 1e-5 } as const;
    return new Clip(
      {
        vision: readFields<ClipVisionConfig>(section(json, "vision_config"), `${path}: vision_config`, {
          fields: patchFields,
          defaults: {
            ...common,
            hiddenSize: 768,
            intermediateSize: 3072,
            heads: 12,
            imageSize: 224,
            patchSize: 32,
          },
        }),
        text: readFields<ClipConfig["text"]>(section(json, "text_config"), `${path}: text_config`, {
          fields: { ...textFields, endId: "eos_token_id" },
          defaults: {
            ...common,
            hiddenSize: 512,
            intermediateSize: 2048,
            heads: 8,
            vocabSize: 49_408,
            maxPositions: 77,
          },
        }),
        projection: (json.projection_dim as number | undefined) ?? 512,
        ...(typeof json.logit_scale_init_value === "number" && { logitScale: json.logit_scale_init_value }),
      },
      options,
    );
  },
  write(model) {
    const { vision, text, projection, logitScale } = (model as Clip).config;
    return {
      projection_dim: projection,
      logit_scale_init_value: logitScale,
      vision_config: { model_type: "clip_vision_model", ...writeFields(vision, patchFields) },
      text_config: {
        model_type: "clip_text_model",
        ...writeFields(text, { ...textFields, endId: "eos_token_id" }),
      },
    };
  },
  architectureOf: () => "CLIPModel",
  ignored: /\.position_ids$/,
};

/** A CLIP-style model. */
export const clip = (config: ClipConfig, options?: LayerOptions): Clip => new Clip(config, options);

const text = { vocabSize: 49_408, maxPositions: 77, layers: 12 };
const base = { imageSize: 224, hiddenSize: 768, layers: 12, heads: 12 };

/** Published sizes. */
export const clipConfigs = {
  clip_base_32: {
    vision: { ...base, patchSize: 32 },
    text: { ...text, hiddenSize: 512, heads: 8 },
    projection: 512,
  },
  clip_base_16: {
    vision: { ...base, patchSize: 16 },
    text: { ...text, hiddenSize: 512, heads: 8 },
    projection: 512,
  },
  clip_large_14: {
    vision: { imageSize: 224, patchSize: 14, hiddenSize: 1024, layers: 24, heads: 16 },
    text: { ...text, hiddenSize: 768, heads: 12 },
    projection: 768,
  },
} as const satisfies Record<string, ClipConfig>;
