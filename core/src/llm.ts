/** Language models, and the recipes that train them: `llm`. */
export * from "./models/llm/index.js";
export * as recipes from "./recipes/llm.js";
