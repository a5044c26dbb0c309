/** DINOv2 (Oquab et al. 2023): a ViT with factors on its branches, gated layers in the largest, and registers (Darcet et al. 2024). */
import { slice } from "../../array/indexing.js";
import { concatenate } from "../../array/joining.js";
import { mean } from "../../array/reductions.js";
import type { Tensor } from "../../array/tensor.js";
import { normalInit } from "../../nn/initializers.js";
import { Linear } from "../../nn/layers.js";
import { checkLayerOptions, type LayerOptions } from "../../nn/stack.js";
import {
  checkConfig,
  type ImageConfig,
  type PatchConfig,
  patchFields,
  readClasses,
  readFields,
  writeClasses,
  writeFields,
} from "./config.js";
import {
  type Encoded,
  ImageModel,
  layoutOf,
  type Rules,
  type VisionFamily,
  type VisionModel,
} from "./family.js";
import { ImageTower } from "./tower.js";
import { embeddingRules, layerRules } from "./vit.js";

export interface Dinov2Config extends Omit<PatchConfig, "intermediateSize">, ImageConfig {
  qkvBias?: boolean;
  /** Features of the feed-forward layers by hiddenSize. Default 4. */
  mlpRatio?: number;
  /** Gated feed-forward layers of two thirds of that, up to a multiple of 8. Default false. */
  gated?: boolean;
  /** Initial factor of each branch's features. Default 1. */
  layerScale?: number;
  /** Tokens without positions, of which nothing is read. Default 0. */
  registers?: number;
  /** Whether there is a token in place of masked patches. Default true. */
  maskToken?: boolean;
}

const defaults = {
  channels: 3,
  mlpRatio: 4,
  activation: "gelu",
  normEpsilon: 1e-6,
  initStd: 0.02,
  qkvBias: true,
  layerScale: 1,
  gated: false,
  registers: 0,
  maskToken: true,
  dropPath: 0,
} as const;

const known = [
  ...Object.keys(defaults),
  "classes",
  "labels",
  "hiddenSize",
  "layers",
  "heads",
  "imageSize",
  "patchSize",
];

export class Dinov2 extends ImageModel {
  tower: ImageTower;
  classifier: Linear | null;
  readonly config: Dinov2Config & Required<Pick<Dinov2Config, keyof typeof defaults>>;
  readonly family: VisionFamily;

  constructor(
    config: Dinov2Config,
    { registers = false, ...execution }: LayerOptions & { registers?: boolean } = {},
  ) {
    super();
    checkConfig("dinov2", config, known);
    checkLayerOptions("dinov2", execution);
    this.config = { ...defaults, ...config };
    this.family = registers || this.config.registers > 0 ? dinov2RegistersFamily : dinov2Family;
    const { hiddenSize, mlpRatio, gated, classes, initStd } = this.config;
    const whole = Math.trunc(hiddenSize * mlpRatio);
    const intermediateSize = gated ? 8 * Math.floor((Math.trunc((whole * 2) / 3) + 7) / 8) : whole;
    this.tower = new ImageTower(
      { ...this.config, intermediateSize, antialias: this.family === dinov2RegistersFamily },
      execution,
    );
    this.classifier =
      classes === undefined
        ? null
        : new Linear(2 * hiddenSize, classes, { bias: true, init: normalInit(initStd) });
  }

  /** The classifier reads the class token and the mean of the patches; without one the token alone is pooled. */
  encode(pixels: Tensor): Encoded {
    const states = this.tower.forward(pixels);
    const first = slice(states, null, 0);
    if (this.classifier === null) return { states, pooled: first };
    const patches = slice(states, null, [1 + this.config.registers]);
    return { states, pooled: concatenate([first, mean(patches, 1)], -1) };
  }
}

const rules = (prefix: string): Rules => [
  [/^tower\.norm\./, `${prefix}layernorm.`],
  [/^tower\.layers\./, `${prefix}encoder.layer.`],
  [/^tower\./, prefix],
  [/\.scale([12])$/, ".layer_scale$1.lambda1"],
  [/\.mlp\.gate_up_proj\./, ".mlp.weights_in."],
  ...embeddingRules,
  ...layerRules.slice(0, 4),
];

const gatedRule: Rules = [[/\.mlp\.down_proj\./, ".mlp.weights_out."]];
const plainRules: Rules = [
  [/\.mlp\.up_proj\./, ".mlp.fc1."],
  [/\.mlp\.down_proj\./, ".mlp.fc2."],
];

const fields = {
  ...patchFields,
  qkvBias: "qkv_bias",
  mlpRatio: "mlp_ratio",
  gated: "use_swiglu_ffn",
  layerScale: "layerscale_value",
  maskToken: "use_mask_token",
  dropPath: "drop_path_rate",
  initStd: "initializer_range",
};
const { intermediateSize: _none, ...own } = fields;

function familyOf(name: string, modelType: string, base: string, withRegisters: boolean): VisionFamily {
  const owned = withRegisters ? { ...own, registers: "num_register_tokens" } : own;
  return {
    name,
    modelType,
    architectures: [`${base}Model`, `${base}ForImageClassification`],
    layouts: [
      layoutOf(
        (model: VisionModel) => {
          const { classifier, config } = model as Dinov2;
          return [
            ...rules(classifier === null ? "" : `${modelType}.`),
            ...(config.gated ? gatedRule : plainRules),
          ];
        },
        [
          [/maskToken$/, (shape) => [1, ...shape]],
          [/classToken$/, (shape) => [1, 1, ...shape]],
          [/(positions|registerTokens)$/, (shape) => [1, ...shape]],
        ],
      ),
    ],
    open(json, architecture, path, options) {
      const config = readFields<Dinov2Config>(json, path, {
        fields: owned,
        defaults: {
          ...{ hiddenSize: 768, layers: 12, heads: 12, imageSize: 224, patchSize: withRegisters ? 16 : 14 },
          ...(withRegisters && { registers: 4 }),
        },
      });
      const classes = architecture.endsWith("ForImageClassification") ? readClasses(json) : {};
      return new Dinov2({ ...config, ...classes }, { ...options, registers: withRegisters });
    },
    write: (model) => {
      const { config } = model as Dinov2;
      return { ...writeFields(config, owned), ...writeClasses(config) };
    },
    architectureOf: (model) =>
      `${base}${(model as Dinov2).classifier === null ? "Model" : "ForImageClassification"}`,
    pythonName: (checkpoint) =>
      checkpoint
        .replace(/\.attention\.attention\.(q|k|v)(uery|ey|alue)\./, ".attention.$1_proj.")
        .replace(".attention.output.dense.", ".attention.o_proj.")
        .replace(".mlp.weights_out.", ".mlp.down_proj."),
  };
}

export const dinov2Family: VisionFamily = familyOf("dinov2", "dinov2", "Dinov2", false);
export const dinov2RegistersFamily: VisionFamily = familyOf(
  "dinov2WithRegisters",
  "dinov2_with_registers",
  "Dinov2WithRegisters",
  true,
);

/** A DINOv2-style model, with `registers` such a one with registers. */
export const dinov2 = (config: Dinov2Config, options?: LayerOptions): Dinov2 => new Dinov2(config, options);

const sized = (hiddenSize: number, layers: number, heads: number) => ({
  imageSize: 518,
  patchSize: 14,
  hiddenSize,
  layers,
  heads,
});

/** Published sizes. */
export const dinov2Configs = {
  dinov2_small: sized(384, 12, 6),
  dinov2_base: sized(768, 12, 12),
  dinov2_large: sized(1024, 24, 16),
  dinov2_giant: { ...sized(1536, 40, 24), gated: true },
} as const satisfies Record<string, Dinov2Config>;
