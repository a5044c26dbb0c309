import { getHeapStatistics } from "node:v8";
import { HEAP_LOOK, Shared } from "../link.js";

const MEGABYTE = 1024 * 1024;

/** Megabytes that the old generation of this thread's heap may have; V8 ends the process when they do not suffice. */
export function heapLimit(): number {
  const options = `${process.env.NODE_OPTIONS ?? ""} ${process.execArgv.join(" ")}`;
  const given = [...options.matchAll(/--max[-_]old[-_]space[-_]size[= ](\d+)/g)].at(-1)?.[1];
  return Number(given ?? Math.floor(getHeapStatistics().heap_size_limit / MEGABYTE));
}

/** Lets the messaging thread see, also in the midst of a cell, how much of the heap is in use. */
export function installHeapLook(shared: Int32Array): void {
  const look = () => {
    Atomics.store(shared, Shared.heapUsed, Math.floor(getHeapStatistics().used_heap_size / MEGABYTE));
    Atomics.add(shared, Shared.heapLooks, 1);
  };
  Object.defineProperty(globalThis, Symbol.for(HEAP_LOOK), { value: look });
}
