/**
 * Qwen 2 (Yang et al. 2024, "Qwen2" and "Qwen2.5"): Llama with biases of queries, keys and values. Qwen 3 (Yang et al. 2025): without them,
 * with normalized queries and keys; and its mixtures of experts.
 */
import { modelFunction } from "./build.js";
import type { DecoderConfig, ExpertConfig, ResolvedConfig } from "./config.js";
import {
  commonFields,
  type Family,
  type Json,
  type Refuse,
  type RotaryConfig,
  readRotary,
  writeLayerTypes,
  writeRotary,
} from "./family.js";

export type QwenConfig = RotaryConfig & Pick<DecoderConfig, "window" | "layerTypes">;

/** The window is used only where the file says so, and in the layers after the first so many. */
function read(json: Json, refuse: Refuse): Partial<DecoderConfig> {
  const rotary = readRotary(json, refuse);
  if (json.use_sliding_window !== true) return { ...rotary, window: undefined, layerTypes: undefined };
  if (Array.isArray(json.layer_types)) return rotary;
  const first = (json.max_window_layers as number | undefined) ?? 28;
  const layers = json.num_hidden_layers as number;
  return {
    ...rotary,
    layerTypes: Array.from({ length: layers }, (_, i) => (i >= first ? "sliding" : "full")),
  };
}

const write = (config: ResolvedConfig): Json => ({
  rope_parameters: writeRotary(config.ropeTheta, config.ropeScaling),
  use_sliding_window: config.window !== undefined,
  ...writeLayerTypes(config),
});

export const qwen2Family: Family = {
  name: "qwen2",
  architecture: "Qwen2ForCausalLM",
  modelType: "qwen2",
  traits: () => ({ normEpsilon: 1e-6, qkvBias: true }),
  silent: { normEpsilon: 1e-6, keyValueHeads: 32 },
  fields: { ...commonFields, window: "sliding_window" },
  read,
  write,
  ignored: /rotary_emb\.inv_freq$/,
};

const accepted = { ropeTheta: true, ropeScaling: true, window: true, layerTypes: true } as const;

/** A Qwen2-style model. */
export const qwen2 = modelFunction<QwenConfig>(qwen2Family, accepted);

export const qwen3Family: Family = {
  ...qwen2Family,
  name: "qwen3",
  architecture: "Qwen3ForCausalLM",
  modelType: "qwen3",
  traits: () => ({ normEpsilon: 1e-6, qkNorm: true, headDim: 128 }),
  silent: { normEpsilon: 1e-6, keyValueHeads: 32, headDim: 128 },
  only: { attention_bias: [false, undefined] },
};

/** A Qwen3-style model. */
export const qwen3 = modelFunction<QwenConfig>(qwen3Family, accepted);

export type Qwen3MoeConfig = RotaryConfig & Pick<DecoderConfig, "window"> & { experts: ExpertConfig };

/** Layers with one feed-forward layer: those listed, and all but every `decoder_sparse_step`-th. */
function denseLayers(json: Json): number[] {
  const step = (json.decoder_sparse_step as number | undefined) ?? 1;
  const listed = (json.mlp_only_layers as number[] | null | undefined) ?? [];
  const layers = Array.from({ length: json.num_hidden_layers as number }, (_, i) => i);
  return layers.filter((i) => listed.includes(i) || (i + 1) % step !== 0);
}

export const qwen3MoeFamily: Family = {
  ...qwen3Family,
  name: "qwen3Moe",
  architecture: "Qwen3MoeForCausalLM",
  modelType: "qwen3_moe",
  silent: { normEpsilon: 1e-6, keyValueHeads: 4 },
  read(json, refuse) {
    const windowed = json.use_sliding_window === true;
    return {
      ...readRotary(json, refuse),
      layerTypes: undefined,
      headDim: (json.head_dim ??
        (json.hidden_size as number) / (json.num_attention_heads as number)) as number,
      ...(!windowed && { window: undefined }),
      experts: {
        count: (json.num_experts ?? json.num_local_experts ?? 128) as number,
        perToken: (json.num_experts_per_tok ?? 8) as number,
        intermediateSize: (json.moe_intermediate_size ?? 768) as number,
        normalize: json.norm_topk_prob === true,
        auxiliaryWeight: (json.router_aux_loss_coef ?? 0.001) as number,
        denseLayers: denseLayers(json),
      },
    };
  },
  write({ ropeTheta, ropeScaling, window, experts, intermediateSize }) {
    const { count, perToken, normalize = true, auxiliaryWeight = 0.001, denseLayers: dense = [] } = experts!;
    return {
      rope_parameters: writeRotary(ropeTheta, ropeScaling),
      use_sliding_window: window !== undefined,
      num_experts: count,
      num_local_experts: count,
      num_experts_per_tok: perToken,
      moe_intermediate_size: experts!.intermediateSize ?? intermediateSize,
      norm_topk_prob: normalize,
      router_aux_loss_coef: auxiliaryWeight,
      decoder_sparse_step: 1,
      mlp_only_layers: dense,
    };
  },
};

/** A Qwen3-style mixture of experts. */
export const qwen3Moe = modelFunction<Qwen3MoeConfig>(
  qwen3MoeFamily,
  { ropeTheta: true, ropeScaling: true, window: true, experts: true },
  ["experts"],
);

const tied = { tieEmbeddings: true, ropeTheta: 1e6 };
const small = { ...tied, vocabSize: 151_936 };
const qwen3Sizes = { vocabSize: 151_936, ropeTheta: 1e6, keyValueHeads: 8, headDim: 128 };

/** Published sizes. */
export const qwen2Configs = {
  qwen2_5_0_5b: {
    ...small,
    hiddenSize: 896,
    intermediateSize: 4864,
    layers: 24,
    heads: 14,
    keyValueHeads: 2,
  },
  qwen2_5_1_5b: {
    ...small,
    hiddenSize: 1536,
    intermediateSize: 8960,
    layers: 28,
    heads: 12,
    keyValueHeads: 2,
  },
  qwen2_5_3b: {
    ...small,
    hiddenSize: 2048,
    intermediateSize: 11_008,
    layers: 36,
    heads: 16,
    keyValueHeads: 2,
  },
  qwen2_5_7b: {
    vocabSize: 152_064,
    ropeTheta: 1e6,
    hiddenSize: 3584,
    intermediateSize: 18_944,
    layers: 28,
    heads: 28,
    keyValueHeads: 4,
  },
} as const satisfies Record<string, QwenConfig>;

export const qwen3Configs = {
  qwen3_0_6b: {
    ...qwen3Sizes,
    hiddenSize: 1024,
    intermediateSize: 3072,
    layers: 28,
    heads: 16,
    tieEmbeddings: true,
  },
  qwen3_1_7b: {
    ...qwen3Sizes,
    hiddenSize: 2048,
    intermediateSize: 6144,
    layers: 28,
    heads: 16,
    tieEmbeddings: true,
  },
  qwen3_4b: {
    ...qwen3Sizes,
    hiddenSize: 2560,
    intermediateSize: 9728,
    layers: 36,
    heads: 32,
    tieEmbeddings: true,
  },
  qwen3_8b: { ...qwen3Sizes, hiddenSize: 4096, intermediateSize: 12_288, layers: 36, heads: 32 },
  qwen3_14b: { ...qwen3Sizes, hiddenSize: 5120, intermediateSize: 17_408, layers: 40, heads: 40 },
  qwen3_32b: { ...qwen3Sizes, hiddenSize: 5120, intermediateSize: 25_600, layers: 64, heads: 64 },
} as const satisfies Record<string, QwenConfig>;

export const qwen3MoeConfigs = {
  qwen3_30b_a3b: {
    ...qwen3Sizes,
    hiddenSize: 2048,
    intermediateSize: 6144,
    layers: 48,
    heads: 32,
    keyValueHeads: 4,
    experts: { count: 128, perToken: 8, intermediateSize: 768 },
  },
  qwen3_235b_a22b: {
    ...qwen3Sizes,
    hiddenSize: 4096,
    intermediateSize: 12_288,
    layers: 94,
    heads: 64,
    keyValueHeads: 4,
    experts: { count: 128, perToken: 8, intermediateSize: 1536 },
  },
} as const satisfies Record<string, Qwen3MoeConfig>;
