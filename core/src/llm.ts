/** Language models, and the recipes that train them: `llm`. */
export * from "./models/llm/index.js";
export { type ContrastiveOptions, contrastive } from "./recipes/contrastive.js";
export { type DistillationOptions, distillation } from "./recipes/distillation.js";
export type { AdaptConfig, AdaptOptions } from "./recipes/finetuning.js";
export * as recipes from "./recipes/llm.js";
