import type { Json } from "../protocol/wire.js";
import type { ColumnStore } from "./columns.js";
import type { DevicesEvent } from "./events.js";
import { type Series, SeriesComms } from "./series-comms.js";

/** Samples kept: somewhat more than an hour at one a second. */
const CAPACITY = 4_800;
/** How long telemetry goes on after the last comm closed, in ms: a page that is reloaded has no gap. */
const LINGER = 60_000;

class Host implements Series {
  revision = 0;

  constructor(
    public last: DevicesEvent,
    readonly startedAt: number,
    readonly store: ColumnStore,
  ) {}

  describe(): Json {
    const { platform, devices } = this.last;
    return { startedAt: this.startedAt, platform, devices };
  }
}

/** The `aronnax.devices` comms. Telemetry is asked for while somebody watches. */
export class DevicesComms extends SeriesComms<DevicesEvent> {
  #ending: NodeJS.Timeout | undefined;

  /** @param want - asks the main thread for telemetry, or for no more of it. */
  constructor(
    send: (commId: string, data: Json, buffers: Uint8Array[]) => void,
    private readonly want: (wanted: boolean) => void,
  ) {
    super("hosts", 1, send);
  }

  override open(commId: string, data: Json = {}): void {
    super.open(commId, data);
    clearTimeout(this.#ending);
    this.want(true);
  }

  override close(commId: string): void {
    super.close(commId);
    if (this.isWatched) return;
    clearTimeout(this.#ending);
    this.#ending = setTimeout(() => this.want(false), LINGER).unref();
  }

  protected apply(event: DevicesEvent, Store: typeof ColumnStore): void {
    const id = String(event.node);
    let host = this.series.get(id) as Host | undefined;
    if (!host) {
      host = new Host(event, event.sample.time, new Store(CAPACITY));
      this.series.set(id, host);
    }
    host.last = event;
    host.revision += 1;
    host.store.append([rowOf(event, host.startedAt)]);
  }
}

/** A sample as a row: `time` in seconds, `host_<figure>`, `device_<id>_<figure>`. */
function rowOf({ sample }: DevicesEvent, startedAt: number): Record<string, number> {
  const row: Record<string, number> = { time: (sample.time - startedAt) / 1_000 };
  const add = (prefix: string, figures: Record<string, number | undefined>) => {
    for (const [name, value] of Object.entries(figures)) {
      if (typeof value === "number") row[`${prefix}_${snakeCase(name)}`] = value;
    }
  };
  add("host", sample.host);
  for (const { id, ...figures } of sample.devices) add(`device_${id}`, figures);
  return row;
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
