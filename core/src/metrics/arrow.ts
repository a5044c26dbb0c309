import {
  Field,
  Float64,
  makeData,
  RecordBatch,
  RecordBatchReader,
  Schema,
  Struct,
  Table,
  tableToIPC,
} from "apache-arrow";
import type { JsonValue } from "../files/json.js";
import { checkedLength } from "./arrow-check.js";
import type { MetricsRow } from "./hub.js";

/** What a run's file says of its run, as JSON in the schema's metadata under `aronnax.run`. */
export interface RunInfo {
  id: string;
  name: string;
  startedAt: number;
  totalSteps?: number;
  config?: JsonValue;
}

const metadataKey = "aronnax.run";
/** A stream's last 8 bytes: the end-of-stream mark. */
const endMark = 8;

/** Columns of nullable float64 and the run they belong to, as the parts of an Arrow IPC stream. */
export class MetricsEncoder {
  private readonly schema: Schema;
  /** The schema message: the start of the stream. */
  readonly head: Uint8Array;

  constructor(
    readonly columns: readonly string[],
    run: RunInfo,
  ) {
    this.schema = new Schema(
      columns.map((name) => new Field(name, new Float64(), true)),
      new Map([[metadataKey, JSON.stringify(run)]]),
    );
    this.head = tableToIPC(new Table(this.schema, []), "stream").slice(0, -endMark);
  }

  /** A record batch message with these rows; any number of them may follow the head. */
  batch(rows: readonly MetricsRow[]): Uint8Array {
    const children = this.columns.map((name) => {
      const data = new Float64Array(rows.length);
      const nullBitmap = new Uint8Array((rows.length + 7) >> 3);
      let nullCount = 0;
      rows.forEach((row, i) => {
        const value = row[name];
        if (value === undefined) {
          nullCount++;
        } else {
          data[i] = value;
          nullBitmap[i >> 3]! |= 1 << (i & 7);
        }
      });
      return makeData({ type: new Float64(), length: rows.length, nullCount, data, nullBitmap });
    });
    const type = new Struct<Record<string, Float64>>(this.schema.fields as Field<Float64>[]);
    const batch = new RecordBatch(
      this.schema,
      makeData({ type, length: rows.length, nullCount: 0, children }),
    );
    return tableToIPC(new Table(this.schema, [batch]), "stream").subarray(this.head.length, -endMark);
  }
}

export interface DecodedMetrics {
  run: RunInfo;
  columns: string[];
  rows: MetricsRow[];
  /** Why reading stopped before the end of the bytes, if it did. */
  damage?: string;
}

/** Reads as far as the stream is whole: a file that is being written, or whose writer was killed, ends anywhere. */
export function decodeMetrics(bytes: Uint8Array): DecodedMetrics {
  const { length, damage } = checkedLength(bytes);
  if (length === 0) throw new Error(damage ?? "it is empty");
  const reader = RecordBatchReader.from(bytes.subarray(0, length));
  reader.open();
  const columns = reader.schema.fields.map((field) => field.name);
  const metadata = reader.schema.metadata.get(metadataKey);
  if (metadata === undefined) throw new Error(`its schema has no metadata "${metadataKey}"`);
  const run = JSON.parse(metadata) as RunInfo;
  const rows: MetricsRow[] = [];
  for (const batch of reader) {
    const vectors = columns.map((_, i) => batch.getChildAt(i));
    for (let i = 0; i < batch.numRows; i++) {
      const row: MetricsRow = {};
      vectors.forEach((vector, c) => {
        const value: unknown = vector?.get(i);
        if (typeof value === "number") row[columns[c]!] = value;
      });
      rows.push(row);
    }
  }
  return { run, columns, rows, damage };
}
