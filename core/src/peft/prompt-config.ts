/** `adapter_config.json` of methods that give a language model something to begin every text with. */
import { ArgumentError } from "../graph/errors.js";
import type { Module } from "../nn/module.js";
import type { PromptMethod } from "./adapter.js";
import { checkConfig, common, empty, everywhere, type Json, type Rule } from "./fields.js";
import { PromptEncoder } from "./p-tuning.js";
import { Prefix } from "./prefix-tuning.js";
import { Prompt } from "./prompt-tuning.js";
import { checkCount, type PromptAdapter, type PromptableModel, prompted } from "./prompts.js";

export function writePrompt(model: PromptableModel, adapter: PromptAdapter): Json {
  const { hiddenSize, layers, heads, keyValueHeads, headDim } = model.config;
  const prefix = adapter instanceof Prefix ? adapter : undefined;
  const encoder = adapter instanceof PromptEncoder ? adapter : undefined;
  const width = keyValueHeads * headDim;
  return {
    ...common(adapter.method, model),
    modules_to_save: null,
    num_attention_heads: prefix ? keyValueHeads : heads,
    num_layers: layers,
    num_transformer_submodules: 1,
    num_virtual_tokens: adapter.count,
    token_dim: prefix ? width : hiddenSize,
    ...(adapter.method === "PROMPT_TUNING" && {
      prompt_tuning_init: "RANDOM",
      prompt_tuning_init_text: null,
      tokenizer_kwargs: null,
      tokenizer_name_or_path: null,
    }),
    ...(adapter.method === "P_TUNING" && {
      encoder_dropout: encoder?.dropout.rate ?? 0,
      encoder_hidden_size: encoder?.lstm?.hidden ?? encoder?.mlp[0]?.weight.shape[0] ?? hiddenSize,
      encoder_num_layers: encoder?.lstm?.layers ?? 2,
      encoder_reparameterization_type: encoder?.lstm ? "LSTM" : "MLP",
    }),
    ...(prefix && {
      encoder_hidden_size: prefix.transform[0]?.weight.shape[0] ?? width,
      prefix_projection: prefix.transform.length > 0,
    }),
  };
}

const all: Readonly<Record<string, Rule>> = {
  ...everywhere,
  num_attention_heads: "read",
  num_layers: "read",
  num_transformer_submodules: (value) => value === null || value === 1,
  num_virtual_tokens: "read",
  token_dim: "read",
  tokenizer_kwargs: "ignored",
  tokenizer_name_or_path: "ignored",
  modules_to_save: empty,
};

const rules: Readonly<Record<PromptMethod, Readonly<Record<string, Rule>>>> = {
  PROMPT_TUNING: { ...all, prompt_tuning_init: "ignored", prompt_tuning_init_text: "ignored" },
  P_TUNING: {
    ...all,
    encoder_dropout: "ignored",
    encoder_hidden_size: "ignored",
    encoder_num_layers: "ignored",
    encoder_reparameterization_type: "ignored",
  },
  PREFIX_TUNING: {
    ...all,
    encoder_hidden_size: "ignored",
    init_weights: "ignored",
    prefix_projection: "ignored",
  },
};

/** The model with what a configuration says to begin every text with; whatever encoder made it, it is learnt by itself from here on. */
export function readPrompt(path: string, json: Json, model: Module, name: string): Module {
  const method = json.peft_type as PromptMethod;
  checkConfig(path, json, rules[method]);
  const count = json.num_virtual_tokens as number;
  checkCount("load", count);
  return prompted("load", model, name, (base) => {
    const { hiddenSize, layers, keyValueHeads, headDim } = base.config;
    const prefix = method === "PREFIX_TUNING";
    for (const [field, own] of [
      ["num_layers", layers],
      ["token_dim", prefix ? keyValueHeads * headDim : hiddenSize],
    ] as const) {
      if (json[field] !== null && json[field] !== undefined && json[field] !== own)
        throw new ArgumentError(`${field} is ${String(json[field])}, the model's is ${own}`);
    }
    return prefix ? new Prefix(count, base, null) : new Prompt(count, hiddenSize, method);
  });
}
