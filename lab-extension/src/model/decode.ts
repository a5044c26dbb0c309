import type { RecordBatch, Table } from "apache-arrow";
import type { RunInfo } from "./protocol.js";
import type { ColumnBatch } from "./run.js";

// Arrow is 214 kB: it is loaded with the first run, not with JupyterLab.
const loadArrow = () => import("apache-arrow");

/** Bytes at an offset of their own: Arrow reads float64 in place, which needs alignment. */
function aligned(buffer: ArrayBuffer | ArrayBufferView): Uint8Array {
  return ArrayBuffer.isView(buffer)
    ? new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength).slice()
    : new Uint8Array(buffer);
}

function columnsOf(table: Table): ColumnBatch {
  const columns = new Map<string, ArrayLike<number | null>>();
  for (const field of table.schema.fields) {
    const vector = table.getChild(field.name);
    if (!vector) {
      continue;
    }
    if (vector.nullCount === 0) {
      const values: unknown = vector.toArray();
      if (values instanceof Float64Array) {
        columns.set(field.name, values);
        continue;
      }
    }
    const values = new Array<number | null>(table.numRows);
    for (let i = 0; i < values.length; i++) {
      const value: unknown = vector.get(i);
      values[i] = value === null || value === undefined ? null : Number(value);
    }
    columns.set(field.name, values);
  }
  return { rowCount: table.numRows, columns };
}

/**
 * Reads an Arrow IPC stream of metrics.
 *
 * @throws Error when the bytes are not Arrow.
 */
export async function decodeRows(buffer: ArrayBuffer | ArrayBufferView): Promise<ColumnBatch> {
  const { tableFromIPC } = await loadArrow();
  return columnsOf(tableFromIPC(aligned(buffer)));
}

/** A run's file (`metrics.arrow`), or a further segment of its rows (`metrics.1.arrow`, …). */
interface Segment {
  readonly info: RunInfo;
  readonly rows: ColumnBatch;
  /** Index in the run of its first row; rows from there on of the segments before are obsolete. */
  readonly firstRow: number;
}

/**
 * Reads a run's files: the rows, and the run in the schema's `aronnax.run`. A file that is being written, or whose writer
 * was killed, may end anywhere: it is read as far as it is whole.
 *
 * @param files - `metrics.arrow` and, in their order, the segments after it.
 * @param name - what to call a run whose file does not say.
 * @throws Error when the first is not a run's file, with what is wrong.
 */
export async function decodeRunFile(
  files: Uint8Array | readonly Uint8Array[],
  name: string,
): Promise<{ info: RunInfo; rows: ColumnBatch }> {
  const [first, ...rest] = await Promise.all(
    (files instanceof Uint8Array ? [files] : files).map((bytes, i) =>
      decodeSegment(bytes, name).catch((error: unknown) => {
        if (i === 0) {
          throw error;
        }
        return null; // a segment that is damaged costs its rows
      }),
    ),
  );
  const segments = [first!, ...rest.filter((segment) => segment !== null)];
  return { info: segments.at(-1)!.info, rows: joined(segments) };
}

function joined(segments: readonly Segment[]): ColumnBatch {
  if (segments.length === 1) {
    return segments[0]!.rows;
  }
  const columns = new Map<string, (number | null)[]>();
  let rowCount = 0;
  for (const { rows, firstRow } of segments) {
    const start = Math.min(firstRow, rowCount);
    rowCount = start + rows.rowCount;
    for (const name of rows.columns.keys()) {
      if (!columns.has(name)) {
        columns.set(name, []);
      }
    }
    for (const [name, values] of columns) {
      values.length = Math.min(values.length, start);
      const batch = rows.columns.get(name);
      for (let i = values.length; i < rowCount; i++) {
        values.push(i < start ? null : (batch?.[i - start] ?? null));
      }
    }
  }
  return { rowCount, columns };
}

async function decodeSegment(bytes: Uint8Array, name: string): Promise<Segment> {
  const { RecordBatchReader, Table } = await loadArrow();
  const reader = RecordBatchReader.from(aligned(bytes)).open();
  const { schema } = reader;
  if (!schema) {
    throw new Error(`${name} is not an Arrow IPC stream.`);
  }
  const batches: RecordBatch[] = [];
  try {
    for (const batch of reader) {
      batches.push(batch);
    }
  } catch {
    // The end of what is whole.
  }
  const rows = columnsOf(new Table(schema, batches));
  if (!rows.columns.has("step")) {
    throw new Error(
      `${name} is an Arrow stream without a "step" column, so it is not a run's metrics (its columns: ` +
        `${[...rows.columns.keys()].join(", ") || "none"}).`,
    );
  }
  const stored = JSON.parse(schema.metadata.get("aronnax.run") ?? "{}") as Partial<RunInfo>;
  return {
    info: {
      id: stored.id ?? name,
      name: stored.name ?? name,
      startedAt: stored.startedAt ?? 0,
      totalSteps: stored.totalSteps,
      status: stored.status,
      message: stored.message,
      path: stored.path,
    },
    rows,
    firstRow: Number(schema.metadata.get("aronnax.first_row") ?? 0),
  };
}
