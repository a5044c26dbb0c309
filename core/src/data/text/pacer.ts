import { setImmediate as nextTurn } from "node:timers/promises";
import { Interrupted, Interruption } from "../../host/interrupt.js";

/** To be awaited often inside long work. Resolves to true when it is time to report progress (at most ten times a second). */
export type Pacer = (() => Promise<boolean> | false) & Disposable;

/**
 * Gives the event loop a turn every 100 ms, so that interrupts and displays work; throws once `signal` aborts or the notebook interrupts
 * the cell.
 */
export function pacer(work: string, signal?: AbortSignal): Pacer {
  const interruption = new Interruption(signal);
  let last = performance.now();
  const pace = (): Promise<boolean> | false => {
    if (performance.now() - last < 100) return false;
    return (async () => {
      await nextTurn();
      signal?.throwIfAborted();
      if (interruption.byKernel)
        throw new Interrupted(`${work} was stopped`, "run the cell again to start it anew");
      last = performance.now();
      return true;
    })();
  };
  return Object.assign(pace, { [Symbol.dispose]: () => interruption[Symbol.dispose]() });
}
