import { type ColumnBatch, type ColumnValues, MetricsStream, Unreachable } from "./metricsStream.js";
import { type FetchRange, RangeSource } from "./rangeSource.js";

/** What a segment says of its run (`aronnax.run` of its schema). */
export interface StoredRun {
  readonly id?: string;
  readonly name?: string;
  readonly startedAt?: number;
  readonly totalSteps?: number;
  readonly config?: unknown;
}

/** A batch in a form that can be posted to another thread. */
export interface PlainBatch {
  readonly rowCount: number;
  readonly columns: readonly (readonly [string, ColumnValues])[];
}

export type ReaderEvent =
  /** All rows so far are void: another run has taken the place. */
  | { readonly type: "reset" }
  /** A segment begins; rows from `firstRow` on are void. `rows` is about how many follow in it. */
  | {
      readonly type: "segment";
      readonly name: string;
      readonly run: StoredRun;
      readonly columns: readonly string[];
      readonly firstRow: number;
      readonly rows: number;
    }
  | { readonly type: "rows"; readonly batches: readonly PlainBatch[] }
  | { readonly type: "progress"; readonly read: number; readonly total: number }
  /** All that is whole has been read. */
  | { readonly type: "end"; readonly damage?: string }
  | { readonly type: "failed"; readonly problem: string; readonly isForGood: boolean };

interface Segment {
  readonly name: string;
  source: RangeSource;
  stream: MetricsStream;
  rows: number;
}

/** Rows that are sent in one message. */
const ROWS_AT_ONCE = 1 << 16;
const PROGRESS_MS = 50;

/**
 * Reads a run's segments in their order, as far as they are whole, and goes on from there when it is asked again (docs/contracts.md §2). It
 * holds a few MB, whatever the files' size.
 */
export class RunReader {
  /**
   * @param fetcher - gives ranges of a file of the run's folder.
   * @param emit - takes the events; the numbers of a batch are its own.
   */
  constructor(
    private readonly fetcher: (name: string) => FetchRange,
    private readonly emit: (event: ReaderEvent) => void,
  ) {}

  /**
   * Reads what is new. Calls follow each other; one that comes while another waits is that one.
   *
   * @param anew - another run has taken the place of the one that was read.
   */
  read(names: readonly string[], anew = false): Promise<void> {
    this.#names = names;
    this.#anew ||= anew;
    this.#next ??= this.#last
      .then(() => {
        this.#next = undefined;
        return this.#read(this.#names);
      })
      .catch((error: unknown) => {
        this.emit({
          type: "failed",
          problem: error instanceof Error ? error.message : String(error),
          isForGood: !(error instanceof Unreachable),
        });
      });
    this.#last = this.#next;
    return this.#next;
  }

  close(): void {
    this.#isClosed = true;
  }

  async #read(names: readonly string[]): Promise<void> {
    const known = this.#segments.map(({ name }) => name);
    if (this.#anew || known.some((name, i) => name !== names[i])) {
      this.#anew = false;
      this.#forget();
    }
    this.#damage = undefined;
    const last = this.#segments.at(-1);
    if (last) {
      // A segment without rows may have been replaced by one with more columns.
      const { size } = last.source;
      if (last.rows === 0) {
        this.#segments.pop();
      } else if (
        !(await last.source.refresh(last.stream.position)) ||
        (last.stream.isEnded && last.source.size !== size)
      ) {
        this.#forget();
      } else {
        await this.#drain(last);
      }
    }
    for (const name of names.slice(this.#segments.length)) {
      await this.#open(name);
    }
    if (!this.#isClosed) {
      this.emit(this.#damage === undefined ? { type: "end" } : { type: "end", damage: this.#damage });
    }
  }

  #forget(): void {
    if (this.#segments.length > 0) {
      this.#segments.length = 0;
      this.#rowCount = 0;
      this.emit({ type: "reset" });
    }
  }

  async #open(name: string): Promise<void> {
    let segment: Segment;
    try {
      const source = await RangeSource.open(this.fetcher(name));
      segment = { name, source, stream: await MetricsStream.open(source), rows: 0 };
      const { columns, metadata } = segment.stream;
      if (!columns.includes("step")) {
        throw new Error(
          `it has no column "step" (its columns: ${columns.map((column) => JSON.stringify(column)).join(", ") || "none"})`,
        );
      }
      const firstRow = Math.min(this.#rowCount, rowIndex(metadata.get("aronnax.first_row")));
      this.#rowCount = firstRow;
      this.#segments.push(segment);
      this.emit({
        type: "segment",
        name,
        run: storedRun(metadata.get("aronnax.run")),
        columns,
        firstRow,
        rows: Math.floor(source.size / (8 * columns.length)),
      });
    } catch (error) {
      if (error instanceof Unreachable || this.#segments.length === 0) {
        throw error;
      }
      this.#damage ??= `${name}: ${(error as Error).message}`;
      return;
    }
    await this.#drain(segment);
  }

  async #drain(segment: Segment): Promise<void> {
    const { stream, source } = segment;
    let batches: PlainBatch[] = [];
    let rows = 0;
    let told = performance.now();
    const send = () => {
      if (batches.length > 0 && !this.#isClosed) {
        this.emit({ type: "rows", batches });
      }
      batches = [];
      rows = 0;
    };
    for (
      let batch: ColumnBatch | undefined = await stream.next();
      batch && !this.#isClosed;
      batch = await stream.next()
    ) {
      batches.push({ rowCount: batch.rowCount, columns: [...batch.columns] });
      rows += batch.rowCount;
      segment.rows += batch.rowCount;
      this.#rowCount += batch.rowCount;
      if (rows >= ROWS_AT_ONCE) {
        send();
      }
      if (performance.now() - told > PROGRESS_MS) {
        told = performance.now();
        this.emit({ type: "progress", read: stream.position, total: source.size });
      }
    }
    send();
    if (stream.damage !== undefined) {
      this.#damage ??= `${segment.name}: ${stream.damage}`;
    }
  }

  readonly #segments: Segment[] = [];
  #names: readonly string[] = [];
  #rowCount = 0;
  #damage: string | undefined;
  #isClosed = false;
  #anew = false;
  #next: Promise<void> | undefined;
  #last: Promise<void> = Promise.resolve();
}

function rowIndex(text: string | undefined): number {
  const row = Number(text ?? 0);
  return Number.isSafeInteger(row) && row >= 0 ? row : 0;
}

/** What the schema says of the run; nothing where that is damaged, for the rows are as good without. */
function storedRun(text: string | undefined): StoredRun {
  let value: unknown;
  try {
    value = JSON.parse(text ?? "{}");
  } catch {
    return {};
  }
  if (typeof value !== "object" || value === null) {
    return {};
  }
  const { id, name, startedAt, totalSteps, config } = value as Record<string, unknown>;
  return {
    ...(typeof id === "string" && { id }),
    ...(typeof name === "string" && { name }),
    ...(typeof startedAt === "number" && { startedAt }),
    ...(typeof totalSteps === "number" && { totalSteps }),
    ...(config !== undefined && { config }),
  };
}

/** What a message with this event may hand over instead of copying it. */
export function transferables(event: ReaderEvent): ArrayBuffer[] {
  return event.type === "rows"
    ? event.batches.flatMap(({ columns }) =>
        columns.flatMap(([, { values, present }]) => [
          values.buffer as ArrayBuffer,
          ...(present ? [present.buffer as ArrayBuffer] : []),
        ]),
      )
    : [];
}
