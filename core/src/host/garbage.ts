/** Collecting garbage at once: buffers of the devices are freed only with the objects that hold them. */
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { createContext, runInNewContext, Script } from "node:vm";

let collector: (() => void) | undefined;

/** V8's collector. */
function gc(): () => void {
  if (collector === undefined) {
    setFlagsFromString("--expose-gc");
    collector = runInNewContext("gc") as () => void;
    setFlagsFromString("--no-expose-gc");
  }
  return collector;
}

let checkpoint: (() => void) | undefined;

/**
 * Collects garbage in the midst of what runs. Weak references that were made or read in this turn of the event loop hold what they refer to until
 * its end: the end of a script with microtasks of its own is one.
 */
export function collectNow(): void {
  if (checkpoint === undefined) {
    const context = createContext({}, { microtaskMode: "afterEvaluate" });
    const script = new Script("0");
    checkpoint = () => script.runInContext(context);
  }
  checkpoint();
  gc()();
}

/** Collects garbage and lets what waits for it (`FinalizationRegistry`) run. */
export async function collectGarbage(): Promise<void> {
  const collect = gc();
  // Twice: what a finalizer lets go of is free after the next.
  for (let round = 0; round < 2; round++) {
    collect();
    await sleep(1);
  }
}
