import type { MediaRecord, RunInfo } from "./protocol.js";
import { Series } from "./series.js";

/** Rows as columns; absent cells are undefined or null, everything else is a value. */
export interface ColumnBatch {
  readonly rowCount: number;
  readonly columns: ReadonlyMap<string, ArrayLike<number | null>>;
}

/** One training run: what it is and the whole history of its metrics. */
export class Run {
  /** @param firstRow - index of the oldest row that the source still has; the ones before it are forgotten. */
  constructor(
    info: RunInfo,
    private readonly firstRow = 0,
  ) {
    this.#info = info;
  }

  get info(): RunInfo {
    return this.#info;
  }

  get id(): string {
    return this.#info.id;
  }

  /** Rows that are here; rows are counted from the oldest of them. */
  get rowCount(): number {
    return this.#rowCount;
  }

  /** Index of the row to come, as the source counts. */
  get end(): number {
    return this.firstRow + this.#rowCount;
  }

  /** Counts every change, so that a view knows whether it has drawn this state. */
  get version(): number {
    return this.#version;
  }

  /** Names of the columns that have at least one value, in the order they appeared. */
  get columns(): readonly string[] {
    return [...this.#series.keys()];
  }

  series(column: string): Series | undefined {
    return this.#series.get(column);
  }

  /** The newest value of a column, NaN when it has none. */
  last(column: string): number {
    return this.#series.get(column)?.last ?? Number.NaN;
  }

  /** The first row with a NaN or infinite value, and its column. */
  get firstNonFinite(): { readonly column: string; readonly step: number } | undefined {
    return this.#firstNonFinite;
  }

  /** Images, sounds and the like, as they came. */
  get media(): readonly MediaRecord[] {
    return this.#media;
  }

  /** @param first - index of the first of them in the run, as the source counts; those that are here already are skipped. */
  addMedia(records: readonly MediaRecord[], first: number): void {
    for (const record of records.slice(Math.max(0, this.#mediaEnd - first))) {
      this.#media.push(record);
    }
    this.#mediaEnd = Math.max(this.#mediaEnd, first + records.length);
  }

  update(info: RunInfo): void {
    this.#info = info;
    this.#version += 1;
  }

  /**
   * Appends rows.
   *
   * @param firstRow - where the batch begins in the run, as the source counts; rows that are already here are skipped.
   * @returns false, and nothing is appended, when rows before the batch are missing.
   */
  append(batch: ColumnBatch, firstRow: number): boolean {
    const start = firstRow - this.firstRow;
    if (start > this.#rowCount) {
      return false;
    }
    const skip = this.#rowCount - start;
    for (const [name, values] of batch.columns) {
      let series = this.#series.get(name);
      for (let i = skip; i < batch.rowCount; i++) {
        const value = values[i];
        if (value === null || value === undefined) {
          continue;
        }
        if (!series) {
          series = new Series();
          this.#series.set(name, series);
        }
        series.push(start + i, value);
        if (!this.#firstNonFinite && !Number.isFinite(value)) {
          this.#firstNonFinite = { column: name, step: batch.columns.get("step")?.[i] ?? firstRow + i };
        }
      }
    }
    this.#rowCount = Math.max(this.#rowCount, start + batch.rowCount);
    this.#version += 1;
    return true;
  }

  #info: RunInfo;
  readonly #media: MediaRecord[] = [];
  #mediaEnd = 0;
  #rowCount = 0;
  #version = 0;
  #firstNonFinite: { column: string; step: number } | undefined;
  readonly #series = new Map<string, Series>();
}
