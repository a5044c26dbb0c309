/** QLoRA (Dettmers et al. 2023, "QLoRA: efficient finetuning of quantized LLMs"): LoRA on a base of few bits. */
import type { Module } from "../nn/module.js";
import { linears, type QuantizeOptions } from "../quantize/model.js";
import { type LoraOptions, lora } from "./lora.js";

export interface QloraOptions extends LoraOptions {
  /** How the base is quantized: NF4 with double quantization by default. `donate: true` frees each weight of the given model once it is. */
  quantize?: QuantizeOptions;
}

/**
 * The model with its linear layers quantized, but the output layer, and low-rank products beside them; by default beside all of them. A fresh one
 * computes what the quantized base does.
 */
export function qlora<M extends Module>(model: M, { quantize, ...options }: QloraOptions = {}): M {
  return lora(linears(model, quantize), { targetModules: "all-linear", ...options });
}
