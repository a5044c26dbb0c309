export {
  type Completion,
  type CompletionOptions,
  complete,
  generate,
  type ReplyOptions,
  reply,
} from "./generate.js";
export { Llama, type LlamaConfig, llama, llamaConfigs as configs } from "./llama.js";
export type { ForwardOptions, LanguageModel, TokenBatch } from "./model.js";
export { type Perplexity, type PerplexityOptions, perplexity } from "./perplexity.js";
export { type LoadOptions, load, save } from "./pretrained.js";
export { filteredLogits, type SamplingOptions, samplingOf } from "./sampling.js";
