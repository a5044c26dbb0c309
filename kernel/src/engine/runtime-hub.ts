import { native } from "./native-timers.js";

/** How long the runtime may take to tell what it is at, in ms. */
const PATIENCE = 2_000;

/** `globalThis[Symbol.for("aronnax.runtime")]` (docs/contracts.md): what a process that runs cells knows of the runtime. */
interface RuntimeHub {
  readonly version: 1;
  interrupted(): Promise<string | undefined>;
}

/**
 * Lets the runtime know that a cell was given up. Returns which program of whom holds the device, and what can be done
 * against it, where one does.
 */
export async function runtimeAfterInterrupt(): Promise<string | undefined> {
  const hub = (globalThis as { [key: symbol]: unknown })[Symbol.for("aronnax.runtime")] as
    | Partial<RuntimeHub>
    | undefined;
  if (hub?.version !== 1 || typeof hub.interrupted !== "function") return undefined;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = native.setTimeout(() => resolve(undefined), PATIENCE);
  });
  try {
    return await Promise.race([hub.interrupted(), late]);
  } catch {
    // The runtime is gone: the next cell that needs it says so.
    return undefined;
  } finally {
    native.clearTimeout(timer);
  }
}
