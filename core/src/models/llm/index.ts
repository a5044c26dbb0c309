export { type GenerateOptions, generate } from "./generate.js";
export { Llama, type LlamaConfig, llama, llamaConfigs as configs } from "./llama.js";
export type { ForwardOptions, LanguageModel, TokenBatch } from "./model.js";
export { type LoadOptions, load, save } from "./pretrained.js";
