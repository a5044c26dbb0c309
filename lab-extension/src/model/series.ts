/**
 * The present values of one column: `rows[i]` is the row that has `values[i]`. A metric that is logged now and then
 * (validation loss) costs only what was logged. NaN and infinities are values; absent is absent.
 */
export class Series {
  get length(): number {
    return this.#length;
  }

  /** Row numbers, ascending; a view that the next `push` may leave stale. */
  get rows(): Uint32Array {
    return this.#rows.subarray(0, this.#length);
  }

  /** Values beside `rows`; a view that the next `push` may leave stale. */
  get values(): Float64Array {
    return this.#values.subarray(0, this.#length);
  }

  /** The newest value, NaN when there is none. */
  get last(): number {
    return this.#length === 0 ? Number.NaN : this.#values[this.#length - 1]!;
  }

  push(row: number, value: number): void {
    if (this.#length === this.#rows.length) {
      const rows = new Uint32Array(this.#length * 2);
      const values = new Float64Array(this.#length * 2);
      rows.set(this.#rows);
      values.set(this.#values);
      this.#rows = rows;
      this.#values = values;
    }
    this.#rows[this.#length] = row;
    this.#values[this.#length] = value;
    this.#length += 1;
  }

  /** The value at `row`, or undefined when the row has none. */
  at(row: number): number | undefined {
    const index = this.nearest(row);
    return index >= 0 && this.#rows[index] === row ? this.#values[index] : undefined;
  }

  /** Index of the entry whose row is nearest to `row`, -1 when empty. */
  nearest(row: number): number {
    let low = 0;
    let high = this.#length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#rows[middle]! < row) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (low > 0 && row - this.#rows[low - 1]! <= this.#rows[low]! - row) {
      low -= 1;
    }
    return this.#length === 0 ? -1 : low;
  }

  #length = 0;
  #rows = new Uint32Array(64);
  #values = new Float64Array(64);
}
