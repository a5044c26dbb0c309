/** A request as the engine computes it. */
import { randomInt } from "node:crypto";
import type { DecodeStream } from "../../data/text/decode-stream.js";
import type { Tokenizer } from "../../data/text/tokenizer.js";
import { ArgumentError } from "../../graph/errors.js";
import { StopStrings } from "../../models/llm/stop-strings.js";
import type { Held } from "./pages.js";
import { OutputQueue } from "./stream.js";
import type { EngineFinish, EngineRequest, EngineSampling, EngineToken } from "./types.js";

/** What requests are checked against. */
export interface Limits {
  readonly context: number;
  readonly vocabSize: number;
  readonly adapters: readonly string[];
}

/** Throws ArgumentError for a request that can never be computed. */
export function checkRequest(request: EngineRequest, { context, vocabSize, adapters }: Limits): void {
  const refuse = (what: string, fix: string): never => {
    throw new ArgumentError(`submit: ${what}`, fix);
  };
  const { prompt, maxTokens, minTokens = 0, sampling = {}, adapter } = request;
  if (prompt.length === 0) refuse("the prompt is empty", "give at least one token");
  if (prompt.length >= context)
    refuse(
      `the prompt has ${prompt.length} tokens, the context ${context}, one of them for what is drawn`,
      "give a shorter prompt",
    );
  const outside = prompt.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (outside !== undefined)
    refuse(`the prompt has the token ${outside}`, `ids are from 0 to ${vocabSize - 1}`);
  const count = (name: string, value: number | undefined, least: number): void => {
    if (value !== undefined && !(Number.isInteger(value) && value >= least))
      refuse(`${name} is ${value}`, `give an integer of at least ${least}`);
  };
  count("maxTokens", maxTokens, 1);
  count("minTokens", minTokens, 0);
  count("logProbabilities", request.logProbabilities, 0);
  count("promptLogProbabilities", request.promptLogProbabilities, 0);
  count("topK", sampling.topK, 1);
  if (maxTokens !== undefined && minTokens > maxTokens)
    refuse(`minTokens is ${minTokens}, maxTokens ${maxTokens}`, "ask for no more than maxTokens");
  for (const name of ["logProbabilities", "promptLogProbabilities"] as const)
    if ((request[name] ?? 0) > vocabSize)
      refuse(`${name} is ${request[name]}`, `the vocabulary has ${vocabSize} tokens`);
  const within = (name: keyof EngineSampling, least: number, most: number, open = false): void => {
    const value = sampling[name];
    const inside = typeof value === "number" && value <= most && (open ? value > least : value >= least);
    if (value !== undefined && !inside)
      refuse(
        `${name} is ${value}`,
        `give a number ${open ? "above" : "of at least"} ${least}, up to ${most}`,
      );
  };
  const { MAX_VALUE, MAX_SAFE_INTEGER } = Number;
  within("temperature", 0, MAX_VALUE);
  within("topP", 0, 1, true);
  within("minP", 0, 1);
  within("repetitionPenalty", 0, MAX_VALUE, true);
  within("presencePenalty", -MAX_VALUE, MAX_VALUE);
  within("frequencyPenalty", -MAX_VALUE, MAX_VALUE);
  within("seed", -MAX_SAFE_INTEGER, MAX_SAFE_INTEGER);
  if (sampling.seed !== undefined && !Number.isInteger(sampling.seed))
    refuse(`seed is ${sampling.seed}`, "give an integer");
  for (const [id, value] of Object.entries(sampling.logitBias ?? {})) {
    if (!(Number(id) >= 0 && Number(id) < vocabSize && Number.isInteger(Number(id))))
      refuse(`logitBias has the token ${id}`, `ids are from 0 to ${vocabSize - 1}`);
    if (typeof value !== "number" || Number.isNaN(value))
      refuse(`logitBias of ${id} is ${value}`, "give numbers");
  }
  if (adapter !== undefined && !adapters.includes(adapter))
    refuse(
      `there is no adapter ${JSON.stringify(adapter)}`,
      adapters.length === 0 ? "load it first" : `loaded: ${adapters.join(", ")}`,
    );
}

export class Text {
  /** All tokens so far. */
  readonly ids: number[];
  readonly maxTokens: number;
  readonly seed: number;
  readonly queue: OutputQueue;
  /** Tokens whose keys and values are held. */
  computed = 0;
  held: Held = { pages: [], keys: [] };
  /** Of the prompt, found in the prefix cache when it was first begun. */
  cachedTokens: number | undefined;
  aborted = false;
  finish: EngineFinish | "failed" | undefined;
  /** Which parameters its pages are of. */
  generation = 0;
  /** Log-probabilities of the prompt's tokens so far. */
  promptTokens: EngineToken[] | undefined;
  readonly #stops: StopStrings;
  readonly #decoding: DecodeStream;

  constructor(
    readonly request: EngineRequest,
    tokenizer: Tokenizer,
    context: number,
    /** Tokens that end the text. */
    readonly stopIds: ReadonlySet<number>,
    wake: () => void,
  ) {
    const { prompt, stop = [], keepSpecialTokens = false, signal, sampling } = request;
    this.ids = [...prompt];
    this.maxTokens = Math.min(request.maxTokens ?? Number.POSITIVE_INFINITY, context - prompt.length);
    this.seed = sampling?.seed ?? randomInt(2 ** 32);
    this.#stops = new StopStrings(stop);
    this.#decoding = tokenizer.stream({ skipSpecialTokens: !keepSpecialTokens }).after(prompt);
    this.queue = new OutputQueue(() => {
      this.aborted = true;
      wake();
    });
    if (request.promptLogProbabilities !== undefined) this.promptTokens = [{ id: prompt[0]! }];
    if (signal?.aborted) this.aborted = true;
    signal?.addEventListener("abort", this.queue.abort, { once: true });
  }

  /** Tokens that were drawn. */
  get drawn(): number {
    return this.ids.length - this.request.prompt.length;
  }

  /** What separates its pages from those of equal tokens. */
  salt = "";

  /** Takes the next token, and gives out what is certain. */
  take(token: EngineToken): void {
    const { id } = token;
    this.ids.push(id);
    const { grammar, minTokens = 0 } = this.request;
    try {
      grammar?.accept(id);
    } catch (error) {
      this.fail(error);
      return;
    }
    let text = "";
    let stoppedBy: string | number | undefined;
    if (this.stopIds.has(id) && this.drawn > minTokens) {
      stoppedBy = id;
      text = this.#rest();
    } else {
      const piece = this.#decoding.push(id);
      text = this.drawn <= minTokens ? piece : this.#stops.push(piece);
    }
    if (this.#stops.stopped) stoppedBy = this.#stops.met;
    if (stoppedBy !== undefined) this.finish = "stop";
    else if (grammar?.ended) this.finish = "stop";
    else if (this.drawn >= this.maxTokens) this.finish = "length";
    if (this.finish !== undefined && stoppedBy === undefined) {
      text += this.#rest();
      if (this.#stops.stopped) [this.finish, stoppedBy] = ["stop", this.#stops.met];
    }
    const first = this.drawn === 1;
    const finish = this.finish as EngineFinish | undefined;
    this.queue.push({
      tokens: [token],
      text,
      ...(finish !== undefined && { finish }),
      ...(stoppedBy !== undefined && { stoppedBy }),
      ...(first && { cachedTokens: this.cachedTokens ?? 0 }),
      ...(first && this.promptTokens !== undefined && { prompt: this.promptTokens }),
    });
  }

  /** Ends it with an error of its own. */
  fail(error: unknown): void {
    this.finish = "failed";
    this.queue.fail(error instanceof Error ? error : new Error(String(error)));
  }

  /** Ends it without another token. */
  abort(): void {
    this.finish = "aborted";
    this.queue.push({ tokens: [], text: this.#rest(), finish: "aborted" });
  }

  /** After its end, whatever ended it. */
  dispose(): void {
    this.request.signal?.removeEventListener("abort", this.queue.abort);
    try {
      this.request.grammar?.dispose();
    } catch {
      // The text has ended; nobody waits for what its grammar says now.
    }
  }

  /** What was held back, when nothing more comes. */
  #rest(): string {
    const text = this.#stops.push(this.#decoding.end());
    return text + this.#stops.end();
  }
}
