import type { EngineOutput, EngineRequest, EngineStream, EngineToken } from "../engine/types.js";
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

/** Computes `n` texts of one prompt at once, and gives their pieces as they come. One that fails ends the others. */
export async function* generate(
  { engine }: ServedModel,
  request: EngineRequest,
  n: number,
  { signal }: Pick<Exchange, "signal">,
): AsyncGenerator<{ index: number; output: EngineOutput }> {
  const seed = request.sampling?.seed;
  const streams: EngineStream[] = [];
  try {
    for (let index = 0; index < n; index++)
      streams.push(
        engine.submit({
          ...request,
          signal,
          ...(seed !== undefined && { sampling: { ...request.sampling, seed: seed + index } }),
        }),
      );
  } catch (error) {
    for (const stream of streams) stream.abort();
    // The engine frees the grammars of requests that it took.
    if (streams.length === 0) request.grammar?.dispose();
    throw error;
  }
  const iterators = streams.map((stream) => stream[Symbol.asyncIterator]());
  const next = (index: number) => iterators[index]!.next().then((result) => ({ index, result }));
  const pending = new Map(iterators.map((_, index) => [index, next(index)]));
  try {
    while (pending.size > 0) {
      const { index, result } = await Promise.race(pending.values());
      if (result.done) pending.delete(index);
      else {
        pending.set(index, next(index));
        yield { index, output: result.value };
      }
    }
  } finally {
    for (const stream of streams) stream.abort();
    for (const one of pending.values()) one.catch(() => {});
  }
}

export type ChatLogprobs = { content: object[] };

/** Tokens with their log-probabilities as the chat endpoint writes them. */
export function chatLogprobs({ tokenizer }: ServedModel, tokens: readonly EngineToken[]): ChatLogprobs {
  const one = (id: number, logprob: number) => {
    const token = tokenizer.decode([id]);
    return { token, logprob, bytes: [...Buffer.from(token)] };
  };
  return {
    content: tokens.map(({ id, logProbability = 0, alternatives = [] }) => ({
      ...one(id, logProbability),
      top_logprobs: alternatives.map((other) => one(other.id, other.logProbability)),
    })),
  };
}
