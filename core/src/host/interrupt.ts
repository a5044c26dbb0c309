/** Stopping long work at a boundary where everything is kept: by the notebook's interrupt, or by a signal of the user's (docs/contracts.md, section 3). */
import { AronnaxError } from "../graph/errors.js";

/** What the kernel puts on `globalThis`. */
interface InterruptSource {
  readonly signal: AbortSignal;
  observe(): () => void;
}

const source: unique symbol = Symbol.for("aronnax.interrupt");

/** Work stopped by the notebook's interrupt, with everything kept. */
export class Interrupted extends AronnaxError {}

/** The signals that end the work, and what to call when it has ended. */
export class Interruption {
  readonly #kernel: AbortSignal | undefined;
  readonly #own: AbortSignal | undefined;
  readonly #release: (() => void) | undefined;

  constructor(own?: AbortSignal) {
    const kernel = (globalThis as { [source]?: InterruptSource })[source];
    this.#kernel = kernel?.signal;
    this.#own = own;
    this.#release = kernel?.observe();
  }

  get requested(): boolean {
    return this.byKernel || this.#own?.aborted === true;
  }

  /** Whether it was the notebook's interrupt, which is reported as an error of the cell. */
  get byKernel(): boolean {
    return this.#kernel?.aborted === true;
  }

  [Symbol.dispose](): void {
    this.#release?.();
  }
}
