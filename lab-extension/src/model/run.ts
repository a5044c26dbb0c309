import { XPositions } from "./positions.js";
import type { MediaRecord, RunInfo } from "./protocol.js";
import type { ColumnBatch, ColumnValues } from "./runFiles/metricsStream.js";
import { type NonFiniteKind, Series } from "./series.js";

export type { ColumnBatch, ColumnValues };

/** Steps at which a column was not finite. */
export interface NonFiniteSteps {
  readonly column: string;
  readonly kind: NonFiniteKind;
  readonly firstStep: number;
  readonly lastStep: number;
  /** Values, not steps: a column need not have one in each row. */
  readonly count: number;
  /** No finite value has come since. */
  readonly isLast: boolean;
}

/** One training run: what it is and the history of its metrics. */
export class Run {
  /** @param firstRow - index of the oldest row that is here; `fillHistory` brings the ones before it. */
  constructor(info: RunInfo, firstRow = 0) {
    this.#info = info;
    this.#firstRow = firstRow;
  }

  get info(): RunInfo {
    return this.#info;
  }

  get id(): string {
    return this.#info.id;
  }

  /** Index in the run of the first row that is here. */
  get firstRow(): number {
    return this.#firstRow;
  }

  /** Rows that are here; rows are counted from the oldest of them. */
  get rowCount(): number {
    return this.#rowCount;
  }

  /** Index of the row to come, as the source counts. */
  get end(): number {
    return this.#firstRow + this.#rowCount;
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

  /** Where the rows lie when they are drawn over this column. */
  positions(column: string): XPositions {
    let positions = this.#positions.get(column);
    if (!positions) {
      positions = new XPositions(this, column);
      this.#positions.set(column, positions);
    }
    return positions;
  }

  /** The newest value of a column, NaN when it has none. */
  last(column: string): number {
    return this.#series.get(column)?.last ?? Number.NaN;
  }

  /** The step of a row, the row itself where it has none. */
  stepOf(row: number): number {
    return this.#series.get("step")?.at(row) ?? this.#firstRow + row;
  }

  /** Where columns were not finite, by column, first things first. */
  get nonFinite(): readonly NonFiniteSteps[] {
    return [...this.#series].flatMap(([column, series]) =>
      column === "step"
        ? []
        : series.nonFinite.map(({ from, to, kind }) => ({
            column,
            kind,
            firstStep: this.stepOf(series.rowOf(from)),
            lastStep: this.stepOf(series.rowOf(to - 1)),
            count: to - from,
            isLast: to === series.length,
          })),
    );
  }

  /** Rows whose step is not after the one before: a run that was resumed before where it had been. */
  get stepsBack(): readonly { readonly row: number; readonly from: number; readonly to: number }[] {
    const step = this.#series.get("step");
    if (!step) {
      return [];
    }
    return this.positions("step").breaks.map((row) => ({
      row,
      from: step.at(row - 1) ?? Number.NaN,
      to: step.at(row) ?? Number.NaN,
    }));
  }

  /** Images, sounds and the like, as they came. */
  get media(): readonly MediaRecord[] {
    return this.#media;
  }

  /** Steps after which the run was interrupted, as far as it was seen from here. */
  get interrupts(): readonly number[] {
    return this.#interrupts;
  }

  /** @param first - index of the first of them in the run, as the source counts; those that are here already are skipped. */
  addMedia(records: readonly MediaRecord[], first: number): void {
    for (const record of records.slice(Math.max(0, this.#mediaEnd - first))) {
      this.#media.push(record);
    }
    this.#mediaEnd = Math.max(this.#mediaEnd, first + records.length);
  }

  /** Takes the media of the run's index file, which has all of them. */
  setMedia(records: readonly MediaRecord[]): void {
    if (records.length >= this.#media.length) {
      this.#media.splice(0, this.#media.length, ...records);
      this.#mediaEnd = Math.max(this.#mediaEnd, records.length);
      this.#version += 1;
    }
  }

  update(info: RunInfo): void {
    if (info.status === "interrupted" && this.#info.status !== "interrupted") {
      const step = this.last("step");
      if (Number.isFinite(step) && this.#interrupts.at(-1) !== step) {
        this.#interrupts.push(step);
      }
    }
    this.#info = info;
    this.#version += 1;
  }

  /** Makes room for the rows that are to come in these columns. */
  reserve(columns: readonly string[], rowCount: number): void {
    for (const name of columns) {
      this.#reserved.set(name, rowCount);
      this.#series.get(name)?.reserve(rowCount);
    }
  }

  /**
   * Appends rows.
   *
   * @param firstRow - where the batch begins in the run, as the source counts; rows that are already here are skipped.
   * @returns false, and nothing is appended, when rows before the batch are missing.
   */
  append(batch: ColumnBatch, firstRow: number): boolean {
    const start = firstRow - this.#firstRow;
    if (start > this.#rowCount) {
      return false;
    }
    const skip = this.#rowCount - start;
    for (const [name, values] of batch.columns) {
      let series = this.#series.get(name);
      if (!series) {
        series = new Series();
        const reserved = this.#reserved.get(name) ?? 0;
        if (reserved > batch.rowCount) {
          series.reserve(reserved);
        }
      }
      series.pushColumn(start, values, skip, batch.rowCount);
      if (series.length > 0) {
        this.#series.set(name, series);
      }
    }
    this.#rowCount = Math.max(this.#rowCount, start + batch.rowCount);
    this.#version += 1;
    return true;
  }

  /** Forgets the rows from `row` on, as the source counts: a resumed run computes them again. */
  truncate(row: number): void {
    const count = Math.max(0, row - this.#firstRow);
    if (count >= this.#rowCount) {
      return;
    }
    this.#rowCount = count;
    for (const [name, series] of this.#series) {
      series.truncate(count);
      if (series.length === 0) {
        this.#series.delete(name);
      }
    }
    this.#positions.clear();
    this.#version += 1;
  }

  /**
   * Puts the rows before the first one here in their place.
   *
   * @param history - the same run from its files, from its beginning. Its series are taken over.
   * @returns false, and nothing is changed, where it does not reach as far as the first row here.
   */
  fillHistory(history: Run): boolean {
    if (this.#firstRow === 0) {
      return true;
    }
    if (history.#firstRow > 0 || history.end < this.#firstRow) {
      return false;
    }
    history.truncate(this.#firstRow);
    for (const [name, series] of this.#series) {
      let whole = history.#series.get(name);
      if (!whole) {
        whole = new Series();
        history.#series.set(name, whole);
      }
      whole.reserve(whole.length + series.length);
      const { values } = series;
      for (let i = 0; i < values.length; i++) {
        whole.push(this.#firstRow + series.rowOf(i), values[i]!);
      }
    }
    this.#series.clear();
    for (const [name, series] of history.#series) {
      this.#series.set(name, series);
    }
    this.#rowCount += this.#firstRow;
    this.#firstRow = 0;
    this.#positions.clear();
    this.#version += 1;
    return true;
  }

  #info: RunInfo;
  #firstRow: number;
  readonly #media: MediaRecord[] = [];
  readonly #interrupts: number[] = [];
  #mediaEnd = 0;
  #rowCount = 0;
  #version = 0;
  readonly #reserved = new Map<string, number>();
  readonly #series = new Map<string, Series>();
  readonly #positions = new Map<string, XPositions>();
}
