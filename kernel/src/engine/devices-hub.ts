import { DEVICES_HUB, type DevicesEvent, type DevicesHub, type DevicesSource } from "../metrics/events.js";

/** The hub of this process: the one that is there already, or a new one. */
export function devicesHub(): DevicesHub {
  const place = globalThis as { [DEVICES_HUB]?: DevicesHub };
  place[DEVICES_HUB] ??= createHub();
  return place[DEVICES_HUB];
}

function createHub(): DevicesHub {
  const listeners = new Set<(event: DevicesEvent) => void>();
  /** Each source with what stops it, where it runs. */
  const sources = new Map<DevicesSource, (() => void) | undefined>();
  const publish = (event: DevicesEvent) => {
    for (const listener of listeners) {
      try {
        listener(event);
      } catch {
        // A listener's failure must not stop the runtime's client.
      }
    }
  };
  const balance = () => {
    for (const [source, stop] of sources) {
      if (listeners.size > 0 && !stop) sources.set(source, source(publish));
      if (listeners.size === 0 && stop) {
        sources.set(source, undefined);
        stop();
      }
    }
  };
  return {
    version: 1,
    subscribe(listener) {
      listeners.add(listener);
      balance();
      return () => {
        listeners.delete(listener);
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

/** Passes the telemetry on while somebody wants it. */
export class DevicesWatch {
  #stop: (() => void) | undefined;

  constructor(private readonly pass: (event: DevicesEvent) => void) {}

  set wanted(wanted: boolean) {
    if (wanted) this.#stop ??= devicesHub().subscribe(this.pass);
    else {
      this.#stop?.();
      this.#stop = undefined;
    }
  }
}
