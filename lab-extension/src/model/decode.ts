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

/**
 * Reads a run's file (`metrics.arrow`): the rows, and the run in the schema's `aronnax.run`. A file that is being
 * written, or whose writer was killed, may end anywhere: it is read as far as it is whole.
 *
 * @param name - what to call a run whose file does not say.
 * @throws Error when it is not a run's file, with what is wrong.
 */
export async function decodeRunFile(
  bytes: Uint8Array,
  name: string,
): Promise<{ info: RunInfo; rows: ColumnBatch }> {
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
  };
}
