import { Runtime } from "./runtime.js";
import type { RuntimeInfo } from "./types.js";

/** The runtime process of this session: its devices, versions, process id. It is attached to, or started. */
export function runtimeInfo(): Promise<RuntimeInfo> {
  return Runtime.default().ready;
}
