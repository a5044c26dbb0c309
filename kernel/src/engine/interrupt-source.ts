import { Shared } from "../link.js";
import { Interrupted } from "./errors.js";
import { native } from "./native-timers.js";

/** How long an observer of the signal may take to come to its end, in ms. */
const OBSERVED_WAIT = 10_000;

/**
 * `globalThis[Symbol.for("aronnax.interrupt")]` (docs/contracts.md §3): the signal of the running cell, and the count
 * of those who promise to settle soon after it aborts.
 */
export class InterruptSource {
  #controller = new AbortController();
  #abandon: ((reason: Interrupted) => void) | undefined;
  #asked = false;

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

  /** A new cell starts: a fresh signal. The promise rejects when the cell is to be given up. */
  begin(): Promise<never> {
    this.#controller = new AbortController();
    this.#asked = false;
    Atomics.store(this.shared, Shared.observers, 0);
    Atomics.store(this.shared, Shared.terminated, 0);
    return new Promise<never>((_, reject) => {
      this.#abandon = reject;
    });
  }

  end(): void {
    this.#abandon = undefined;
    Atomics.store(this.shared, Shared.observers, 0);
  }

  /** An interrupt has come from the messaging thread. */
  interrupt(second: boolean): void {
    Atomics.add(this.shared, Shared.interruptsSeen, 1);
    const abandon = this.#abandon;
    if (!abandon) return;
    const reason = new Interrupted();
    this.#controller.abort(reason);
    const forced = Atomics.exchange(this.shared, Shared.terminated, 0) === 1;
    const observed = Atomics.load(this.shared, Shared.observers) > 0;
    if (forced || second || this.#asked || !observed) abandon(reason);
    else native.setTimeout(() => abandon(reason), OBSERVED_WAIT).unref();
    this.#asked = true;
  }
}
