import { AsyncLocalStorage } from "node:async_hooks";

const runs = new AsyncLocalStorage<number>();

/** The run of the cell that the code which runs now belongs to, however late: timers and callbacks belong to the cell that made them. */
export function ownRun(): number | undefined {
  return runs.getStore();
}

export function asRun<T>(run: number | undefined, work: () => T): T {
  return run === undefined ? work() : runs.run(run, work);
}
