/** What a client that waits for long is told. */
import type { CompilingProgram, RunningProgram, RuntimeActivity } from "./types.js";

export interface Wait {
  /** For how long the oldest request of this client has waited. */
  seconds: number;
  activity: RuntimeActivity;
}

export type WaitListener = (wait: Wait) => void;

/** Seconds after which a wait is long, and between two reports. */
const period = 5;

/** Looks from time to time whether requests wait for long, while somebody wants to know. */
export class WaitWatch {
  readonly #listeners = new Set<WaitListener>();
  readonly #since: () => number | undefined;
  readonly #ask: () => Promise<RuntimeActivity>;
  #timer: NodeJS.Timeout | undefined;

  /** `since` gives when the oldest request was made, by `performance.now()`; `ask` what the runtime is at. */
  constructor(since: () => number | undefined, ask: () => Promise<RuntimeActivity>) {
    this.#since = since;
    this.#ask = ask;
  }

  listen(listener: WaitListener): () => void {
    // A wrapper, so that a function that listens twice ends twice.
    const own: WaitListener = (wait) => listener(wait);
    this.#listeners.add(own);
    if (this.#since() !== undefined) this.begin();
    return () => this.#listeners.delete(own);
  }

  /** A request is about to be made. */
  begin(): void {
    if (this.#timer !== undefined || this.#listeners.size === 0) return;
    this.#timer = setTimeout(() => this.#look(), period * 1000);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const since = this.#since();
    const seconds = since === undefined ? 0 : (performance.now() - since) / 1000;
    if (since !== undefined && seconds >= period && this.#listeners.size > 0) {
      try {
        const activity = await this.#ask();
        for (const listener of [...this.#listeners]) listener({ seconds, activity });
      } catch {
        // The runtime is gone, or does not answer: whoever waits is told.
      }
    }
    this.#timer = undefined;
    if (this.#since() !== undefined) this.begin();
  }
}

/** The one action against a program that does not end. */
export const recoverCall = "await recoverRuntime()";

/** A program that holds the device, and what can be done, in words. */
export function describeRunning({
  program,
  client,
  own,
  gone,
  since,
  seconds,
}: Omit<RunningProgram, "own"> & { own?: boolean }): string {
  const whose = own === true ? "of this notebook" : gone ? `of ${client}, which has gone` : `of ${client}`;
  const start = new Date(since).toISOString().slice(11, 19);
  return `the program ${program} ${whose} runs since ${start} UTC, for ${Math.round(seconds)} s`;
}

/** The action, in words. */
export const recoverAdvice =
  `A program cannot be stopped; \`${recoverCall}\` keeps what can be read, restarts the runtime, brings everything back and lists what ` +
  "is lost.";

export function describeCompiling({ program, seconds, begun }: Omit<CompilingProgram, "own">): string {
  return begun
    ? `compiling ${program} for ${Math.round(seconds)} s`
    : `${program} waits for ${Math.round(seconds)} s to be compiled`;
}
