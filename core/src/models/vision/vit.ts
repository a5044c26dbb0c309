/** Vision Transformer (Dosovitskiy et al. 2021, "An image is worth 16x16 words"), and DeiT's with a second token (Touvron et al. 2021). */
import { add, mul, tanh } from "../../array/elementwise.js";
import { slice } from "../../array/indexing.js";
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
import { timmLayout } from "./timm.js";
import { ImageTower } from "./tower.js";

export interface VitConfig extends PatchConfig, ImageConfig {
  /** Whether queries, keys and values have biases. Default true. */
  qkvBias?: boolean;
  /** Features of a layer with tanh over the class token, in a model without a classifier. Default none: the token itself. */
  poolerSize?: number;
}

const known = [
  ...["channels", "classes", "labels", "hiddenSize", "intermediateSize", "layers", "heads", "activation"],
  ...["normEpsilon", "initStd", "dropPath", "imageSize", "patchSize", "qkvBias", "poolerSize"],
];

const defaults = { channels: 3, activation: "gelu", normEpsilon: 1e-12, initStd: 0.02, dropPath: 0 } as const;

/** A ViT or DeiT with its defaults filled in. */
export function resolved<C extends VitConfig>(config: C) {
  return { intermediateSize: 4 * config.hiddenSize, qkvBias: true, ...defaults, ...config };
}

export class VisionTransformer extends ImageModel {
  tower: ImageTower;
  pooler: Linear | null;
  classifier: Linear | null;
  /** DeiT's, for the second token. */
  distillationClassifier: Linear | null;
  readonly config: ReturnType<typeof resolved>;
  readonly family: VisionFamily;

  constructor(
    config: VitConfig,
    {
      family = vitFamily,
      teacher = false,
      ...execution
    }: LayerOptions & { family?: VisionFamily; teacher?: boolean } = {},
  ) {
    super();
    checkConfig(family.name, config, known);
    checkLayerOptions(family.name, execution);
    this.config = resolved(config);
    this.family = family;
    const { hiddenSize, classes, poolerSize } = this.config;
    this.tower = new ImageTower({ ...this.config, distillationToken: family.name === "deit" }, execution);
    const dense = { bias: true, init: normalInit(this.config.initStd) };
    const head = (): Linear | null => (classes === undefined ? null : new Linear(hiddenSize, classes, dense));
    this.pooler =
      poolerSize === undefined || classes !== undefined ? null : new Linear(hiddenSize, poolerSize, dense);
    this.classifier = head();
    this.distillationClassifier = teacher ? head() : null;
  }

  encode(pixels: Tensor): Encoded {
    const states = this.tower.forward(pixels);
    const first = slice(states, null, 0);
    return { states, pooled: this.pooler === null ? first : tanh(this.pooler.forward(first)) };
  }

  /** Logits; of a DeiT with a teacher the mean of both classifiers'. */
  override forward(pixels: Tensor): Tensor {
    if (this.distillationClassifier === null) return super.forward(pixels);
    const { own, teacher } = this.bothLogits(pixels);
    return mul(add(own, teacher), 0.5);
  }

  /** The logits of the class token, and of the token that learns from a teacher. */
  bothLogits(pixels: Tensor): { own: Tensor; teacher: Tensor } {
    const { states } = this.encode(pixels);
    return {
      own: this.classifier!.forward(slice(states, null, 0)),
      teacher: this.distillationClassifier!.forward(slice(states, null, 1)),
    };
  }
}

/** Of transformers' ViT and its relatives. */
export const layerRules: Rules = [
  [/\.attention\.q_proj\./, ".attention.attention.query."],
  [/\.attention\.k_proj\./, ".attention.attention.key."],
  [/\.attention\.v_proj\./, ".attention.attention.value."],
  [/\.attention\.out_proj\./, ".attention.output.dense."],
  [/\.norm1\./, ".layernorm_before."],
  [/\.norm2\./, ".layernorm_after."],
  [/\.mlp\.up_proj\./, ".intermediate.dense."],
  [/\.mlp\.down_proj\./, ".output.dense."],
];

export const embeddingRules: Rules = [
  [/embeddings\.class_token$/, "embeddings.cls_token"],
  [/embeddings\.patches\./, "embeddings.patch_embeddings.projection."],
  [/embeddings\.positions$/, "embeddings.position_embeddings"],
];

/** Tokens and positions have leading axes of 1 there. */
export const tokenShapes = [
  [/(class|distillation|mask)Token$/, (shape) => [1, 1, ...shape]],
  [/(positions|registerTokens)$/, (shape) => [1, ...shape]],
] as const satisfies Parameters<typeof layoutOf>[1];

const rulesFor = (prefix: string): Rules => [
  [/^tower\.norm\./, `${prefix}layernorm.`],
  [/^tower\.layers\./, `${prefix}encoder.layer.`],
  [/^tower\./, prefix],
  ...embeddingRules,
  ...layerRules,
  [/^pooler\./, "pooler.dense."],
];

const teacherRules: Rules = [
  [/^classifier\./, "cls_classifier."],
  [/^distillation_classifier\./, "distillation_classifier."],
];

const prefixOf =
  (name: string) =>
  (model: VisionModel): Rules => {
    const { classifier, distillationClassifier } = model as VisionTransformer;
    const own = rulesFor(classifier === null ? "" : `${name}.`);
    return distillationClassifier === null ? own : [...own, ...teacherRules];
  };

const fields = {
  ...patchFields,
  qkvBias: "qkv_bias",
  poolerSize: "pooler_output_size",
  initStd: "initializer_range",
};
const only = { pooler_act: ["tanh", undefined] };

/** What transformers 5 calls the parameters of such layers in memory. */
export function pythonLayerName(name: string): string {
  return name
    .replace(/\bencoder\.layer\.(\d+)\./, "layers.$1.")
    .replace(/\.attention\.attention\.(q|k|v)(uery|ey|alue)\./, ".attention.$1_proj.")
    .replace(".attention.output.dense.", ".attention.o_proj.")
    .replace(".intermediate.dense.", ".mlp.fc1.")
    .replace(/(layers\.\d+)\.output\.dense\./, "$1.mlp.fc2.");
}

function familyOf(
  name: string,
  heads: readonly string[],
  architectureOf: VisionFamily["architectureOf"],
): VisionFamily {
  return {
    name,
    modelType: name,
    architectures: heads,
    layouts: [layoutOf(prefixOf(name), tokenShapes), ...(name === "vit" ? [timmLayout] : [])],
    open(json, architecture, path, options) {
      const base = readFields<VitConfig>(json, path, {
        fields,
        defaults: {
          hiddenSize: 768,
          layers: 12,
          heads: 12,
          intermediateSize: 3072,
          imageSize: 224,
          patchSize: 16,
        },
        only,
      });
      const { poolerSize = base.hiddenSize, ...config } = base;
      const classified = architecture.includes("ForImageClassification");
      return new VisionTransformer(
        classified ? { ...config, ...readClasses(json) } : { ...config, poolerSize },
        { ...options, family: this, teacher: architecture.endsWith("WithTeacher") },
      );
    },
    write: (model) => {
      const { config } = model as VisionTransformer;
      return { ...writeFields(config, fields), ...writeClasses(config) };
    },
    architectureOf,
    pythonName: pythonLayerName,
  };
}

export const vitFamily: VisionFamily = familyOf("vit", ["ViTForImageClassification", "ViTModel"], (model) =>
  (model as VisionTransformer).classifier === null ? "ViTModel" : "ViTForImageClassification",
);

export const deitFamily: VisionFamily = familyOf(
  "deit",
  ["DeiTForImageClassification", "DeiTForImageClassificationWithTeacher", "DeiTModel"],
  (model) => {
    const { classifier, distillationClassifier } = model as VisionTransformer;
    if (classifier === null) return "DeiTModel";
    return distillationClassifier === null
      ? "DeiTForImageClassification"
      : "DeiTForImageClassificationWithTeacher";
  },
);

/** A Vision Transformer; with `classes` a classifier over the class token. */
export const vit = (config: VitConfig, options?: LayerOptions): VisionTransformer =>
  new VisionTransformer(config, options);

/** A DeiT: a ViT with a second token; `teacher` gives it a classifier of its own, which learns what a teacher says. */
export const deit = (
  config: VitConfig,
  { teacher, ...options }: LayerOptions & { teacher?: boolean } = {},
): VisionTransformer => new VisionTransformer(config, { ...options, teacher, family: deitFamily });

const sized = (hiddenSize: number, layers: number, heads: number, patchSize = 16) => ({
  imageSize: 224,
  patchSize,
  hiddenSize,
  layers,
  heads,
});

/** Published sizes. */
export const vitConfigs = {
  vit_tiny: sized(192, 12, 3),
  vit_small: sized(384, 12, 6),
  vit_base: sized(768, 12, 12),
  vit_base_32: sized(768, 12, 12, 32),
  vit_large: sized(1024, 24, 16),
  vit_huge: sized(1280, 32, 16, 14),
} as const satisfies Record<string, VitConfig>;
