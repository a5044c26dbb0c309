import { log } from "../log.js";
import type { Json } from "../protocol/wire.js";
import type { ColumnStore } from "./columns.js";

/** Least time between two messages of one comm, in ms: 10 messages a second. */
const INTERVAL = 100;

/** Something whose rows are sent: a run, or a host with its devices. */
export interface Series {
  readonly store: ColumnStore;
  /** What to say of it beside its rows, to a client that has had so many of its things (`count`). */
  describe(seen: number): Json;
  /** How many things there are beside its rows, of which a client is told once. */
  readonly count?: number;
  /** Grows with every change, so that a client knows whether it has seen the series as it is. */
  revision: number;
}

interface Client {
  /** Of the messages. */
  version: number;
  seq: number;
  sentAt: number;
  timer: NodeJS.Timeout | undefined;
  snapshotDue: boolean;
  seen: Map<string, { rows: number; count: number; revision: number }>;
}

type Send = (commId: string, data: Json, buffers: Uint8Array[]) => void;

/**
 * The kernel's end of the comms of docs/contracts.md §2: snapshots, numbered batches, rows as Arrow. It lives in the
 * messaging thread: it keeps the history and answers while a cell keeps the main thread busy.
 */
export abstract class SeriesComms<Event> {
  protected readonly series = new Map<string, Series>();
  readonly #clients = new Map<string, Client>();
  // Arrow is loaded with the first event or comm, not when the kernel starts.
  #columns: Promise<typeof import("./columns.js")> | undefined;
  #queue: Promise<void> = Promise.resolve();

  /**
   * @param field - the name of the list of series in a message.
   * @param version - of the newest messages; a client that asks for older ones gets those, which have fewer fields.
   */
  constructor(
    private readonly field: string,
    private readonly version: number,
    protected readonly send: Send,
  ) {}

  /** Takes an event into `series`. */
  protected abstract apply(event: Event, Store: typeof ColumnStore): void;

  publish(event: Event): void {
    this.#queue = this.#queue
      .then(async () => {
        this.#columns ??= import("./columns.js");
        this.apply(event, (await this.#columns).ColumnStore);
        for (const [id, client] of this.#clients) this.#schedule(id, client);
      })
      .catch((error) => {
        log(`${this.field}: ${error}`);
      });
  }

  protected has(commId: string): boolean {
    return this.#clients.has(commId);
  }

  get isWatched(): boolean {
    return this.#clients.size > 0;
  }

  open(commId: string, data: Json = {}): void {
    const asked = Number.isInteger(data.version) ? Number(data.version) : this.version;
    this.#clients.set(commId, {
      version: Math.max(1, Math.min(asked, this.version)),
      seq: 0,
      sentAt: Number.NEGATIVE_INFINITY,
      timer: undefined,
      snapshotDue: true,
      seen: new Map(),
    });
    this.#later(commId);
  }

  message(commId: string, data: Json): void {
    const client = this.#clients.get(commId);
    if (!client) return;
    if (data.type === "snapshot") {
      client.snapshotDue = true;
      this.#later(commId);
    } else this.request(commId, data);
  }

  /** What else a client may ask for. */
  protected request(_commId: string, _data: Json): void {}

  close(commId: string): void {
    clearTimeout(this.#clients.get(commId)?.timer);
    this.#clients.delete(commId);
  }

  /** After the events that have been published so far. */
  #later(commId: string): void {
    this.#queue = this.#queue.then(() => {
      const client = this.#clients.get(commId);
      if (client) this.#schedule(commId, client);
    });
  }

  #schedule(commId: string, client: Client): void {
    if (client.timer) return;
    const wait = client.sentAt + INTERVAL - performance.now();
    if (wait <= 0) this.#flush(commId, client);
    else {
      client.timer = setTimeout(() => {
        client.timer = undefined;
        this.#flush(commId, client);
      }, wait);
    }
  }

  #flush(commId: string, client: Client): void {
    const snapshot = client.snapshotDue;
    const parts: Json[] = [];
    const buffers: Uint8Array[] = [];
    for (const [id, series] of this.series) {
      const seen = snapshot ? undefined : client.seen.get(id);
      if (seen?.revision === series.revision) continue;
      const { store, revision, count = 0 } = series;
      const firstRow = Math.max(seen?.rows ?? 0, store.firstRow);
      let buffer: number | null = null;
      if (store.rowCount > firstRow) {
        buffer = buffers.length;
        buffers.push(store.toArrow(firstRow));
      }
      const about = series.describe(seen?.count ?? 0);
      parts.push({ id, ...about, rowCount: store.rowCount, firstRow, buffer });
      client.seen.set(id, { rows: store.rowCount, count, revision });
    }
    if (parts.length === 0 && !snapshot) return;
    client.snapshotDue = false;
    client.sentAt = performance.now();
    const type = snapshot ? "snapshot" : "batch";
    this.send(commId, { version: client.version, type, seq: client.seq, [this.field]: parts }, buffers);
    client.seq += 1;
  }
}
