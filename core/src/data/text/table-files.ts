import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { RecordBatchReader } from "apache-arrow";
import { type AsyncBuffer, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { DataError } from "../errors.js";
import { fileBytes, filesFingerprint, pathList, type TextSource, totalBytes, unreadable } from "./sources.js";

export interface TableOptions {
  /** The column that holds the text. Default `"text"`. */
  column?: string;
}

/** Parquet files, a row a document, read one row group at a time. Null texts are left out. */
export function parquetFiles(paths: string | readonly string[], options: TableOptions = {}): TextSource {
  const list = pathList(paths);
  const column = options.column ?? "text";
  return {
    name: list.join(", "),
    size: totalBytes(list),
    recipe: { kind: "parquet", paths: list, options: { column } },
    fingerprint: () => filesFingerprint(list, ["parquet", column]),
    async *documents() {
      let done = 0;
      for (const path of list) {
        const bytes = fileBytes(path);
        for await (const { record, row, rows } of parquetRows(path, column)) {
          const consumed = done + (bytes * (row + 1)) / rows;
          yield* documentOf(record[column], path, row, column, consumed);
        }
        done += bytes;
      }
    },
  };
}

/** A row of a table, numbered from 0. */
export interface TableRow {
  readonly record: Readonly<Record<string, unknown>>;
  readonly row: number;
  /** Rows of the file. */
  readonly rows: number;
}

/**
 * Rows of a Parquet file, one row group at a time: all columns, or one that must be there.
 *
 * @param options.utf8 - whether bytes of no declared kind are texts; default true
 */
export async function* parquetRows(
  path: string,
  column?: string,
  { utf8 = true } = {},
): AsyncGenerator<TableRow> {
  const bytes = fileBytes(path);
  const handle = await open(path, "r").catch((error: unknown) => {
    throw unreadable(path, error);
  });
  try {
    const file: AsyncBuffer = {
      byteLength: bytes,
      async slice(start, end = bytes) {
        const buffer = new Uint8Array(end - start);
        await handle.read(buffer, 0, buffer.length, start);
        return buffer.buffer;
      },
    };
    const metadata = await parquetMetadataAsync(file);
    if (column !== undefined) {
      const names = metadata.schema.slice(1).map((element) => element.name);
      requireColumn(path, column, names);
    }
    const rows = Number(metadata.num_rows);
    const columns = column === undefined ? undefined : [column];
    let rowStart = 0;
    for (const group of metadata.row_groups) {
      const rowEnd = rowStart + Number(group.num_rows);
      const records = await parquetReadObjects({
        file,
        metadata,
        columns,
        rowStart,
        rowEnd,
        compressors,
        utf8,
      });
      for (const [i, record] of records.entries()) yield { record, row: rowStart + i, rows };
      rowStart = rowEnd;
    }
  } catch (error) {
    throw damaged(path, "Parquet", error);
  } finally {
    await handle.close();
  }
}

/** Rows of an Arrow file or stream, one record batch at a time. */
export async function* arrowRows(path: string): AsyncGenerator<Omit<TableRow, "rows">> {
  try {
    const reader = await RecordBatchReader.from(createReadStream(path));
    await reader.open();
    const names = reader.schema.fields.map((field) => field.name);
    let row = 0;
    for await (const batch of reader) {
      const columns = names.map((name) => [name, batch.getChild(name)] as const);
      for (let i = 0; i < batch.numRows; i++)
        yield { record: Object.fromEntries(columns.map(([name, of]) => [name, of?.get(i)])), row: row++ };
    }
  } catch (error) {
    throw damaged(path, "Arrow", error);
  }
}

/** Arrow IPC files or streams (as Hugging Face's `datasets` keeps them), a row a document. Null texts are left out. */
export function arrowFiles(paths: string | readonly string[], options: TableOptions = {}): TextSource {
  const list = pathList(paths);
  const column = options.column ?? "text";
  return {
    name: list.join(", "),
    size: totalBytes(list),
    recipe: { kind: "arrow", paths: list, options: { column } },
    fingerprint: () => filesFingerprint(list, ["arrow", column]),
    async *documents() {
      let done = 0;
      for (const path of list) {
        try {
          const reader = await RecordBatchReader.from(createReadStream(path));
          await reader.open();
          requireColumn(
            path,
            column,
            reader.schema.fields.map((field) => field.name),
          );
          let row = 0;
          for await (const batch of reader) {
            const texts = batch.getChild(column);
            for (let i = 0; i < batch.numRows; i++)
              yield* documentOf(texts?.get(i), path, row++, column, done);
          }
        } catch (error) {
          throw damaged(path, "Arrow", error);
        }
        done += fileBytes(path);
      }
    },
  };
}

function* documentOf(value: unknown, path: string, row: number, column: string, consumed: number) {
  if (value === null || value === undefined) return;
  if (typeof value !== "string") {
    throw new DataError(`${path}, row ${row}: the column "${column}" holds ${typeof value}, not text.`);
  }
  yield { text: value, consumed };
}

function requireColumn(path: string, column: string, columns: readonly string[]): void {
  if (columns.includes(column)) return;
  throw new DataError(
    `${path} has no column "${column}".`,
    `It has: ${columns.join(", ") || "none"}. Pass \`column\`.`,
  );
}

function damaged(path: string, format: string, error: unknown): Error {
  if (error instanceof DataError) return error;
  return new DataError(`${path} cannot be read as ${format}: ${(error as Error).message}`, undefined, {
    cause: error,
  });
}
