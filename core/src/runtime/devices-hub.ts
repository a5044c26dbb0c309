/**
 * Where the telemetry of runtimes meets those who watch it (docs/contracts.md, section 2). It lives on `globalThis` under a
 * registered symbol, so that packages that do not import each other (framework and Jupyter kernel) share it.
 */
import type { DeviceInfo, TelemetrySample } from "./types.js";

/** One sample of one node of a runtime. */
export interface DevicesEvent {
  node: number;
  platform: "cpu" | "cuda";
  /** The devices of the node. */
  devices: Pick<DeviceInfo, "id" | "kind">[];
  sample: TelemetrySample;
}

/** Starts to sample; the result stops it. */
export type DevicesSource = (publish: (event: DevicesEvent) => void) => () => void;

export interface DevicesHub {
  readonly version: 1;
  /** Sources run while there is a listener. @returns ends the subscription. */
  subscribe(listener: (event: DevicesEvent) => void): () => void;
  /** @returns withdraws the source. */
  provide(source: DevicesSource): () => void;
}

const key = Symbol.for("aronnax.devices");

/** The hub of this process, made on first use. */
export function devicesHub(): DevicesHub {
  const holder = globalThis as { [key]?: DevicesHub };
  holder[key] ??= createDevicesHub();
  return holder[key];
}

export function createDevicesHub(): DevicesHub {
  const listeners = new Set<(event: DevicesEvent) => void>();
  /** Each source with what stops it, where it runs. */
  const sources = new Map<DevicesSource, (() => void) | undefined>();
  const publish = (event: DevicesEvent) => {
    for (const listener of [...listeners]) {
      try {
        listener(event);
      } catch {
        // Watching must not stop what is watched.
      }
    }
  };
  const balance = () => {
    for (const [source, stop] of sources) {
      if (listeners.size > 0 && stop === undefined) sources.set(source, source(publish));
      if (listeners.size === 0 && stop !== undefined) {
        sources.set(source, undefined);
        stop();
      }
    }
  };
  return {
    version: 1,
    subscribe(listener) {
      // A wrapper, so that a function subscribed twice ends twice.
      const own = (event: DevicesEvent) => listener(event);
      listeners.add(own);
      balance();
      return () => {
        listeners.delete(own);
        balance();
      };
    },
    provide(source) {
      sources.set(source, undefined);
      balance();
      return () => {
        const stop = sources.get(source);
        sources.delete(source);
        stop?.();
      };
    },
  };
}
