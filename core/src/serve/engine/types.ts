/** What the service asks of an engine, and what an engine gives back. The service knows no more of engines than this. */

/** How the tokens of one request are drawn. Requests of different options are computed in one batch. */
export interface EngineSampling {
  /** Divides the logits; 0 takes the likeliest token. Default 1. */
  readonly temperature?: number;
  /** Leaves the `topK` likeliest tokens. Default: all. */
  readonly topK?: number;
  /** Leaves the fewest, likeliest tokens that together have at least this probability. Default 1. */
  readonly topP?: number;
  /** Leaves out tokens less likely than this share of the likeliest one's probability. Default 0. */
  readonly minP?: number;
  /** Divides positive logits of tokens of the text so far, prompt included, and multiplies negative ones. Default 1. */
  readonly repetitionPenalty?: number;
  /** Taken once from the logit of each token that was drawn already. Default 0. */
  readonly presencePenalty?: number;
  /** Taken from the logit of each drawn token, as often as it was drawn. Default 0. */
  readonly frequencyPenalty?: number;
  /** Added to the logits of these token ids. */
  readonly logitBias?: Readonly<Record<number, number>>;
  /** The same seed gives the same tokens, whatever else is in the batch. Default: one of its own for each request. */
  readonly seed?: number;
}

/**
 * What a text may be, token by token: a JSON schema, a regular expression, the call of a tool. It is asked while the device computes, never
 * for a token that it did not allow.
 */
export interface TokenGrammar {
  /** Sets bit `id % 32` of word `id >> 5` for each token that may come next, and clears all others. */
  fill(mask: Int32Array): void | Promise<void>;
  /** A token was drawn. */
  accept(token: number): void;
  /** The text may end here, and nothing else may follow. */
  readonly ended: boolean;
  /** Frees what it holds; after the request's end. */
  dispose(): void;
}

export interface EngineRequest {
  readonly prompt: readonly number[];
  readonly sampling?: EngineSampling;
  /** Tokens to draw at most. Default: what the context has room for. */
  readonly maxTokens?: number;
  /** Tokens to draw at least: before, no stop id is drawn and no stop string ends the text. Default 0. */
  readonly minTokens?: number;
  /** Strings that end the text; they are not part of it. */
  readonly stop?: readonly string[];
  /** Tokens that end the text, beside those of the model. */
  readonly stopIds?: readonly number[];
  /** Goes on after the model's own end tokens. Default false. */
  readonly ignoreEnd?: boolean;
  /** Log-probabilities of each drawn token, and of so many likeliest ones beside it. Default: none. */
  readonly logProbabilities?: number;
  /** Log-probabilities of the prompt's tokens, and of so many likeliest ones beside each. Default: none. */
  readonly promptLogProbabilities?: number;
  readonly grammar?: TokenGrammar;
  /** Name of a loaded adapter. */
  readonly adapter?: string;
  /** Keeps text of special tokens such as tool marks in `text`. Default false: they are left out. */
  readonly keepSpecialTokens?: boolean;
  /** Requests of lower numbers come first. Default 0. */
  readonly priority?: number;
  /** Ends the request; its pages are free at once. */
  readonly signal?: AbortSignal;
}

/** A token with its log-probability, in nats, of the model's own distribution at the temperature. */
export interface EngineTokenProbability {
  readonly id: number;
  readonly logProbability: number;
}

export interface EngineToken {
  readonly id: number;
  readonly logProbability?: number;
  /** The likeliest tokens in its place, the likeliest first. */
  readonly alternatives?: readonly EngineTokenProbability[];
}

/** Why a text ended: a token, a string or a grammar's end; `maxTokens` or the context; `signal`. */
export type EngineFinish = "stop" | "length" | "aborted";

/** What has come of a request since the last piece. */
export interface EngineOutput {
  readonly tokens: readonly EngineToken[];
  /** Of the tokens, as far as it is certain: what may yet become a stop string or a whole character comes later. */
  readonly text: string;
  /** With the last piece. */
  readonly finish?: EngineFinish;
  /** With the last piece: the stop string or token that ended the text. */
  readonly stoppedBy?: string | number;
  /** With the first piece, where asked for: of each token of the prompt, none for the first. */
  readonly prompt?: readonly EngineToken[];
  /** With the first piece: tokens of the prompt whose keys and values were there already. */
  readonly cachedTokens?: number;
}

/** Figures of an engine since it began, and now. */
export interface EngineStatistics {
  readonly running: number;
  readonly waiting: number;
  /** Share of the pages in use, from 0 to 1; pages kept only for later prompts do not count. */
  readonly cacheUsage: number;
  readonly freePages: number;
  readonly pages: number;
  readonly pageSize: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Prompt tokens looked up in the prefix cache, and those found there. */
  readonly prefixQueries: number;
  readonly prefixHits: number;
  readonly preemptions: number;
  /** Steps of the device, and tokens computed in them. */
  readonly steps: number;
  readonly stepTokens: number;
  readonly drafts: number;
  readonly draftTokens: number;
  readonly acceptedTokens: number;
}

/** Times of one request, in milliseconds as `performance.now()` tells them. */
export interface EngineTimes {
  readonly arrived: number;
  /** Its first token was begun to be computed. */
  readonly scheduled?: number;
  readonly firstToken?: number;
  readonly ended?: number;
}

/** A request under way. Its pieces are read once, in order; who does not read holds up no other request. */
export interface EngineStream extends AsyncIterable<EngineOutput> {
  readonly times: EngineTimes;
  /** Ends the request, as `signal` does. */
  abort(): void;
}

export interface Engine {
  /** Tokens a text may have, prompt included. */
  readonly context: number;
  readonly vocabSize: number;
  /** Queues a request. Throws ArgumentError on one that can never be computed, naming what and the fix. */
  submit(request: EngineRequest): EngineStream;
  /** Pooled, normalised states of texts, [texts][hiddenSize], for models that give them. */
  embed(prompts: readonly (readonly number[])[], options?: { dimensions?: number }): Promise<Float32Array[]>;
  statistics(): EngineStatistics;
  /** Adapters by name, as `submit` takes them. Another number of them, or a larger rank, is another program. */
  adapters(): readonly string[];
  loadAdapter(name: string, folder: string): Promise<void>;
  unloadAdapter(name: string): Promise<void>;
  /**
   * Compiles the programs of texts that are greedy, drawn, and drawn among few, and runs each three times. Penalties, biases, grammars and
   * log-probabilities are compiled when they are first asked for.
   */
  warmUp(onProgress?: (done: number, of: number) => void): Promise<void>;
  /** Takes no more requests, and resolves when those under way have ended. */
  drain(): Promise<void>;
  /** Ends all requests and frees the pages. */
  close(): Promise<void>;
}
