/** Records of conversations, as files and arrays hold them. */
import { createReadStream } from "node:fs";
import { createGunzip } from "node:zlib";
import { DataError } from "../errors.js";
import { fileBytes, pathList, readBytes, readLines, unreadable } from "../text/sources.js";
import { arrowRows, parquetRows } from "../text/table-files.js";

/** Paths (by their endings `.json`, `.jsonl` or `.ndjson`, `.csv`, `.tsv`, `.parquet`, `.arrow`; text also as `.gz`), or records. */
export type ChatInput = string | readonly string[] | readonly object[];

/** A record, or why there is none; where it stands. */
export type FoundRecord =
  | { readonly record: Readonly<Record<string, unknown>>; readonly where: string }
  | { readonly reason: string; readonly where: string };

/** A name for errors and progress. */
export function inputName(input: ChatInput): string {
  if (typeof input === "string") return input;
  return typeof input[0] === "string" ? (input as readonly string[]).join(", ") : "conversations";
}

export async function* recordsOf(input: ChatInput): AsyncGenerator<FoundRecord> {
  if (typeof input !== "string" && !Array.isArray(input)) {
    throw new DataError(
      `A source of conversations is ${input === null ? "null" : typeof input}.`,
      "Give a path, several paths, or an array of records such as { messages: [{ role, content }] }.",
    );
  }
  if (typeof input !== "string" && typeof input[0] !== "string") {
    for (const [i, record] of input.entries()) yield recordOf(record, `record ${i}`);
    return;
  }
  for (const path of pathList(input as string | readonly string[])) {
    fileBytes(path);
    yield* fileRecords(path);
  }
}

async function* fileRecords(path: string): AsyncGenerator<FoundRecord> {
  switch (/\.(\w+)(?:\.gz)?$/.exec(path)?.[1]?.toLowerCase()) {
    case "jsonl":
    case "ndjson":
      return yield* jsonLineRecords(path);
    case "json":
      return yield* jsonRecords(path);
    case "csv":
      return yield* delimitedRecords(path, ",");
    case "tsv":
      return yield* delimitedRecords(path, "\t");
    case "parquet":
      for await (const { record, row } of parquetRows(path))
        yield recordOf(plain(record), `${path}, row ${row}`);
      return;
    case "arrow":
      for await (const { record, row } of arrowRows(path))
        yield recordOf(plain(record), `${path}, row ${row}`);
      return;
    default:
      throw new DataError(
        `${path} is of no kind that conversations are read from.`,
        "Give .json, .jsonl, .csv, .tsv, .parquet or .arrow, or an array of records.",
      );
  }
}

async function* jsonLineRecords(path: string): AsyncGenerator<FoundRecord> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let line = 0;
  for await (const { bytes } of readLines(path)) {
    const where = `${path}, line ${++line}`;
    let source: string;
    try {
      source = decoder.decode(bytes);
    } catch {
      yield { where, reason: "the line is not UTF-8" };
      continue;
    }
    if (source.trim() === "") continue;
    try {
      yield recordOf(JSON.parse(source), where);
    } catch (error) {
      yield { where, reason: `not valid JSON: ${(error as Error).message}` };
    }
  }
}

/** An array of records, or an object with one. */
async function* jsonRecords(path: string): AsyncGenerator<FoundRecord> {
  const parts: Buffer[] = [];
  for await (const { bytes } of readBytes(path)) parts.push(bytes);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(parts)));
  } catch (error) {
    throw new DataError(
      `${path} is not valid JSON: ${(error as Error).message}`,
      "If each line of it is an object, name it .jsonl.",
      { cause: error },
    );
  }
  const lists = Array.isArray(value)
    ? [value]
    : Object.values((value ?? {}) as object).filter((field) => Array.isArray(field));
  if (lists.length !== 1)
    throw new DataError(
      `${path} holds ${lists.length === 0 ? "no list" : `${lists.length} lists`} of records.`,
      "Give an array of records, or an object with one.",
    );
  for (const [i, record] of (lists[0] as unknown[]).entries()) yield recordOf(record, `${path}, record ${i}`);
}

/** Lines of values under names in the first line (RFC 4180). */
async function* delimitedRecords(path: string, delimiter: string): AsyncGenerator<FoundRecord> {
  const { parse } = await import("csv-parse");
  const file = createReadStream(path);
  const parser = parse({ columns: true, bom: true, delimiter, info: true, skip_empty_lines: true });
  // `pipe` forwards no errors.
  const failed = (error: Error) => parser.destroy(error);
  file.on("error", failed);
  if (path.endsWith(".gz")) file.pipe(createGunzip()).on("error", failed).pipe(parser);
  else file.pipe(parser);
  try {
    for await (const { record, info } of parser as AsyncIterable<{
      record: Record<string, string>;
      info: { records: number };
    }>)
      yield recordOf(record, `${path}, record ${info.records - 1}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall !== undefined) throw unreadable(path, error);
    throw new DataError(
      `${path} cannot be read as ${delimiter === "," ? "CSV" : "TSV"}: ${(error as Error).message}`,
      "Quote fields with delimiters, quotes or line ends in them, and double the quotes (RFC 4180).",
      { cause: error },
    );
  } finally {
    file.destroy();
  }
}

function recordOf(value: unknown, where: string): FoundRecord {
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return { record: value as Record<string, unknown>, where };
  const what = value === null ? "null" : Array.isArray(value) ? "an array" : typeof value;
  return { where, reason: `the record is ${what}, not an object` };
}

/** Values of tables as those of JSON: vectors as arrays, rows as objects, integers of 64 bits as numbers. Nulls are left out of objects. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  const { toJSON } = value as { toJSON?: () => unknown };
  if (typeof toJSON === "function" && !Array.isArray(value)) return plain(toJSON.call(value));
  if (Array.isArray(value)) return value.map(plain);
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, field]) => field !== null && field !== undefined)
      .map(([name, field]) => [name, plain(field)]),
  );
}
