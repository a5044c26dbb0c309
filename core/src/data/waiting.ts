import { Interrupted, Interruption } from "../host/interrupt.js";

/**
 * Waits for work that goes on by itself, until one of the signals aborts or the notebook interrupts the cell.
 *
 * @throws Interrupted, or a signal's reason; the work is still there to be waited for
 */
export async function waitFor<T>(
  work: Promise<T>,
  what: string,
  signals: readonly (AbortSignal | undefined)[],
): Promise<T> {
  for (const signal of signals) signal?.throwIfAborted();
  using interruption = new Interruption();
  let timer: NodeJS.Timeout | undefined;
  const stopped = new Promise<never>((_, reject) => {
    // Also keeps the process alive: threads that work ahead do not.
    timer = setInterval(() => {
      const aborted = signals.find((signal) => signal?.aborted);
      if (aborted !== undefined) reject(aborted.reason);
      else if (interruption.byKernel)
        reject(new Interrupted(`${what} was stopped`, "run the cell again to go on"));
    }, 50);
  });
  try {
    return await Promise.race([work, stopped]);
  } finally {
    clearInterval(timer);
  }
}
