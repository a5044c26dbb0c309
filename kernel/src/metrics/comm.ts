import { log } from "../log.js";
import type { Json } from "../protocol/wire.js";
import type { ColumnStore } from "./columns.js";
import type { MetricsEvent } from "./events.js";

/** Least time between two messages of one comm, in ms: 10 messages a second. */
const INTERVAL = 100;

interface Run {
  record: Extract<MetricsEvent, { type: "start" }> & { status: string; message?: string };
  store: ColumnStore;
  /** Grows with every change, so that a client knows whether it has seen the run as it is. */
  revision: number;
}

interface Client {
  seq: number;
  sentAt: number;
  timer: NodeJS.Timeout | undefined;
  snapshotDue: boolean;
  seen: Map<string, { rows: number; revision: number }>;
}

/**
 * The kernel's end of the `aronnax.metrics` comms (docs/contracts.md §2). It lives in the messaging thread: it keeps
 * the history of every run and answers while a cell keeps the main thread busy.
 */
export class MetricsComms {
  readonly #runs = new Map<string, Run>();
  readonly #clients = new Map<string, Client>();
  // Arrow is loaded with the first event or comm, not when the kernel starts.
  #columns: Promise<typeof import("./columns.js")> | undefined;
  #queue: Promise<void> = Promise.resolve();

  constructor(private readonly send: (commId: string, data: Json, buffers: Uint8Array[]) => void) {}

  publish(event: MetricsEvent): void {
    this.#queue = this.#queue
      .then(async () => {
        this.#columns ??= import("./columns.js");
        this.#apply(event, (await this.#columns).ColumnStore);
        for (const [id, client] of this.#clients) this.#schedule(id, client);
      })
      .catch((error) => {
        log(`metrics: ${error}`);
      });
  }

  #apply(event: MetricsEvent, Store: typeof ColumnStore): void {
    let run = this.#runs.get(event.id);
    if (!run) {
      const record =
        event.type === "start"
          ? event
          : { type: "start" as const, id: event.id, name: event.id, startedAt: Date.now() };
      run = { record: { ...record, status: "running" }, store: new Store(), revision: 0 };
      this.#runs.set(event.id, run);
    } else if (event.type === "start") {
      run.record = { ...event, status: "running" };
    }
    run.revision += 1;
    if (event.type === "rows") run.store.append(event.rows);
    if (event.type === "status") {
      run.record.status = event.status;
      if (event.message === undefined) delete run.record.message;
      else run.record.message = event.message;
    }
  }

  open(commId: string): void {
    this.#clients.set(commId, {
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
    if (!client || data.type !== "snapshot") return;
    client.snapshotDue = true;
    this.#later(commId);
  }

  has(commId: string): boolean {
    return this.#clients.has(commId);
  }

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
    const runs: Json[] = [];
    const buffers: Uint8Array[] = [];
    for (const [id, run] of this.#runs) {
      const seen = snapshot ? undefined : client.seen.get(id);
      if (seen?.revision === run.revision) continue;
      const { store, record } = run;
      const firstRow = Math.max(seen?.rows ?? 0, store.firstRow);
      let buffer: number | null = null;
      if (store.rowCount > firstRow) {
        buffer = buffers.length;
        buffers.push(store.toArrow(firstRow));
      }
      runs.push({
        id,
        name: record.name,
        startedAt: record.startedAt,
        totalSteps: record.totalSteps ?? null,
        status: record.status,
        message: record.message ?? null,
        path: record.path ?? null,
        rowCount: store.rowCount,
        firstRow,
        buffer,
      });
      client.seen.set(id, { rows: store.rowCount, revision: run.revision });
    }
    if (runs.length === 0 && !snapshot) return;
    client.snapshotDue = false;
    client.sentAt = performance.now();
    this.send(commId, { version: 1, type: snapshot ? "snapshot" : "batch", seq: client.seq, runs }, buffers);
    client.seq += 1;
  }
}
