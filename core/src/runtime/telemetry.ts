/** Telemetry of the host and the devices, and profiles of what the devices do. */
import path from "node:path";
import { devicesHub } from "./devices-hub.js";
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

let withdraw: (() => void) | undefined;

/**
 * Offers the telemetry of the process's runtime to whoever watches `aronnax.devices` (docs/contracts.md, section 2), in the place
 * of an earlier runtime's. Nothing is sampled while nobody watches, nor before the runtime is attached.
 */
export function offerTelemetry(runtime: Runtime): void {
  withdraw?.();
  withdraw = devicesHub().provide((publish) => {
    let stopped = false;
    let end: (() => void) | undefined;
    runtime.whenReady(async ({ platform, devices }) => {
      if (stopped) return;
      const nodeOf = new Map(devices.map(({ id, process }) => [id, process]));
      const listener = (sample: TelemetrySample) => {
        const node = nodeOf.get(sample.devices[0]?.id ?? 0) ?? 0;
        const own = devices.filter(({ process }) => process === node).map(({ id, kind }) => ({ id, kind }));
        publish({ node, platform, devices: own, sample });
      };
      try {
        end = await subscribeTelemetry(runtime, listener);
      } catch {
        return; // The runtime is gone; the next one brings its own.
      }
      if (stopped) end();
    });
    return () => {
      stopped = true;
      end?.();
    };
  });
}

/** Starts a profile into a folder; one at a time in a runtime. XProf, TensorBoard and Perfetto read it. */
export async function startProfile(runtime: Runtime, folder: string): Promise<void> {
  await runtime.request({ op: "profile.start", path: path.resolve(folder) });
}

/** Ends the profile once everything queued before has run, and resolves to its files. */
export async function stopProfile(runtime: Runtime): Promise<string[]> {
  return ((await runtime.request({ op: "profile.stop" })).result as { files: string[] }).files;
}
