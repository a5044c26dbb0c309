/** `aronnax/serve`: models behind HTTP. */
export { type ServedModel, type ServeOptions, Service } from "./api/index.js";
export { createEngine, type EngineOptions } from "./engine/index.js";
export type * from "./engine/types.js";
export * from "./parsers/index.js";
export { type ServeModelOptions, type Serving, serve } from "./serve.js";
export * from "./structured/index.js";
