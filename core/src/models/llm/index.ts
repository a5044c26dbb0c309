import { gemma2Configs, gemma3Configs } from "./gemma.js";
import { gpt2Configs } from "./gpt2.js";
import { llamaConfigs } from "./llama.js";
import { mistralConfigs, mixtralConfigs } from "./mistral.js";
import { phi3Configs } from "./phi3.js";
import { qwen2Configs, qwen3Configs, qwen3MoeConfigs } from "./qwen.js";

export type { DecoderConfig, ExpertConfig } from "./config.js";
export { Decoder, type Decoder as Llama, type DecoderOptions } from "./decoder.js";
export type { TokenProbability } from "./decoding.js";
export { type EmbedOptions, embed, type Pooling } from "./embed.js";
export { type Gemma2Config, type Gemma3Config, gemma2, gemma3 } from "./gemma.js";

export {
  type Completion,
  type CompletionOptions,
  complete,
  generate,
  type ReplyOptions,
  reply,
} from "./generate.js";

export { type Gpt2Config, gpt2 } from "./gpt2.js";
export { type LlamaConfig, llama } from "./llama.js";
export { type MistralConfig, type MixtralConfig, mistral, mixtral } from "./mistral.js";
export type { ForwardOptions, LanguageModel, Padding, TokenBatch } from "./model.js";
export { type Perplexity, type PerplexityOptions, perplexity } from "./perplexity.js";
export { type Phi3Config, phi3 } from "./phi3.js";
export { type LoadOptions, load, type SaveOptions, save } from "./pretrained.js";
export { type Qwen3MoeConfig, type QwenConfig, qwen2, qwen3, qwen3Moe } from "./qwen.js";
export { filteredLogits, type SamplingOptions, samplingOf } from "./sampling.js";

/** Named sizes of every family, each for the function of its family. */
export const configs = {
  ...llamaConfigs,
  ...mistralConfigs,
  ...mixtralConfigs,
  ...qwen2Configs,
  ...qwen3Configs,
  ...qwen3MoeConfigs,
  ...gemma2Configs,
  ...gemma3Configs,
  ...phi3Configs,
  ...gpt2Configs,
};
export { type SupervisedOptions, supervised } from "./supervised.js";
export { addTokens, type NewTokens, type ResizeOptions, resizeVocabulary } from "./vocabulary.js";
