/** Phi-3 (Abdin et al. 2024, "Phi-3 technical report") and Phi-4: Llama with fused products, a window in the smaller ones. */
import { modelFunction } from "./build.js";
import type { DecoderConfig } from "./config.js";
import {
  commonFields,
  type Family,
  type Json,
  type RotaryConfig,
  readRotary,
  writeRotary,
} from "./family.js";

export type Phi3Config = RotaryConfig & Pick<DecoderConfig, "window" | "rotaryShare">;

export const phi3Family: Family = {
  name: "phi3",
  architecture: "Phi3ForCausalLM",
  modelType: "phi3",
  traits: () => ({ fusedQkv: true, fusedGateUp: true }),
  fields: { ...commonFields, window: "sliding_window" },
  read(json, refuse) {
    const rope = (json.rope_parameters ?? json.rope_scaling ?? {}) as Json;
    // What earlier files call "yarn" was "longrope" already.
    const named = rope.rope_type ?? rope.type;
    const scaling = named === "yarn" ? { ...rope, rope_type: "longrope" } : rope;
    const share = rope.partial_rotary_factor ?? json.partial_rotary_factor ?? 1;
    return {
      ...readRotary({ ...json, rope_parameters: scaling }, refuse),
      rotaryShare: share as number,
      layerTypes: undefined,
    };
  },
  write: ({ ropeTheta, ropeScaling, rotaryShare }) => ({
    rope_parameters: { ...writeRotary(ropeTheta, ropeScaling), partial_rotary_factor: rotaryShare },
    // These fields count there, not what the rotary parameters say.
    ...(ropeScaling?.type === "longrope" && {
      max_position_embeddings: Math.round(ropeScaling.factor * ropeScaling.originalContext),
      original_max_position_embeddings: ropeScaling.originalContext,
    }),
  }),
};

/** A Phi-3-style model. */
export const phi3 = modelFunction<Phi3Config>(phi3Family, {
  ropeTheta: true,
  ropeScaling: true,
  window: true,
  rotaryShare: true,
});

/** Published sizes. */
export const phi3Configs = {
  phi3_mini: {
    vocabSize: 32_064,
    hiddenSize: 3072,
    intermediateSize: 8192,
    layers: 32,
    heads: 32,
    window: 2047,
  },
  phi3_medium: {
    vocabSize: 32_064,
    hiddenSize: 5120,
    intermediateSize: 17_920,
    layers: 40,
    heads: 40,
    keyValueHeads: 10,
    window: 2047,
  },
  phi4: {
    vocabSize: 100_352,
    hiddenSize: 5120,
    intermediateSize: 17_920,
    layers: 40,
    heads: 40,
    keyValueHeads: 10,
    ropeTheta: 250_000,
  },
} as const satisfies Record<string, Phi3Config>;
