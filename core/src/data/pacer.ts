import { setImmediate as nextTurn } from "node:timers/promises";

/** To be awaited often inside long work. Resolves to true when it is time to report progress (at most ten times a second). */
export type Pacer = () => Promise<boolean> | false;

/** Gives the event loop a turn every 100 ms, so that interrupts and displays work, and throws once `signal` aborts. */
export function pacer(signal?: AbortSignal): Pacer {
  let last = performance.now();
  return () => {
    if (performance.now() - last < 100) return false;
    return (async () => {
      await nextTurn();
      signal?.throwIfAborted();
      last = performance.now();
      return true;
    })();
  };
}
