import { createHash } from "node:crypto";
import { createReadStream, statSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { refuseUnknown } from "../../graph/spelling.js";
import { DataError } from "../errors.js";

/** A document and how much of its source has been read with it, in the unit of `TextSource.size`. */
export interface TextDocument {
  text: string;
  consumed: number;
}

/** Documents in a fixed order: the same every time, or a resumed run would read other data. */
export interface TextSource {
  /** Names the source in errors and progress. */
  readonly name: string;
  /** Bytes or documents in all, for progress; undefined if unknown. */
  readonly size: number | undefined;
  /** Reads from the start. */
  documents(): AsyncIterable<TextDocument>;
  /** Text that is equal only for equal documents; sources without it are not cached. */
  fingerprint?(): Promise<string>;
  /** Of a source that leaves broken lines out: those found so far. */
  readonly broken?: BrokenLines;
  /** The source as plain data, so that another thread can read it; sources without it are read on the main thread. */
  readonly recipe?: SourceRecipe;
}

/** What makes a source again; see `sourceFromRecipe`. */
export type SourceRecipe =
  | { kind: "documents"; texts: readonly string[]; name: string }
  | { kind: "text"; paths: readonly string[]; options: TextFileOptions }
  | { kind: "jsonl"; paths: readonly string[]; options: { text: string; broken?: "refuse" | "skip" } }
  | { kind: "parquet" | "arrow"; paths: readonly string[]; options: { column: string } };

/** Each string is a document. */
export function documents(texts: readonly string[], name = "documents"): TextSource {
  const odd = texts.findIndex((text) => typeof text !== "string");
  if (odd >= 0) {
    throw new DataError(
      `Document ${odd} of "${name}" is of type ${typeof texts[odd]}, not a string.`,
      "Map the records to their text first, for example `records.map((record) => record.text)`.",
    );
  }
  return {
    name,
    size: texts.length,
    recipe: { kind: "documents", texts, name },
    async *documents() {
      for (let i = 0; i < texts.length; i++) yield { text: texts[i]!, consumed: i + 1 };
    },
    async fingerprint() {
      const hash = createHash("sha256");
      for (const text of texts) hash.update(`${text.length}:`).update(text);
      return hash.digest("hex");
    },
  };
}

export interface TextFileOptions {
  /** Cuts a file into documents at this string, for example `"\n\n"` or `"<|endoftext|>"`. Default: a file is one document. */
  separator?: string;
  /** Bytes that are not UTF-8: `"refuse"` (default) or `"replace"` with U+FFFD. */
  invalidUtf8?: "refuse" | "replace";
}

/** Plain text files, UTF-8, or such compressed as `.gz`. Documents without any text are left out. */
export function textFiles(paths: string | readonly string[], options: TextFileOptions = {}): TextSource {
  refuseUnknown("textFiles: there is no option", Object.keys(options), ["separator", "invalidUtf8"]);
  const list = pathList(paths);
  const separator = options.separator;
  if (separator === "") throw new DataError("The separator of text files must not be empty.");
  return {
    name: list.join(", "),
    size: totalBytes(list),
    recipe: { kind: "text", paths: list, options },
    fingerprint: () => filesFingerprint(list, ["text", separator, options.invalidUtf8]),
    async *documents() {
      let done = 0;
      for (const path of list) {
        let consumed = done;
        const decoder = new TextDecoder("utf-8", { fatal: options.invalidUtf8 !== "replace" });
        let text = "";
        let offset = 0;
        const decode = (bytes?: Uint8Array) => {
          try {
            return bytes === undefined ? decoder.decode() : decoder.decode(bytes, { stream: true });
          } catch (error) {
            throw new DataError(
              `${path} is not UTF-8 text (near byte ${offset}).`,
              'Convert it, or pass `invalidUtf8: "replace"`.',
              { cause: error },
            );
          }
        };
        for await (const { bytes: chunk, read } of readBytes(path)) {
          text += decode(chunk);
          offset += chunk.length;
          consumed = done + read;
          if (separator === undefined) continue;
          const parts = text.split(separator);
          text = parts.pop()!;
          for (const part of parts) if (part.trim() !== "") yield { text: part, consumed };
        }
        text += decode();
        for (const part of separator === undefined ? [text] : text.split(separator)) {
          if (part.trim() !== "") yield { text: part, consumed };
        }
        done += fileBytes(path);
      }
    },
  };
}

/** A line of a JSON-lines file that gave no document. Lines count from 1. */
export interface BrokenLine {
  path: string;
  line: number;
  reason: string;
}

/** Broken lines found so far in a reading, the first 100 of them in full. */
export interface BrokenLines {
  count: number;
  lines: BrokenLine[];
}

export interface JsonLinesOptions {
  /** The field that holds the text, or a function from the record to the text. Default `"text"`. */
  text?: string | ((record: Record<string, unknown>) => string);
  /** `"refuse"` (default) stops at the first broken line; `"skip"` leaves broken lines out and counts them. */
  broken?: "refuse" | "skip";
  onBroken?: (line: BrokenLine) => void;
}

export interface JsonLinesSource extends TextSource {
  readonly broken: BrokenLines;
}

/** JSON lines: an object a line, UTF-8, plain or compressed as `.gz`. Blank lines are no records and no errors. */
export function jsonLines(
  paths: string | readonly string[],
  options: JsonLinesOptions = {},
): JsonLinesSource {
  refuseUnknown("jsonLines: there is no option", Object.keys(options), ["text", "broken", "onBroken"]);
  if (![undefined, "refuse", "skip"].includes(options.broken))
    throw new DataError(`broken must be "refuse" or "skip"; it is ${JSON.stringify(options.broken)}.`);
  const list = pathList(paths);
  const field = options.text ?? "text";
  const broken: BrokenLines = { count: 0, lines: [] };
  return {
    name: list.join(", "),
    size: totalBytes(list),
    broken,
    // What a function returns cannot be known beforehand.
    ...(typeof field === "string" && {
      ...(options.onBroken === undefined && {
        recipe: { kind: "jsonl" as const, paths: list, options: { text: field, broken: options.broken } },
      }),
      fingerprint: () => filesFingerprint(list, ["jsonl", field, options.broken]),
    }),
    async *documents() {
      let done = 0;
      let found = 0;
      for (const path of list) {
        let line = 0;
        for await (const { bytes, read } of readLines(path)) {
          line++;
          const record = readRecord(bytes, field);
          if (record === undefined) continue;
          if ("text" in record) {
            yield { text: record.text, consumed: done + read };
            continue;
          }
          const problem = { path, line, reason: record.reason };
          if (options.broken !== "skip") {
            throw new DataError(
              `${path}, line ${line}: ${record.reason}.`,
              'Mend the line, or pass `broken: "skip"` to leave such lines out and have them counted.',
            );
          }
          // A further reading finds the same ones again.
          if (++found > broken.count) {
            broken.count = found;
            if (found <= 100) broken.lines.push(problem);
          }
          options.onBroken?.(problem);
        }
        done += fileBytes(path);
      }
    },
  };
}

function readRecord(
  bytes: Uint8Array,
  field: string | ((record: Record<string, unknown>) => string),
): { text: string } | { reason: string } | undefined {
  let source: string;
  try {
    source = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return { reason: "the line is not UTF-8" };
  }
  if (source.trim() === "") return undefined;
  let record: unknown;
  try {
    record = JSON.parse(source);
  } catch (error) {
    return { reason: `not valid JSON: ${(error as Error).message}` };
  }
  if (typeof record !== "object" || record === null || Array.isArray(record)) {
    return {
      reason: `the record is ${Array.isArray(record) ? "an array" : `${record === null ? "null" : typeof record}`}, not an object`,
    };
  }
  const object = record as Record<string, unknown>;
  if (typeof field === "function") {
    try {
      const text = field(object);
      return typeof text === "string" ? { text } : { reason: `the text function returned ${typeof text}` };
    } catch (error) {
      return { reason: `the text function threw: ${(error as Error).message}` };
    }
  }
  const text = object[field];
  if (typeof text === "string") return { text };
  const fields = Object.keys(object).slice(0, 8).join(", ");
  return {
    reason:
      text === undefined
        ? `the record has no field "${field}" (it has: ${fields || "none"})`
        : `the field "${field}" is ${text === null ? "null" : typeof text}, not a string`,
  };
}

/** The lines of a file as bytes without their `\n`, and the bytes of the file that were read by then. */
export async function* readLines(path: string): AsyncIterable<{ bytes: Uint8Array; read: number }> {
  // Parts of a line that began in an earlier chunk.
  let begun: Buffer[] = [];
  let readSoFar = 0;
  for await (const { bytes: chunk, read } of readBytes(path)) {
    let start = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, start)) {
      const part = chunk.subarray(start, at);
      yield { bytes: begun.length === 0 ? part : Buffer.concat([...begun, part]), read };
      begun = [];
      start = at + 1;
    }
    if (start < chunk.length) begun.push(chunk.subarray(start));
    readSoFar = read;
  }
  if (begun.length > 0) yield { bytes: Buffer.concat(begun), read: readSoFar };
}

/** Files by content, and the options that decide which documents they give. */
export async function filesFingerprint(
  paths: readonly string[],
  options: readonly (string | undefined)[],
): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify(options));
  for (const path of paths) {
    hash.update(`${fileBytes(path)}:`);
    for await (const { bytes } of readBytes(path)) hash.update(bytes);
  }
  return hash.digest("hex");
}

/** A file's bytes, decompressed if its name ends in `.gz`, and how many bytes of the file were read by then. */
export async function* readBytes(path: string): AsyncIterable<{ bytes: Buffer; read: number }> {
  const file = createReadStream(path, { highWaterMark: 1 << 20 });
  try {
    if (!path.endsWith(".gz")) {
      for await (const bytes of file) yield { bytes, read: file.bytesRead };
      return;
    }
    const plain = createGunzip({ chunkSize: 1 << 20 });
    // A failure of the file must end the decompression as well.
    const through = pipeline(file, plain).catch(() => {});
    for await (const bytes of plain) yield { bytes, read: file.bytesRead };
    await through;
  } catch (error) {
    throw unreadable(path, error);
  } finally {
    file.destroy();
  }
}

export function pathList(paths: string | readonly string[]): string[] {
  const list = typeof paths === "string" ? [paths] : Array.from(paths ?? []);
  const odd = list.find((path) => typeof path !== "string");
  if (odd !== undefined)
    throw new DataError(`The name of a file is ${typeof odd}.`, "Give paths as strings.");
  if (list.length === 0) throw new DataError("The list of files is empty.");
  return list;
}

export function totalBytes(paths: readonly string[]): number {
  let bytes = 0;
  for (const path of paths) bytes += fileBytes(path);
  return bytes;
}

export function fileBytes(path: string): number {
  try {
    const stats = statSync(path);
    if (stats.isDirectory()) throw new Error("it is a folder");
    return stats.size;
  } catch (error) {
    throw unreadable(path, error);
  }
}

export function unreadable(path: string, error: unknown): Error {
  if (error instanceof DataError) return error;
  return new DataError(
    `The file ${path} cannot be read: ${(error as Error).message}`,
    `Paths are relative to ${process.cwd()}.`,
    { cause: error },
  );
}
