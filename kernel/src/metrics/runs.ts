import { dirname } from "node:path";
import type { Json } from "../protocol/wire.js";
import type { ColumnStore } from "./columns.js";
import type { MetricsEvent, RunStatus } from "./events.js";
import { FilesComms } from "./files-comms.js";
import { type Series, SeriesComms } from "./series-comms.js";

type Start = Omit<Extract<MetricsEvent, { type: "start" }>, "type" | "id">;

/** Lines of a run's media index that are kept here; its file has all of them. */
const MEDIA_CAPACITY = 10_000;

class Run implements Series {
  revision = 0;
  status: RunStatus = "running";
  message: string | undefined;
  /** Media ever seen. */
  count = 0;
  readonly #media: Json[] = [];

  constructor(
    public record: Start,
    readonly store: ColumnStore,
  ) {}

  addMedia(records: Json[]): void {
    this.#media.push(...records);
    this.count += records.length;
    if (this.#media.length > MEDIA_CAPACITY) {
      this.#media.splice(0, this.#media.length - (MEDIA_CAPACITY * 3) / 4);
    }
  }

  get folder(): string | undefined {
    const { folder, path } = this.record;
    return folder ?? (path === undefined ? undefined : dirname(path));
  }

  describe(seen: number): Json {
    const { name, startedAt, totalSteps = null, path = null, config = null, parent = null } = this.record;
    const firstMedia = Math.max(seen, this.count - this.#media.length);
    return {
      name,
      startedAt,
      totalSteps,
      status: this.status,
      message: this.message ?? null,
      path,
      folder: this.folder ?? null,
      config,
      parent,
      mediaCount: this.count,
      firstMedia,
      media: this.#media.slice(this.#media.length - (this.count - firstMedia)),
    };
  }
}

/** The `aronnax.metrics` comms. */
export class MetricsComms extends SeriesComms<MetricsEvent> {
  /** For who wants files and no rows. */
  readonly files = new FilesComms((id) => (this.series.get(id) as Run | undefined)?.folder, this.send);

  constructor(send: (commId: string, data: Json, buffers: Uint8Array[]) => void) {
    super("runs", 2, send);
  }

  override close(commId: string): void {
    super.close(commId);
    this.files.forget(commId);
  }

  protected override request(commId: string, data: Json): void {
    const answer = (content: Json, buffers: Uint8Array[]) => {
      if (this.has(commId)) this.send(commId, { version: 2, ...content }, buffers);
    };
    this.files.answer(commId, data, answer);
  }

  protected apply(event: MetricsEvent, Store: typeof ColumnStore): void {
    let run = this.series.get(event.id) as Run | undefined;
    if (!run) {
      run = new Run({ name: event.id, startedAt: Date.now() }, new Store());
      this.series.set(event.id, run);
    }
    run.revision += 1;
    switch (event.type) {
      case "start":
        run.record = event;
        run.status = "running";
        run.message = undefined;
        return;
      case "rows":
        run.store.append(event.rows);
        return;
      case "columns":
        run.store.appendSlice(event.rows);
        return;
      case "media":
        run.addMedia(event.media);
        return;
      case "status":
        run.status = event.status;
        run.message = event.message;
    }
  }
}
