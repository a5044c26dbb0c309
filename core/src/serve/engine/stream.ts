/** What comes of a request, kept until it is read. */
import type { EngineOutput, EngineStream, EngineTimes } from "./types.js";

/** Pieces are queued: who does not read holds up nobody. */
export class OutputQueue implements EngineStream {
  readonly times: { -readonly [K in keyof EngineTimes]: EngineTimes[K] } = { arrived: performance.now() };
  readonly #pieces: EngineOutput[] = [];
  #error: Error | undefined;
  #ended = false;
  #wake: (() => void) | undefined;

  /** @param abort - ends the request */
  constructor(readonly abort: () => void) {}

  push(piece: EngineOutput): void {
    if (this.#ended) return;
    this.#pieces.push(piece);
    if (piece.tokens.length > 0) this.times.firstToken ??= performance.now();
    if (piece.finish !== undefined) this.#end();
    this.#wake?.();
  }

  /** Ends with an error, after what has come. */
  fail(error: Error): void {
    if (this.#ended) return;
    this.#error = error;
    this.#end();
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<EngineOutput> {
    try {
      for (;;) {
        const piece = this.#pieces.shift();
        if (piece !== undefined) {
          yield piece;
          if (piece.finish !== undefined) return;
        } else if (this.#error !== undefined) throw this.#error;
        else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
          this.#wake = undefined;
        }
      }
    } finally {
      // Who stops reading wants no more of it.
      if (!this.#ended) this.abort();
    }
  }

  #end(): void {
    this.#ended = true;
    this.times.ended = performance.now();
  }
}
