/** Which modules PEFT changes where nothing is said, by the model's family. */
import type { Module } from "../nn/module.js";
import type { LayerMethod } from "./adapter.js";
import type { Targets } from "./targets.js";

/** By transformers' `model_type`. */
const byFamily: Readonly<Record<string, Partial<Record<LayerMethod | "FEEDFORWARD", readonly string[]>>>> = {
  llama: { LORA: ["q_proj", "v_proj"], IA3: ["k_proj", "v_proj", "down_proj"], FEEDFORWARD: ["down_proj"] },
  mistral: { LORA: ["q_proj", "v_proj"], IA3: ["k_proj", "v_proj", "down_proj"], FEEDFORWARD: ["down_proj"] },
  mixtral: { LORA: ["q_proj", "v_proj"], IA3: ["k_proj", "v_proj"], FEEDFORWARD: [] },
  qwen2: { LORA: ["q_proj", "v_proj"], IA3: ["q_proj", "v_proj", "down_proj"], FEEDFORWARD: ["down_proj"] },
  qwen3: { LORA: ["q_proj", "v_proj"], IA3: ["q_proj", "v_proj", "down_proj"], FEEDFORWARD: ["down_proj"] },
  qwen3_moe: { LORA: ["q_proj", "v_proj"], IA3: ["q_proj", "v_proj"], FEEDFORWARD: [] },
  gemma2: { LORA: ["q_proj", "v_proj"], IA3: ["q_proj", "v_proj", "down_proj"], FEEDFORWARD: ["down_proj"] },
  gemma3_text: {
    LORA: ["q_proj", "v_proj"],
    IA3: ["q_proj", "v_proj", "down_proj"],
    FEEDFORWARD: ["down_proj"],
  },
  phi3: { LORA: ["qkv_proj"], IA3: ["qkv_proj", "down_proj"], FEEDFORWARD: ["down_proj"] },
  gpt2: { LORA: ["c_attn"], IA3: ["c_attn", "mlp.c_proj"], FEEDFORWARD: ["mlp.c_proj"] },
};

export function familyOf(model: Module): string | undefined {
  return (model as { family?: { modelType?: string } | null }).family?.modelType;
}

/** The modules of a method; of a model of no family every linear layer. */
export function defaultTargets(model: Module, method: LayerMethod): Targets {
  return byFamily[familyOf(model) ?? ""]?.[method] ?? "all-linear";
}

/** Those of IA3 that scale what they are given; undefined for a model of no family. */
export function defaultFeedforward(model: Module): readonly string[] | undefined {
  return byFamily[familyOf(model) ?? ""]?.FEEDFORWARD;
}
