import { Shared } from "../link.js";
import { Interrupted } from "./errors.js";
import { native } from "./native-timers.js";

/** How long an observer of the signal may take to come to its end, in ms. */
const OBSERVED_WAIT = 10_000;
/** How long the kernel's own code takes at most to end a cell that was given up, in ms. */
const END_WAIT = 1_000;

/**
 * `globalThis[Symbol.for("aronnax.interrupt")]` (docs/contracts.md §3): the signal of the running cell, and the count
 * of those who promise to settle soon after it aborts.
 */
export class InterruptSource {
  #controller = new AbortController();
  #abandon: ((reason: Interrupted) => void) | undefined;
  #asked = false;
  /** Ends the cell where the code that should do so was stopped too. */
  #lost: (() => void) | undefined;

  constructor(private readonly shared: Int32Array) {}

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  readonly observe = (): (() => void) => {
    const controller = this.#controller;
    Atomics.add(this.shared, Shared.observers, 1);
    let observing = true;
    return () => {
      if (!observing || controller !== this.#controller) return;
      observing = false;
      Atomics.sub(this.shared, Shared.observers, 1);
    };
  };

  /**
   * A new cell starts: a fresh signal. The promise rejects when the cell is to be given up.
   *
   * @param lost - called if nobody calls `end` after that: code is stopped by force from another thread, which on a busy
   *   machine may hit the kernel's own instead of the cell's.
   */
  begin(lost: () => void): Promise<never> {
    this.#lost = lost;
    this.#controller = new AbortController();
    this.#asked = false;
    Atomics.store(this.shared, Shared.observers, 0);
    Atomics.store(this.shared, Shared.terminated, 0);
    const abandoned = new Promise<never>((_, reject) => {
      this.#abandon = reject;
    });
    void settled(abandoned);
    return abandoned;
  }

  end(): void {
    this.#abandon = undefined;
    this.#lost = undefined;
    Atomics.store(this.shared, Shared.observers, 0);
  }

  /** An interrupt has come from the messaging thread. */
  interrupt(second: boolean): void {
    const abandon = this.#abandon;
    const reason = new Interrupted();
    // Its listeners are the user's too: one that does not come to an end is stopped by force, and this is called again.
    if (abandon) this.#controller.abort(reason);
    Atomics.add(this.shared, Shared.interruptsSeen, 1);
    if (!abandon) return;
    const forced = Atomics.exchange(this.shared, Shared.terminated, 0) === 1;
    const observed = Atomics.load(this.shared, Shared.observers) > 0;
    if (forced || second || this.#asked || !observed) this.#giveUp(abandon, reason);
    else native.setTimeout(() => this.#giveUp(abandon, reason), OBSERVED_WAIT).unref();
    this.#asked = true;
  }

  #giveUp(abandon: (reason: Interrupted) => void, reason: Interrupted): void {
    abandon(reason);
    native.setTimeout(() => {
      if (this.#abandon !== abandon) return;
      const lost = this.#lost;
      this.end();
      lost?.();
    }, END_WAIT);
  }
}

/** Resolves either way, so that a rejection counts as handled. */
async function settled(promise: Promise<unknown>): Promise<void> {
  try {
    await promise;
  } catch {
    // It is the business of others.
  }
}
