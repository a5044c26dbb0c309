import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { HEAP_LOOK, Shared } from "../link.js";

const MEGABYTE = 1024 * 1024;

/** Megabytes that the old generation of this thread's heap may have; V8 ends the process when they do not suffice. */
export function heapLimit(): number {
  const options = `${process.env.NODE_OPTIONS ?? ""} ${process.execArgv.join(" ")}`;
  const given = [...options.matchAll(/--max[-_]old[-_]space[-_]size[= ](\d+)/g)].at(-1)?.[1];
  return Number(given ?? Math.floor(getHeapStatistics().heap_size_limit / MEGABYTE));
}

/**
 * Lets the messaging thread see, also in the midst of a cell, how much of the heap is in use. Beyond `full` megabytes the
 * garbage among it is collected first: the inspector's own request for that is served only when the cell yields.
 */
export function installHeapLook(shared: Int32Array): void {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  setFlagsFromString("--no-expose-gc");
  const used = () => Math.floor(getHeapStatistics().used_heap_size / MEGABYTE);
  const look = (full: number) => {
    if (used() > full) collectGarbage();
    Atomics.store(shared, Shared.heapUsed, used());
    Atomics.add(shared, Shared.heapLooks, 1);
  };
  Object.defineProperty(globalThis, Symbol.for(HEAP_LOOK), { value: look });
}
