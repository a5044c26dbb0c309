import { Field, Float64, makeData, RecordBatch, Schema, Struct, Table, tableToIPC } from "apache-arrow";
import type { JsonValue } from "../files/json.js";
import { type ByteSource, MetricsStream } from "./arrow-read.js";
import { ColumnTable } from "./columns.js";
import type { MetricsRow } from "./hub.js";

/** What a run's file says of its run, as JSON in the schema's metadata under `aronnax.run`. */
export interface RunInfo {
  id: string;
  name: string;
  startedAt: number;
  totalSteps?: number;
  config?: JsonValue;
}

const runKey = "aronnax.run";
const firstRowKey = "aronnax.first_row";
/** A stream's last 8 bytes: the end-of-stream mark. */
const endMark = 8;

/** Columns of nullable float64 and the run they belong to, as the parts of an Arrow IPC stream. */
export class MetricsEncoder {
  private readonly schema: Schema;
  /** The schema message: the start of the stream. */
  readonly head: Uint8Array;

  /** @param firstRow - the index in the run of the first row that will follow. */
  constructor(
    readonly columns: readonly string[],
    run: RunInfo,
    firstRow = 0,
  ) {
    this.schema = new Schema(
      columns.map((name) => new Field(name, new Float64(), true)),
      new Map([
        [runKey, JSON.stringify(run)],
        [firstRowKey, String(firstRow)],
      ]),
    );
    this.head = tableToIPC(new Table(this.schema, []), "stream").slice(0, -endMark);
  }

  /** A record batch message with the rows from `from` to `to`; any number of them may follow the head. */
  batch(rows: ColumnTable, from: number, to: number): Uint8Array {
    const { count, columns } = rows.slice(from, to);
    const children = this.columns.map((name) => {
      const column = columns[name];
      const data = column?.values ?? new Float64Array(count);
      const nullBitmap = column?.present ?? new Uint8Array((count + 7) >> 3).fill(column ? 255 : 0);
      return makeData({
        type: new Float64(),
        length: count,
        nullCount: column === undefined ? count : column.present ? count - ones(column.present) : 0,
        data,
        nullBitmap,
      });
    });
    const type = new Struct<Record<string, Float64>>(this.schema.fields as Field<Float64>[]);
    const batch = new RecordBatch(this.schema, makeData({ type, length: count, nullCount: 0, children }));
    return tableToIPC(new Table(this.schema, [batch]), "stream").subarray(this.head.length, -endMark);
  }
}

function ones(bits: Uint8Array): number {
  let count = 0;
  for (let byte of bits) for (; byte !== 0; byte &= byte - 1) count++;
  return count;
}

/** The run that a stream of metrics is of. @throws Error where it does not say. */
export function runOf(stream: MetricsStream): RunInfo {
  const text = stream.metadata.get(runKey);
  if (text === undefined) throw new Error(`its schema has no metadata "${runKey}"`);
  return JSON.parse(text) as RunInfo;
}

/** The index in the run of a stream's first row: rows from there on that came before in the run are obsolete. */
export function firstRowOf(stream: MetricsStream): number {
  const row = Number(stream.metadata.get(firstRowKey) ?? 0);
  return Number.isSafeInteger(row) && row >= 0 ? row : 0;
}

export interface DecodedMetrics {
  run: RunInfo;
  columns: string[];
  /** As objects, made when first asked for; `table` has the same numbers in columns. */
  readonly rows: MetricsRow[];
  table: ColumnTable;
  /** Why reading stopped before the end of the bytes, if it did. */
  damage?: string;
}

/** Reads as far as the stream is whole: a file that is being written, or whose writer was killed, ends anywhere. */
export function decodeMetrics(bytes: Uint8Array): DecodedMetrics {
  const reader = new MetricsReader();
  reader.add(bytesSource(bytes));
  return reader.result();
}

export function bytesSource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.length,
    read: (offset, length) => bytes.subarray(offset, offset + length),
  };
}

/** Puts the segments of a run together, in their order. */
export class MetricsReader {
  private readonly table = new ColumnTable();
  private readonly columns = new Set<string>();
  private run: RunInfo | undefined;
  private damage: string | undefined;

  /** @throws Error where the first segment is not one of a run; a later one that is not counts as damage. */
  add(source: ByteSource): void {
    try {
      const stream = new MetricsStream(source);
      this.run = runOf(stream);
      for (const name of stream.columns) this.columns.add(name);
      const firstRow = firstRowOf(stream);
      // What was damaged before, as by a kill, is made good where a resumed run goes on before it.
      if (firstRow <= this.table.rowCount) this.damage = undefined;
      this.table.truncate(firstRow);
      for (let rows = stream.next(); rows !== undefined; rows = stream.next()) this.table.appendSlice(rows);
      this.damage ??= stream.damage;
    } catch (error) {
      if (this.run === undefined) throw error;
      this.damage ??= (error as Error).message;
    }
  }

  result(): DecodedMetrics {
    const { table, columns, run, damage } = this;
    let rows: MetricsRow[] | undefined;
    return {
      run: run!,
      columns: [...columns],
      table,
      get rows() {
        rows ??= table.rows();
        return rows;
      },
      ...(damage !== undefined && { damage }),
    };
  }
}
