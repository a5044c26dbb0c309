/** A model behind HTTP in one call. */
import type { HuggingFaceTokenizer } from "../data/text/tokenizer.js";
import type { LanguageModel } from "../models/llm/model.js";
import type { Module } from "../nn/module.js";
import { type ServeOptions, Service } from "./api/index.js";
import { createEngine, type Engine, type EngineOptions } from "./engine/index.js";
import type { ParserFamily } from "./parsers/index.js";

export interface ServeModelOptions extends ServeOptions, Omit<EngineOptions, "tokenizer"> {
  tokenizer: HuggingFaceTokenizer;
  /** As requests name it. Default `"model"`. */
  name?: string;
  /** Folders of adapters by the names that requests give. */
  adapters?: Readonly<Record<string, string>>;
  parser?: ParserFamily;
}

export interface Serving {
  /** `http://127.0.0.1:8000` */
  readonly url: string;
  readonly service: Service;
  readonly engine: Engine;
  /** Resolves when every program has run three times. */
  readonly ready: Promise<void>;
  /** Takes no more requests, lets those under way end, closes the port and frees the pages. */
  close(): Promise<void>;
}

/**
 * Serves a model over OpenAI's and Anthropic's API, until `close`. It listens at once, and takes requests for text when it is warm. The model's
 * own parameters are read, not a copy.
 *
 * @throws ArgumentError for options that do not fit the model
 */
export async function serve(model: LanguageModel & Module, options: ServeModelOptions): Promise<Serving> {
  const {
    name = "model",
    adapters = {},
    parser,
    port,
    host,
    apiKeys,
    maxBody,
    maxRequests,
    tls,
    ...rest
  } = options;
  const engine = createEngine(model, rest);
  for (const [adapter, folder] of Object.entries(adapters)) await engine.loadAdapter(adapter, folder);
  const service = await Service.start(
    [{ name, engine, tokenizer: options.tokenizer, ...(parser !== undefined && { parser }) }],
    { port, host, apiKeys, maxBody, maxRequests, tls, warmUp: true },
  );
  return {
    url: service.url,
    service,
    engine,
    ready: service.warm,
    async close() {
      await service.drain();
      await engine.close();
    },
  };
}
