import { describeRecovery } from "./activity-hub.js";
import { Runtime } from "./runtime.js";
import type { RuntimeInfo } from "./types.js";

/** The runtime process of this session: its devices, versions, process id. It is attached to, or started. */
export function runtimeInfo(): Promise<RuntimeInfo> {
  return Runtime.default().ready;
}

/**
 * Ends programs that do not end: the runtime keeps what can be read, starts again and brings it back. Arrays and compiled programs of all
 * notebooks go on as before, but for what is said to be lost: what was being computed.
 */
export async function recoverRuntime(): Promise<string> {
  return describeRecovery(await Runtime.default().recover());
}
