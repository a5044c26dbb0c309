import type { Json } from "../protocol/wire.js";
import type { ColumnStore } from "./columns.js";
import type { MetricsEvent, RunStatus } from "./events.js";
import { type Series, SeriesComms } from "./series-comms.js";

type Start = Omit<Extract<MetricsEvent, { type: "start" }>, "type" | "id">;

class Run implements Series {
  revision = 0;
  status: RunStatus = "running";
  message: string | undefined;

  constructor(
    public record: Start,
    readonly store: ColumnStore,
  ) {}

  describe(): Json {
    const { name, startedAt, totalSteps = null, path = null } = this.record;
    return { name, startedAt, totalSteps, status: this.status, message: this.message ?? null, path };
  }
}

/** The `aronnax.metrics` comms. */
export class MetricsComms extends SeriesComms<MetricsEvent> {
  constructor(send: (commId: string, data: Json, buffers: Uint8Array[]) => void) {
    super("runs", send);
  }

  protected apply(event: MetricsEvent, Store: typeof ColumnStore): void {
    let run = this.series.get(event.id) as Run | undefined;
    if (!run) {
      run = new Run({ name: event.id, startedAt: Date.now() }, new Store());
      this.series.set(event.id, run);
    }
    run.revision += 1;
    if (event.type === "start") {
      run.record = event;
      run.status = "running";
      run.message = undefined;
    } else if (event.type === "rows") {
      run.store.append(event.rows);
    } else {
      run.status = event.status;
      run.message = event.message;
    }
  }
}
