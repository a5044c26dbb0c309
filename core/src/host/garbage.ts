/** Collecting garbage at once: buffers of the devices are freed only with the objects that hold them. */
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Collects garbage and lets what waits for it (`FinalizationRegistry`) run. */
export async function collectGarbage(): Promise<void> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  setFlagsFromString("--no-expose-gc");
  // Twice: what a finalizer lets go of is free after the next.
  for (let round = 0; round < 2; round++) {
    collect();
    await sleep(1);
  }
}
