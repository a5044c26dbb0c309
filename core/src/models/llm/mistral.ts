/** Mistral 7B (Jiang et al. 2023): Llama with attention to a sliding window. Mixtral (Jiang et al. 2024): with experts. */
import { modelFunction } from "./build.js";
import type { DecoderConfig, ExpertConfig } from "./config.js";
import {
  commonFields,
  type Family,
  type Json,
  type Refuse,
  type RotaryConfig,
  readRotary,
  writeRotary,
} from "./family.js";

/** A window of 4096 is that of the first Mistral; later ones have none. */
export type MistralConfig = RotaryConfig & Pick<DecoderConfig, "window">;

const read = (json: Json, refuse: Refuse, theta?: number): Partial<DecoderConfig> => ({
  ...readRotary(json, refuse, theta),
  // Every layer has the window, whatever the file calls it.
  layerTypes: undefined,
});

export const mistralFamily: Family = {
  name: "mistral",
  architecture: "MistralForCausalLM",
  modelType: "mistral",
  traits: () => ({}),
  silent: { normEpsilon: 1e-6, keyValueHeads: 8 },
  fields: { ...commonFields, window: "sliding_window" },
  read: (json, refuse) => ({
    ...read(json, refuse),
    ...(json.sliding_window === undefined && { window: 4096 }),
  }),
  write: ({ ropeTheta, ropeScaling }) => ({ rope_parameters: writeRotary(ropeTheta, ropeScaling) }),
  ignored: /rotary_emb\.inv_freq$/,
};

const rotary = { ropeTheta: true, ropeScaling: true, window: true } as const;

/** A Mistral-style model. */
export const mistral = modelFunction<MistralConfig>(mistralFamily, rotary);

export type MixtralConfig = MistralConfig & {
  /** Experts of width `intermediateSize`. */
  experts: ExpertConfig;
};

export const mixtralFamily: Family = {
  name: "mixtral",
  architecture: "MixtralForCausalLM",
  modelType: "mixtral",
  traits: () => ({}),
  silent: { keyValueHeads: 8 },
  fields: { ...commonFields, window: "sliding_window" },
  only: { router_jitter_noise: [0, undefined] },
  read: (json, refuse) => ({
    ...read(json, refuse, 1e6),
    experts: {
      count: (json.num_local_experts as number | undefined) ?? 8,
      perToken: (json.num_experts_per_tok as number | undefined) ?? 2,
      auxiliaryWeight: (json.router_aux_loss_coef as number | undefined) ?? 0.001,
    },
  }),
  write: ({ ropeTheta, ropeScaling, experts }) => ({
    rope_parameters: writeRotary(ropeTheta, ropeScaling),
    num_local_experts: experts!.count,
    num_experts_per_tok: experts!.perToken,
    router_aux_loss_coef: experts!.auxiliaryWeight ?? 0.001,
  }),
  rename: (name) =>
    name
      .replace(".mlp.", ".block_sparse_moe.")
      .replace(/\.gate_proj\.weight$/, ".w1.weight")
      .replace(/\.down_proj\.weight$/, ".w2.weight")
      .replace(/\.up_proj\.weight$/, ".w3.weight"),
  ignored: /rotary_emb\.inv_freq$/,
};

/** A Mixtral-style mixture of experts. */
export const mixtral = modelFunction<MixtralConfig>(mixtralFamily, { ...rotary, experts: true }, ["experts"]);

const mistral7b = { hiddenSize: 4096, intermediateSize: 14_336, layers: 32, heads: 32, keyValueHeads: 8 };

/** Published sizes. */
export const mistralConfigs = {
  mistral_7b: { ...mistral7b, vocabSize: 32_000, window: 4096 },
  mistral_7b_v3: { ...mistral7b, vocabSize: 32_768, ropeTheta: 1e6 },
  mistral_nemo_12b: {
    vocabSize: 131_072,
    hiddenSize: 5120,
    intermediateSize: 14_336,
    layers: 40,
    heads: 32,
    keyValueHeads: 8,
    headDim: 128,
    ropeTheta: 1e6,
  },
} as const satisfies Record<string, MistralConfig>;

export const mixtralConfigs = {
  mixtral_8x7b: {
    ...mistral7b,
    vocabSize: 32_000,
    ropeTheta: 1e6,
    experts: { count: 8, perToken: 2, auxiliaryWeight: 0.02 },
  },
  mixtral_8x22b: {
    vocabSize: 32_768,
    hiddenSize: 6144,
    intermediateSize: 16_384,
    layers: 56,
    heads: 48,
    keyValueHeads: 8,
    ropeTheta: 1e6,
    experts: { count: 8, perToken: 2, auxiliaryWeight: 0.001 },
  },
} as const satisfies Record<string, MixtralConfig>;
