/** Telemetry of the host and the devices, and profiles of what the devices do. */
import path from "node:path";
import type { Runtime } from "./runtime.js";
import type { TelemetrySample } from "./types.js";

let nextSubscription = 1;

/**
 * Calls `listener` about `hertz` times a second (0.1 to 10) until the result is called. A slow reader misses samples; it does not
 * slow the runtime.
 */
export async function subscribeTelemetry(
  runtime: Runtime,
  listener: (sample: TelemetrySample) => void,
  hertz = 1,
): Promise<() => void> {
  const subscription = nextSubscription++;
  const stop = runtime.listen(subscription, (data) => listener(data as TelemetrySample));
  const end = () => {
    stop();
    runtime.request({ op: "telemetry.unsubscribe", subscription }).catch(() => {});
  };
  try {
    await runtime.request({ op: "telemetry.subscribe", subscription, hertz });
  } catch (error) {
    stop();
    throw error;
  }
  return end;
}

/** Starts a profile into a folder; one at a time in a runtime. XProf, TensorBoard and Perfetto read it. */
export async function startProfile(runtime: Runtime, folder: string): Promise<void> {
  await runtime.request({ op: "profile.start", path: path.resolve(folder) });
}

/** Ends the profile once everything queued before has run, and resolves to its files. */
export async function stopProfile(runtime: Runtime): Promise<string[]> {
  return ((await runtime.request({ op: "profile.stop" })).result as { files: string[] }).files;
}
