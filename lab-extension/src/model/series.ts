import { Extremes } from "./extremes.js";
import type { ColumnValues } from "./runFiles/metricsStream.js";

export type NonFiniteKind = "NaN" | "Infinity" | "-Infinity";

/** Values that are not finite, one after another: from index `from` up to `to` of a series. */
export interface NonFiniteRange {
  readonly from: number;
  to: number;
  readonly kind: NonFiniteKind;
}

const FIRST_CAPACITY = 64;
const GROWTH = 1.5;

/**
 * The present values of one column. A metric that is logged now and then (validation loss) costs only what was logged, with the row of each;
 * one that every row has needs no rows. NaN and infinities are values; absent is absent.
 */
export class Series {
  get length(): number {
    return this.#length;
  }

  /** The values; a view that the next `push` may leave stale. */
  get values(): Float64Array {
    return this.#values.subarray(0, this.#length);
  }

  /** The newest value, NaN when there is none. */
  get last(): number {
    return this.#length === 0 ? Number.NaN : this.#values[this.#length - 1]!;
  }

  /** The last row that has a value, -1 when there is none. */
  get lastRow(): number {
    return this.#length === 0 ? -1 : this.rowOf(this.#length - 1);
  }

  /** Where the values are that are not finite. */
  get nonFinite(): readonly NonFiniteRange[] {
    return this.#nonFinite;
  }

  /** Grows by any change but more values. */
  get generation(): number {
    return this.#generation;
  }

  /** The row of the value at `index`. */
  rowOf(index: number): number {
    return this.#rows ? this.#rows[index]! : this.#first + index;
  }

  /** Makes room for as many values, where it is known how many will come. */
  reserve(count: number): void {
    if (count > this.#values.length) {
      this.#resize(count);
    }
  }

  push(row: number, value: number): void {
    this.#makeRoom(1);
    this.#place(row);
    this.#values[this.#length] = value;
    this.#note(this.#length, value);
    this.#length += 1;
  }

  /** Appends the values that a batch has, its first row being row `start` here; rows before `from` of the batch are left out. */
  pushColumn(start: number, { values, present }: ColumnValues, from: number, rowCount: number): void {
    if (present) {
      for (let i = from; i < rowCount; i++) {
        if ((present[i >> 3]! >> (i & 7)) & 1) {
          this.push(start + i, values[i]!);
        }
      }
      return;
    }
    const count = rowCount - from;
    if (count <= 0) {
      return;
    }
    if (this.#length === 0 && from === 0 && count > FIRST_CAPACITY && count >= this.#values.length) {
      this.#values = values; // they are whoever's who reads them first
      this.#first = start;
      this.#rows = undefined;
    } else {
      this.#makeRoom(count);
      const isContiguous = this.#length === 0 || start + from === this.lastRow + 1;
      if (this.#rows === undefined && isContiguous) {
        if (this.#length === 0) {
          this.#first = start + from;
        }
      } else {
        const rows = this.#ownRows();
        for (let i = 0; i < count; i++) {
          rows[this.#length + i] = start + from + i;
        }
      }
      this.#values.set(
        from === 0 ? values.subarray(0, count) : values.subarray(from, rowCount),
        this.#length,
      );
    }
    const end = this.#length + count;
    for (let i = this.#length; i < end; i++) {
      const value = this.#values[i]!;
      // The difference of a finite value and itself is 0, of any other NaN.
      if (value - value !== 0) {
        this.#note(i, value);
      }
    }
    this.#length = end;
  }

  /** Forgets the values of rows from `row` on. */
  truncate(row: number): void {
    let length = this.#length;
    if (length === 0 || this.lastRow < row) {
      return;
    }
    length = this.#lowerBound(row);
    this.#length = length;
    while ((this.#nonFinite.at(-1)?.from ?? -1) >= length) {
      this.#nonFinite.pop();
    }
    const last = this.#nonFinite.at(-1);
    if (last) {
      last.to = Math.min(last.to, length);
    }
    this.#extremes?.truncate(length);
    this.#generation += 1;
  }

  /** The value at `row`, or undefined when the row has none. */
  at(row: number): number | undefined {
    const index = this.indexOf(row);
    return index < 0 ? undefined : this.#values[index];
  }

  /** Index of the value of `row`, -1 when the row has none. */
  indexOf(row: number): number {
    if (this.#rows === undefined) {
      const index = row - this.#first;
      return index >= 0 && index < this.#length ? index : -1;
    }
    const index = this.#lowerBound(row);
    return index < this.#length && this.#rows[index] === row ? index : -1;
  }

  /** Index of the entry whose row is nearest to `row`, -1 when empty. */
  nearest(row: number): number {
    if (this.#length === 0) {
      return -1;
    }
    const index = Math.min(this.#lowerBound(row), this.#length - 1);
    return index > 0 && row - this.rowOf(index - 1) <= Math.abs(this.rowOf(index) - row) ? index - 1 : index;
  }

  /** The first index whose row is not before `row`. */
  lowerBound(row: number): number {
    return this.#lowerBound(row);
  }

  /** Where extremes of ranges are, up to date. */
  get extremes(): Extremes {
    this.#extremes ??= new Extremes();
    this.#extremes.extend(this.#values, this.#length);
    return this.#extremes;
  }

  #lowerBound(row: number): number {
    if (this.#rows === undefined) {
      return Math.min(Math.max(0, row - this.#first), this.#length);
    }
    let low = 0;
    let high = this.#length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#rows[middle]! < row) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  #note(index: number, value: number): void {
    if (Number.isFinite(value)) {
      return;
    }
    const kind = Number.isNaN(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
    const last = this.#nonFinite.at(-1);
    if (last && last.to === index && last.kind === kind) {
      last.to = index + 1;
    } else {
      this.#nonFinite.push({ from: index, to: index + 1, kind });
    }
  }

  #place(row: number): void {
    if (this.#length === 0 && this.#rows === undefined) {
      this.#first = row;
    } else if (this.#rows !== undefined || row !== this.#first + this.#length) {
      this.#ownRows()[this.#length] = row;
    }
  }

  /** Rows of their own, from the first gap on. */
  #ownRows(): Uint32Array {
    if (this.#rows === undefined) {
      this.#rows = new Uint32Array(this.#values.length);
      for (let i = 0; i < this.#length; i++) {
        this.#rows[i] = this.#first + i;
      }
    }
    return this.#rows;
  }

  #makeRoom(count: number): void {
    const needed = this.#length + count;
    if (needed > this.#values.length) {
      this.#resize(Math.max(needed, Math.ceil(this.#values.length * GROWTH), FIRST_CAPACITY));
    }
  }

  #resize(capacity: number): void {
    const values = new Float64Array(capacity);
    values.set(this.#values.subarray(0, this.#length));
    this.#values = values;
    if (this.#rows) {
      const rows = new Uint32Array(capacity);
      rows.set(this.#rows.subarray(0, this.#length));
      this.#rows = rows;
    }
  }

  #length = 0;
  #first = 0;
  #generation = 0;
  #rows: Uint32Array | undefined;
  #values: Float64Array = new Float64Array();
  #extremes: Extremes | undefined;
  readonly #nonFinite: NonFiniteRange[] = [];
}
