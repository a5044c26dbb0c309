import { syncBuiltinESMExports } from "node:module";
import timers from "node:timers";
import { promisify } from "node:util";
import { native } from "./native-timers.js";

type Callback = (this: unknown, ...args: unknown[]) => unknown;

/**
 * Makes the callbacks of timers run from a microtask. Stopping a cell by force while it stands inside Node's own
 * timer loop corrupts that loop's bookkeeping and aborts the process; inside a microtask it is safe.
 */
export function makeTimersInterruptible(): void {
  const hop = (callback: unknown) =>
    typeof callback !== "function"
      ? callback
      : function (this: unknown, ...args: unknown[]) {
          void Promise.resolve().then(() => (callback as Callback).apply(this, args));
        };
  const wrap = <F extends (callback: never, ...rest: never[]) => unknown>(original: F): F => {
    const wrapped = ((callback: never, ...rest: never[]) => original(hop(callback) as never, ...rest)) as F;
    Object.defineProperty(wrapped, "name", { value: original.name });
    const custom = (original as { [promisify.custom]?: unknown })[promisify.custom];
    if (custom) Object.defineProperty(wrapped, promisify.custom, { value: custom });
    return wrapped;
  };
  const patched = {
    setTimeout: wrap(native.setTimeout),
    setInterval: wrap(native.setInterval),
    setImmediate: wrap(native.setImmediate),
  };
  Object.assign(globalThis, patched);
  Object.assign(timers, patched);
  syncBuiltinESMExports();
}
