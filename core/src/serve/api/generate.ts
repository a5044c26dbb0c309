import type {
  EngineOutput,
  EngineRequest,
  EngineStream,
  EngineToken,
  TokenGrammar,
} from "../engine/types.js";
import { HttpError } from "./errors.js";
import type { Exchange, ServedModel } from "./service.js";

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

/** Adds up what a request used, piece by piece; of several texts of one prompt the prompt counts once. */
export class UsageCounter {
  private drawn = 0;
  private cached = 0;

  constructor(private readonly promptTokens: number) {}

  add(output: EngineOutput): void {
    this.drawn += output.tokens.length;
    this.cached = Math.max(this.cached, output.cachedTokens ?? 0);
  }

  get usage(): Usage {
    return {
      prompt_tokens: this.promptTokens,
      completion_tokens: this.drawn,
      total_tokens: this.promptTokens + this.drawn,
      prompt_tokens_details: { cached_tokens: this.cached },
    };
  }
}

/** A request for each of `n` texts of one prompt: seeds and grammars are each one's own. */
export async function repeated(
  request: EngineRequest,
  n: number,
  grammar?: () => Promise<TokenGrammar>,
): Promise<EngineRequest[]> {
  const seed = request.sampling?.seed;
  return Promise.all(
    Array.from({ length: n }, async (_, index) => ({
      ...request,
      ...(seed !== undefined && { sampling: { ...request.sampling, seed: seed + index } }),
      ...(grammar !== undefined && { grammar: await grammar() }),
    })),
  );
}

/** Computes texts at once, and gives their pieces as they come. One that fails ends the others. */
export async function* generate(
  model: ServedModel,
  requests: readonly EngineRequest[],
  { signal, service }: Pick<Exchange, "signal" | "service">,
): AsyncGenerator<{ index: number; output: EngineOutput }> {
  const { engine } = model;
  const streams: EngineStream[] = [];
  try {
    for (const request of requests) streams.push(engine.submit({ ...request, signal }));
  } catch (error) {
    for (const stream of streams) stream.abort();
    // The engine frees the grammars of requests that it took.
    for (const request of requests.slice(streams.length)) request.grammar?.dispose();
    throw error;
  }
  const drawn = streams.map(() => 0);
  const iterators = streams.map((stream) => stream[Symbol.asyncIterator]());
  const next = (index: number) => iterators[index]!.next().then((result) => ({ index, result }));
  const pending = new Map(iterators.map((_, index) => [index, next(index)]));
  try {
    while (pending.size > 0) {
      const { index, result } = await Promise.race(pending.values());
      if (result.done) pending.delete(index);
      else {
        const { tokens, finish } = result.value;
        drawn[index]! += tokens.length;
        if (finish !== undefined) {
          const sizes = { prompt: requests[index]!.prompt.length, generated: drawn[index]! };
          service.metrics.ended(model.name, streams[index]!.times, sizes, finish);
        }
        // The client is there, so it was the engine that ended.
        if (finish === "aborted" && !signal.aborted)
          throw new HttpError(503, "The engine ended the request.", { retryAfter: 5 });
        pending.set(index, next(index));
        yield { index, output: result.value };
      }
    }
  } finally {
    for (const stream of streams) stream.abort();
    for (const one of pending.values()) one.catch(() => {});
  }
}

/** Refuses a prompt that leaves no room for a token. */
export function checkLength({ engine }: ServedModel, prompt: readonly number[], param: string): void {
  if (prompt.length >= engine.context)
    throw new HttpError(
      400,
      `The prompt has ${prompt.length} tokens; the context has ${engine.context}, one of them for what is written.`,
      { param, code: "context_length_exceeded" },
    );
}

/** JSON has no infinity: a token that cannot be drawn has -9999, as in OpenAI's and vLLM's answers. */
export function finite(logprob: number): number {
  return Math.max(logprob, -9999);
}

export type ChatLogprobs = { content: object[] };

/** Tokens with their log-probabilities as the chat endpoint writes them. */
export function chatLogprobs({ tokenizer }: ServedModel, tokens: readonly EngineToken[]): ChatLogprobs {
  const one = (id: number, logprob: number) => {
    const token = tokenizer.decode([id]);
    return { token, logprob: finite(logprob), bytes: [...Buffer.from(token)] };
  };
  return {
    content: tokens.map(({ id, logProbability = 0, alternatives = [] }) => ({
      ...one(id, logProbability),
      top_logprobs: alternatives.map((other) => one(other.id, other.logProbability)),
    })),
  };
}
