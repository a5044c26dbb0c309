/** SigLIP 2 (Tschannen et al. 2025), the NaFlex kind: pictures of any sides as lists of patches, packed to one length. */
import { add, cast, notEqual } from "../../array/elementwise.js";
import type { Tensor } from "../../array/tensor.js";
import { ShapeError } from "../../graph/errors.js";
import { constantInit, normalInit } from "../../nn/initializers.js";
import { LayerNorm, Linear } from "../../nn/layers.js";
import { Module } from "../../nn/module.js";
import { applyLayers, checkLayerOptions, type LayerOptions } from "../../nn/stack.js";
import { section, type TextConfig } from "./clip.js";
import { checkConfig, readFields, type TransformerConfig, transformerFields, writeFields } from "./config.js";
import { type PairBatch, unit } from "./dual.js";
import type { VisionFamily } from "./family.js";
import { flexiblePositions } from "./positions.js";
import {
  AttentionPool,
  filled,
  layerNames,
  SigmoidPairs,
  siglipLayout,
  siglipTextFields,
  textDefaults,
} from "./siglip.js";
import { TextTower } from "./tower.js";
import { type Block, blocks } from "./transformer.js";

export interface Siglip2Config {
  vision: TransformerConfig & {
    patchSize: number;
    /** Positions of the table, a square grid. */
    positions: number;
    channels?: number;
  };
  text: TextConfig & { projection?: number };
}

/** Pictures as patches. */
export interface FlexibleBatch {
  /** [batch, places, side · side · channels], normalized; channels last within a patch. */
  readonly patches: Tensor;
  /** Integer or bool [batch, places]: 0 is padding. */
  readonly mask: Tensor;
  /** Integer [batch, 2]: rows and columns of each picture's patches. */
  readonly shapes: Tensor;
}

class FlexibleEmbeddings extends Module {
  patches: Linear;
  positions: Tensor;

  constructor(config: Siglip2Config["vision"] & { initStd: number; channels: number }) {
    super();
    const { hiddenSize, patchSize, channels, positions, initStd } = config;
    const init = normalInit(initStd);
    this.patches = new Linear(channels * patchSize ** 2, hiddenSize, {
      bias: true,
      init,
      axes: ["embed", null],
    });
    this.positions = this.parameter("positions", [positions, hiddenSize], { init, axes: [null, "embed"] });
  }
}

class FlexibleTower extends Module {
  embeddings: FlexibleEmbeddings;
  layers: Block[];
  norm: LayerNorm;
  readonly execution: LayerOptions;

  constructor(config: ReturnType<typeof resolved>["vision"], execution: LayerOptions) {
    super();
    this.execution = execution;
    this.embeddings = new FlexibleEmbeddings(config);
    this.layers = blocks(config.layers, config);
    this.norm = new LayerNorm(config.hiddenSize, { epsilon: config.normEpsilon });
  }

  /** [batch, places, hiddenSize]. */
  forward({ patches, mask, shapes }: FlexibleBatch): Tensor {
    const features = this.embeddings.patches.weight.shape[1];
    const [batch, places] = patches.shape;
    if (patches.ndim !== 3 || patches.shape[2] !== features || mask.shape.join() !== `${batch},${places}`)
      throw new ShapeError(
        `siglip2: patches [${patches.shape.join(", ")}], mask [${mask.shape.join(", ")}]`,
        `give patches [batch, places, ${features}], mask [batch, places] and shapes [batch, 2]`,
      );
    const seen = { mask: notEqual(cast(mask, "int32"), 0) };
    const placed = flexiblePositions(this.embeddings.positions, shapes, places!);
    const start = add(this.embeddings.patches.forward(patches), placed);
    return this.norm.forward(
      applyLayers(this.layers, start, (layer, x) => layer.forward(x, seen), this.execution),
    );
  }
}

export class Siglip2 extends SigmoidPairs {
  vision: FlexibleTower;
  pool: AttentionPool;
  text: TextTower;
  textHead: Linear;
  logitScale: Tensor;
  logitBias: Tensor;
  readonly config: ReturnType<typeof resolved>;
  readonly family: VisionFamily = siglip2Family;

  constructor(config: Siglip2Config, execution: LayerOptions = {}) {
    super();
    checkConfig("siglip2", config, ["vision", "text"]);
    checkConfig("siglip2: vision", config.vision, [...layerNames, "patchSize", "positions", "channels"]);
    checkConfig("siglip2: text", config.text, [...layerNames, "vocabSize", "maxPositions", "projection"]);
    checkLayerOptions("siglip2", execution);
    this.config = resolved(config);
    const { vision, text } = this.config;
    this.vision = new FlexibleTower(vision, execution);
    this.pool = new AttentionPool(vision);
    this.text = new TextTower({ ...text, causal: false }, execution);
    this.textHead = new Linear(text.hiddenSize, text.projection, {
      bias: true,
      init: normalInit(text.initStd),
    });
    this.logitScale = this.parameter("logitScale", [1], { init: constantInit(Math.log(10)) });
    this.logitBias = this.parameter("logitBias", [1], { init: constantInit(-10) });
  }

  /** Features of pictures in patches; `imageFeatures` takes no pixels here. */
  flexibleFeatures(batch: FlexibleBatch): Tensor {
    return this.pool.forward(this.vision.forward(batch), notEqual(cast(batch.mask, "int32"), 0));
  }

  imageFeatures(pixels: Tensor): Tensor {
    throw new ShapeError(
      `siglip2: pictures [${pixels.shape.join(", ")}] without their shapes`,
      "give { patches, mask, shapes, tokens }, or call flexibleFeatures",
    );
  }

  override embed(batch: PairBatch | (FlexibleBatch & { tokens: Tensor })): { image: Tensor; text: Tensor } {
    if (!("patches" in batch)) return super.embed(batch);
    return { image: unit(this.flexibleFeatures(batch)), text: unit(this.textFeatures(batch.tokens)) };
  }
}

function resolved({ vision, text }: Siglip2Config) {
  return {
    vision: { channels: 3, ...filled(vision) },
    text: { projection: text.hiddenSize, ...filled(text) },
  };
}

const visionFields = {
  ...transformerFields,
  patchSize: "patch_size",
  channels: "num_channels",
  positions: "num_patches",
};

export const siglip2Family: VisionFamily = {
  name: "siglip2",
  modelType: "siglip2",
  architectures: ["Siglip2Model"],
  layouts: [siglipLayout],
  open(json, _architecture, path, options) {
    return new Siglip2(
      {
        vision: readFields<Siglip2Config["vision"]>(
          section(json, "vision_config"),
          `${path}: vision_config`,
          {
            fields: visionFields,
            defaults: {
              hiddenSize: 768,
              intermediateSize: 3072,
              layers: 12,
              heads: 12,
              positions: 256,
              patchSize: 16,
            },
            only: { vision_use_head: [true, undefined] },
          },
        ),
        text: readFields<Siglip2Config["text"]>(section(json, "text_config"), `${path}: text_config`, {
          fields: siglipTextFields,
          defaults: textDefaults,
        }),
      },
      options,
    );
  },
  write(model) {
    const { vision, text } = (model as Siglip2).config;
    return {
      vision_config: { model_type: "siglip2_vision_model", ...writeFields(vision, visionFields) },
      text_config: { model_type: "siglip2_text_model", ...writeFields(text, siglipTextFields) },
    };
  },
  architectureOf: () => "Siglip2Model",
  ignored: /\.position_ids$/,
};

/** A SigLIP 2 of flexible sides. The others of its checkpoints are SigLIP's, and open as such. */
export const siglip2 = (config: Siglip2Config, options?: LayerOptions): Siglip2 =>
  new Siglip2(config, options);
