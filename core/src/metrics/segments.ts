import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { replaceFileSync, writeAllSync } from "../files/atomic.js";
import { MetricsEncoder, type RunInfo } from "./arrow.js";
import type { ByteSource } from "./arrow-read.js";
import type { ColumnTable } from "./columns.js";

/** The first segment of a run; the ones after it are `metrics.1.arrow`, `metrics.2.arrow`, … */
export const firstSegment = "metrics.arrow";

/** Rows in one batch: what a reader takes at once. */
const batchRows = 1 << 16;

/** The names of the segments in a run's folder, in order. */
export function segmentsIn(folder: string): string[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  return names
    .flatMap((name) => {
      const number = segmentNumber(name);
      return number === undefined ? [] : [{ name, number }];
    })
    .sort((a, b) => a.number - b.number)
    .map(({ name }) => name);
}

function segmentNumber(name: string): number | undefined {
  if (name === firstSegment) return 0;
  const number = /^metrics\.([1-9]\d{0,8})\.arrow$/.exec(name)?.[1];
  return number === undefined ? undefined : Number(number);
}

/** A file that is read by ranges, through a window, so that many small reads are few large ones. */
export class FileSource implements ByteSource {
  /** When it was opened. */
  readonly size: number;
  readonly #file: number;
  #window: Uint8Array = new Uint8Array();
  #start = 0;

  constructor(path: string) {
    this.#file = openSync(path, "r");
    this.size = fstatSync(this.#file).size;
  }

  read(offset: number, length: number): Uint8Array {
    const end = offset + length;
    if (offset < this.#start || end > this.#start + this.#window.length) {
      const wanted = Math.min(this.size - offset, Math.max(length, 1 << 20));
      if (this.#window.buffer.byteLength < wanted) this.#window = new Uint8Array(wanted);
      const window = new Uint8Array(this.#window.buffer, 0, wanted);
      let done = 0;
      while (done < wanted) {
        const read = readSync(this.#file, window, done, wanted - done, offset + done);
        if (read === 0) break;
        done += read;
      }
      this.#window = window.subarray(0, done);
      this.#start = offset;
      if (done < length) throw new Error(`the file ended at byte ${offset + done} while it was read`);
    }
    return this.#window.subarray(offset - this.#start, end - this.#start);
  }

  close(): void {
    closeSync(this.#file);
  }
}

/**
 * Writes a run's rows as Arrow IPC streams to which whole record batches are appended; nothing that was written is
 * changed. The columns of a stream are fixed, so that a new column opens a further segment, which begins where the one
 * before ended. A segment says at which row of the run it begins: one that begins further back, after a resume, makes
 * the rows from there on obsolete.
 */
export class SegmentWriter {
  #encoder: MetricsEncoder | undefined;
  #path = "";
  /** Rows of the table that are in the files, and the length of the segment now written. */
  #writtenRows: number;
  #writtenBytes = 0;

  /** @param writtenRows - how many of the table's rows earlier segments in the folder hold. */
  constructor(
    private readonly folder: string,
    private readonly info: RunInfo,
    writtenRows: number,
  ) {
    this.#writtenRows = writtenRows;
  }

  /** Writes the rows that are not in the files yet. @returns whether a segment was opened */
  write(rows: ColumnTable, columns: readonly string[]): boolean {
    let opened = false;
    const current = this.#path === "" ? undefined : statSync(this.#path, { throwIfNoEntry: false })?.size;
    if (this.#encoder === undefined || current !== this.#writtenBytes) {
      // Where the file was deleted or changed by somebody else, all rows are written anew.
      if (this.#encoder !== undefined) this.#writtenRows = 0;
      this.#open(columns);
      opened = true;
    } else if (columns.some((name) => !this.#encoder!.columns.includes(name))) {
      // A segment without rows is begun again in its place.
      this.#open(columns, this.#writtenBytes === this.#encoder.head.length ? this.#path : undefined);
      opened = true;
    }
    while (this.#writtenRows < rows.rowCount) {
      const to = Math.min(rows.rowCount, this.#writtenRows + batchRows);
      this.#append(this.#encoder!.batch(rows, this.#writtenRows, to));
      this.#writtenRows = to;
    }
    return opened;
  }

  /** Has the system write what it holds back. */
  sync(): void {
    if (this.#path === "") return;
    const file = openSync(this.#path, "r+");
    try {
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  }

  #open(columns: readonly string[], path = this.#nextPath()): void {
    const encoder = new MetricsEncoder(columns, this.info, this.#writtenRows);
    replaceFileSync(path, encoder.head);
    this.#encoder = encoder;
    this.#path = path;
    this.#writtenBytes = encoder.head.length;
  }

  #nextPath(): string {
    mkdirSync(this.folder, { recursive: true });
    const last = segmentsIn(this.folder).at(-1);
    const number = last === undefined ? 0 : segmentNumber(last)! + 1;
    return join(this.folder, number === 0 ? firstSegment : `metrics.${number}.arrow`);
  }

  #append(bytes: Uint8Array): void {
    const file = openSync(this.#path, "a");
    try {
      writeAllSync(file, bytes);
    } catch (error) {
      // A part of a batch in the middle would hide all that follows.
      ftruncateSync(file, this.#writtenBytes);
      throw error;
    } finally {
      closeSync(file);
    }
    this.#writtenBytes += bytes.length;
  }
}

export function hasSegments(folder: string): boolean {
  return existsSync(join(folder, firstSegment)) || segmentsIn(folder).length > 0;
}
