import { appendFileSync, closeSync, fstatSync, mkdirSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import type { JsonValue } from "../files/json.js";

export type MediaKind = "image" | "audio" | "video" | "histogram" | "table" | "text";

/** A line of `media/index.jsonl`. Small things lie in `data`, others in `file`. */
export interface MediaRecord {
  step: number;
  /** Seconds since the run's start. */
  time: number;
  name: string;
  kind: MediaKind;
  mime: string;
  /** Relative to the run's folder. */
  file?: string;
  /** Of the file. */
  bytes?: number;
  data?: JsonValue;
  caption?: string;
  /** Of images and videos, in pixels. */
  width?: number;
  height?: number;
  /** Of videos. */
  frames?: number;
  fps?: number;
  /** Of audio. */
  sampleRate?: number;
  channels?: number;
  /** Of audio and videos. */
  seconds?: number;
  /** Values beyond the range, which were cut to it, and values that were NaN. Absent where there were none. */
  clipped?: number;
  nan?: number;
  /** Of tables: rows that were left out. */
  omitted?: number;
}

export const mediaFolder = "media";
const indexName = "index.jsonl";

/**
 * The lines of a run's `media/index.jsonl` that count: a line `{ kind: "resume", step }` ends those after its step, which
 * are computed again; a line that is not whole (its writer was killed) is left out.
 *
 * @param folder - of the run
 */
export function readMedia(folder: string): MediaRecord[] {
  let text: string;
  try {
    text = readFileSync(join(folder, mediaFolder, indexName), "utf8");
  } catch {
    return [];
  }
  let records: MediaRecord[] = [];
  for (const line of text.split("\n")) {
    const record = parse(line);
    if (record === undefined) continue;
    if (record.kind === "resume") records = records.filter(({ step }) => step <= record.step);
    else records.push(record as MediaRecord);
  }
  return records;
}

/** The lines that there are, obsolete ones too. */
export function linesOfIndex(folder: string): number {
  try {
    return readFileSync(join(folder, mediaFolder, indexName), "utf8").split("\n").length - 1;
  } catch {
    return 0;
  }
}

function parse(line: string): MediaRecord | { kind: "resume"; step: number } | undefined {
  try {
    const record = JSON.parse(line) as { kind?: unknown; step?: unknown } | null;
    return typeof record?.kind === "string" && typeof record.step === "number"
      ? (record as MediaRecord)
      : undefined;
  } catch {
    return undefined;
  }
}

/** Appends a line, on a line of its own even after a writer that was killed in the middle of one. */
export function appendToIndex(folder: string, record: MediaRecord | { kind: "resume"; step: number }): void {
  const place = join(folder, mediaFolder);
  mkdirSync(place, { recursive: true });
  const path = join(place, indexName);
  appendFileSync(path, `${endsInLine(path) ? "" : "\n"}${JSON.stringify(record)}\n`);
}

function endsInLine(path: string): boolean {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch {
    return true;
  }
  try {
    const { size } = fstatSync(file);
    const last = new Uint8Array(1);
    return size === 0 || (readSync(file, last, 0, 1, size - 1) === 1 && last[0] === 0x0a);
  } finally {
    closeSync(file);
  }
}
