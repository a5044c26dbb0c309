/** Texts of many requests, computed together. */
export { createEngine, type EngineOptions } from "./engine.js";
export type {
  Engine,
  EngineFinish,
  EngineOutput,
  EngineRequest,
  EngineSampling,
  EngineStatistics,
  EngineStream,
  EngineTimes,
  EngineToken,
  EngineTokenProbability,
  TokenGrammar,
} from "./types.js";
