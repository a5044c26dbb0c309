/** GPT-2 (Radford et al. 2019): learned positions, layer norms, plain feed-forward layers, biases everywhere. */
import { modelFunction } from "./build.js";
import type { DecoderConfig } from "./config.js";
import type { CommonConfig, Family } from "./family.js";

export type Gpt2Config = Omit<CommonConfig, "keyValueHeads" | "headDim" | "intermediateSize"> &
  Pick<DecoderConfig, "maxPositions"> & {
    /** Default 4 hiddenSize. */
    intermediateSize?: number;
  };

const parts: readonly (readonly [RegExp, string])[] = [
  [/^model\.embed_tokens\./, "transformer.wte."],
  [/^model\.embed_positions\./, "transformer.wpe."],
  [/^model\.norm\./, "transformer.ln_f."],
  [/^model\.layers\./, "transformer.h."],
  [/\.self_attn\.qkv_proj\./, ".attn.c_attn."],
  [/\.self_attn\.o_proj\./, ".attn.c_proj."],
  [/\.mlp\.up_proj\./, ".mlp.c_fc."],
  [/\.mlp\.down_proj\./, ".mlp.c_proj."],
  [/\.input_layernorm\./, ".ln_1."],
  [/\.post_attention_layernorm\./, ".ln_2."],
];

export const gpt2Family: Family = {
  name: "gpt2",
  architecture: "GPT2LMHeadModel",
  modelType: "gpt2",
  traits: ({ hiddenSize }) => ({
    intermediateSize: 4 * hiddenSize,
    norm: "layer",
    positions: "learned",
    maxPositions: 1024,
    fusedQkv: true,
    qkvBias: true,
    outputBias: true,
    mlpBias: true,
    mlp: "plain",
    activation: "geluTanh",
    tieEmbeddings: true,
  }),
  silent: { tieEmbeddings: true, activation: "geluTanh", maxPositions: 1024 },
  fields: {
    vocabSize: "vocab_size",
    hiddenSize: "n_embd",
    intermediateSize: "n_inner",
    layers: "n_layer",
    heads: "n_head",
    maxPositions: "n_positions",
    normEpsilon: "layer_norm_epsilon",
    activation: "activation_function",
    tieEmbeddings: "tie_word_embeddings",
    initStd: "initializer_range",
  },
  only: {
    scale_attn_weights: [true, undefined],
    scale_attn_by_inverse_layer_idx: [false, undefined],
    add_cross_attention: [false, undefined],
  },
  read: (json) => ({ intermediateSize: (json.n_inner as number | null) ?? 4 * (json.n_embd as number) }),
  rename: (name) => parts.reduce((n, [from, to]) => n.replace(from, to), name),
  transposed: (name) => /\.(c_attn|c_proj|c_fc)\.weight$/.test(name),
  ignored: /\.attn\.(masked_)?bias$/,
};

const make = modelFunction<CommonConfig & Pick<DecoderConfig, "maxPositions">>(gpt2Family, {
  maxPositions: true,
});

/** A GPT-2-style model. */
export const gpt2 = (config: Gpt2Config, options?: Parameters<typeof make>[1]): ReturnType<typeof make> =>
  make({ intermediateSize: 4 * config.hiddenSize, ...config }, options);

/** Published sizes. */
export const gpt2Configs = {
  gpt2: { vocabSize: 50_257, hiddenSize: 768, layers: 12, heads: 12 },
  gpt2_medium: { vocabSize: 50_257, hiddenSize: 1024, layers: 24, heads: 16 },
  gpt2_large: { vocabSize: 50_257, hiddenSize: 1280, layers: 36, heads: 20 },
  gpt2_xl: { vocabSize: 50_257, hiddenSize: 1600, layers: 48, heads: 25 },
} as const satisfies Record<string, Gpt2Config>;
