/**
 * Llama (Touvron et al. 2023, "LLaMA" and "Llama 2"; Grattafiori et al. 2024, "The Llama 3 Herd of Models"): rotary attention with shared
 * key heads, gated feed-forward layers, RMS norms.
 */
import { modelFunction } from "./build.js";
import { commonFields, type Family, type RotaryConfig, readRotary, writeRotary } from "./family.js";

export type LlamaConfig = RotaryConfig;

export const llamaFamily: Family = {
  name: "llama",
  architecture: "LlamaForCausalLM",
  modelType: "llama",
  traits: () => ({}),
  silent: { normEpsilon: 1e-6 },
  fields: { ...commonFields, qkvBias: "attention_bias", mlpBias: "mlp_bias" },
  read: (json, refuse) => ({ ...readRotary(json, refuse), outputBias: json.attention_bias === true }),
  write: ({ ropeTheta, ropeScaling }) => ({ rope_parameters: writeRotary(ropeTheta, ropeScaling) }),
  ignored: /rotary_emb\.inv_freq$/,
};

/** A Llama-style model. */
export const llama = modelFunction<LlamaConfig>(llamaFamily, { ropeTheta: true, ropeScaling: true });

const llama2 = { vocabSize: 32_000, ropeTheta: 10_000, normEpsilon: 1e-5 };
const llama3 = { vocabSize: 128_256, keyValueHeads: 8, ropeTheta: 500_000, normEpsilon: 1e-5 };
const stretched = (factor: number) =>
  ({ type: "llama3", factor, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 8192 }) as const;

/** Published and teaching sizes. */
export const llamaConfigs = {
  /** About a million parameters with a byte vocabulary: trains on two CPU cores in minutes. */
  tiny: {
    vocabSize: 257,
    hiddenSize: 128,
    intermediateSize: 352,
    layers: 5,
    heads: 4,
    keyValueHeads: 2,
    tieEmbeddings: true,
  },
  /** TinyLlama (Zhang et al. 2024). */
  llama1b: { ...llama2, hiddenSize: 2048, intermediateSize: 5632, layers: 22, heads: 32, keyValueHeads: 4 },
  llama2_7b: { ...llama2, hiddenSize: 4096, intermediateSize: 11_008, layers: 32, heads: 32 },
  llama2_13b: { ...llama2, hiddenSize: 5120, intermediateSize: 13_824, layers: 40, heads: 40 },
  llama2_70b: {
    ...llama2,
    hiddenSize: 8192,
    intermediateSize: 28_672,
    layers: 80,
    heads: 64,
    keyValueHeads: 8,
  },
  llama3_8b: { ...llama3, hiddenSize: 4096, intermediateSize: 14_336, layers: 32, heads: 32 },
  llama3_70b: { ...llama3, hiddenSize: 8192, intermediateSize: 28_672, layers: 80, heads: 64 },
  llama3_1_8b: {
    ...llama3,
    hiddenSize: 4096,
    intermediateSize: 14_336,
    layers: 32,
    heads: 32,
    ropeScaling: stretched(8),
  },
  llama3_1_70b: {
    ...llama3,
    hiddenSize: 8192,
    intermediateSize: 28_672,
    layers: 80,
    heads: 64,
    ropeScaling: stretched(8),
  },
  llama3_1_405b: {
    ...llama3,
    hiddenSize: 16_384,
    intermediateSize: 53_248,
    layers: 126,
    heads: 128,
    ropeScaling: stretched(8),
  },
  llama3_2_1b: {
    ...llama3,
    hiddenSize: 2048,
    intermediateSize: 8192,
    layers: 16,
    heads: 32,
    headDim: 64,
    tieEmbeddings: true,
    ropeScaling: stretched(32),
  },
  llama3_2_3b: {
    ...llama3,
    hiddenSize: 3072,
    intermediateSize: 8192,
    layers: 28,
    heads: 24,
    headDim: 128,
    tieEmbeddings: true,
    ropeScaling: stretched(32),
  },
} as const satisfies Record<string, LlamaConfig>;
