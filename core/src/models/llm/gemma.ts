/**
 * Gemma 2 (Gemma Team 2024): norms before and after each part, bounded scores and logits, every other layer with a window. Gemma 3 (Gemma
 * Team 2025), the text model: normalized queries and keys instead of the bounds, five layers with a window to one without.
 */
import { modelFunction } from "./build.js";
import type { DecoderConfig, ResolvedConfig } from "./config.js";
import {
  type CommonConfig,
  commonFields,
  type Family,
  type Json,
  type RotaryConfig,
  readRotary,
  readScaling,
  writeLayerTypes,
  writeRotary,
} from "./family.js";

export type Gemma2Config = RotaryConfig &
  Pick<DecoderConfig, "window" | "layerTypes" | "attentionScale" | "attentionSoftCap" | "logitSoftCap">;

/** Its scores are not bounded, whatever a file says of it: transformers does not look at that field either. */
export type Gemma3Config = Omit<Gemma2Config, "attentionSoftCap"> & Pick<DecoderConfig, "windowRopeTheta">;

/** Every `cycle`-th layer sees all, the others a window. */
const cycle = (layers: number, length: number): ("full" | "sliding")[] =>
  Array.from({ length: layers }, (_, i) => ((i + 1) % length === 0 ? "full" : "sliding"));

const gemma = ({ hiddenSize, headDim = 256 }: CommonConfig): Partial<DecoderConfig> => ({
  norm: "rmsPlusOne",
  normEpsilon: 1e-6,
  postNorms: true,
  activation: "geluTanh",
  embeddingScale: Math.sqrt(hiddenSize),
  tieEmbeddings: true,
  window: 4096,
  headDim,
  attentionScale: 1 / Math.sqrt(headDim),
});

const silent = {
  normEpsilon: 1e-6,
  tieEmbeddings: true,
  keyValueHeads: 4,
  headDim: 256,
  activation: "geluTanh",
} as const;

/** The scale of the scores, which the file gives as the square that it is the inverse root of. */
const scale = (json: Json): Partial<DecoderConfig> => ({
  attentionScale: ((json.query_pre_attn_scalar as number | undefined) ?? 256) ** -0.5,
});

const fields = {
  ...commonFields,
  activation: "hidden_activation",
  window: "sliding_window",
  logitSoftCap: "final_logit_softcapping",
} as const;

function write(config: ResolvedConfig): Json {
  const square = config.attentionScale ** -2;
  const whole = Math.round(square);
  return {
    query_pre_attn_scalar: Math.abs(square - whole) < 1e-6 * square ? whole : square,
    ...writeLayerTypes(config),
  };
}

export const gemma2Family: Family = {
  name: "gemma2",
  architecture: "Gemma2ForCausalLM",
  modelType: "gemma2",
  traits: (config) => ({
    ...gemma(config),
    layerTypes: cycle(config.layers, 2),
    attentionSoftCap: 50,
    logitSoftCap: 30,
  }),
  silent,
  fields: { ...fields, attentionSoftCap: "attn_logit_softcapping" },
  only: { attention_bias: [false, undefined], use_bidirectional_attention: [false, null, undefined] },
  read: (json, refuse) => ({
    // Without bounds where the file has null.
    attentionSoftCap:
      json.attn_logit_softcapping === undefined ? 50 : ((json.attn_logit_softcapping ?? undefined) as number),
    logitSoftCap:
      json.final_logit_softcapping === undefined
        ? 30
        : ((json.final_logit_softcapping ?? undefined) as number),
    ...readRotary(json, refuse),
    ...scale(json),
  }),
  write: (config) => ({
    rope_parameters: writeRotary(config.ropeTheta, config.ropeScaling),
    ...write(config),
  }),
};

const accepted = {
  ropeTheta: true,
  ropeScaling: true,
  window: true,
  layerTypes: true,
  attentionScale: true,
  logitSoftCap: true,
} as const;

/** A Gemma-2-style model. */
export const gemma2 = modelFunction<Gemma2Config>(gemma2Family, { ...accepted, attentionSoftCap: true });

export const gemma3Family: Family = {
  name: "gemma3",
  architecture: "Gemma3ForCausalLM",
  modelType: "gemma3_text",
  traits: (config) => ({
    ...gemma(config),
    layerTypes: cycle(config.layers, 6),
    qkNorm: true,
    ropeTheta: 1e6,
    windowRopeTheta: 10_000,
  }),
  silent,
  fields,
  only: gemma2Family.only,
  read(json, refuse) {
    const nested = json.rope_parameters as { full_attention?: Json; sliding_attention?: Json } | undefined;
    const full = nested?.full_attention;
    const sliding = nested?.sliding_attention;
    const type = sliding?.rope_type ?? "default";
    if (type !== "default")
      refuse(`the rope type of layers with a window is "${type}"`, 'only "default" can be computed');
    const scaling = readScaling(full ?? (json.rope_scaling as Json | undefined) ?? {}, json, refuse);
    const pattern =
      ((json.sliding_window_pattern ?? json._sliding_window_pattern) as number | undefined) ?? 6;
    return {
      ...scale(json),
      ...(!Array.isArray(json.layer_types) && {
        layerTypes: cycle(json.num_hidden_layers as number, pattern),
      }),
      ropeTheta: (full?.rope_theta ?? json.rope_theta ?? 1e6) as number,
      windowRopeTheta: (sliding?.rope_theta ?? json.rope_local_base_freq ?? 10_000) as number,
      ...(scaling !== undefined && { ropeScaling: scaling }),
    };
  },
  write: (config) => ({
    rope_parameters: {
      full_attention: writeRotary(config.ropeTheta, config.ropeScaling),
      sliding_attention: writeRotary(config.windowRopeTheta ?? config.ropeTheta, undefined),
    },
    ...write(config),
  }),
};

/** A text model in the style of Gemma 3. */
export const gemma3 = modelFunction<Gemma3Config>(gemma3Family, { ...accepted, windowRopeTheta: true });

const stretched = { type: "linear", factor: 8 } as const;

/** Published sizes. */
export const gemma2Configs = {
  gemma2_2b: {
    vocabSize: 256_000,
    hiddenSize: 2304,
    intermediateSize: 9216,
    layers: 26,
    heads: 8,
    keyValueHeads: 4,
  },
  gemma2_9b: {
    vocabSize: 256_000,
    hiddenSize: 3584,
    intermediateSize: 14_336,
    layers: 42,
    heads: 16,
    keyValueHeads: 8,
  },
  gemma2_27b: {
    vocabSize: 256_000,
    hiddenSize: 4608,
    intermediateSize: 36_864,
    layers: 46,
    heads: 32,
    keyValueHeads: 16,
    headDim: 128,
    attentionScale: 144 ** -0.5,
  },
} as const satisfies Record<string, Gemma2Config>;

export const gemma3Configs = {
  gemma3_270m: {
    vocabSize: 262_144,
    hiddenSize: 640,
    intermediateSize: 2048,
    layers: 18,
    heads: 4,
    keyValueHeads: 1,
    window: 512,
  },
  gemma3_1b: {
    vocabSize: 262_144,
    hiddenSize: 1152,
    intermediateSize: 6912,
    layers: 26,
    heads: 4,
    keyValueHeads: 1,
    window: 512,
  },
  gemma3_4b: {
    vocabSize: 262_208,
    hiddenSize: 2560,
    intermediateSize: 10_240,
    layers: 34,
    heads: 8,
    keyValueHeads: 4,
    window: 1024,
    ropeScaling: stretched,
  },
  gemma3_12b: {
    vocabSize: 262_208,
    hiddenSize: 3840,
    intermediateSize: 15_360,
    layers: 48,
    heads: 16,
    keyValueHeads: 8,
    window: 1024,
    ropeScaling: stretched,
  },
  gemma3_27b: {
    vocabSize: 262_208,
    hiddenSize: 5376,
    intermediateSize: 21_504,
    layers: 62,
    heads: 32,
    keyValueHeads: 16,
    headDim: 128,
    window: 1024,
    attentionScale: 168 ** -0.5,
    ropeScaling: stretched,
  },
} as const satisfies Record<string, Gemma3Config>;
