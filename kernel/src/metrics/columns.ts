import { Field, Float64, makeData, RecordBatch, RecordBatchStreamWriter, Schema, Struct } from "apache-arrow";
import type { RowsSlice } from "./events.js";

/** One growing column: the values and, bit by bit, which of them are there. */
class Column {
  values = new Float64Array(256);
  present = new Uint8Array(256);

  set(index: number, value: number | null | undefined): void {
    if (index >= this.values.length) {
      const size = Math.max(index + 1, this.values.length * 2);
      const values = new Float64Array(size);
      values.set(this.values);
      this.values = values;
      const present = new Uint8Array(size);
      present.set(this.present);
      this.present = present;
    }
    const there = typeof value === "number";
    this.values[index] = there ? value : 0;
    this.present[index] = there ? 1 : 0;
  }

  drop(count: number, total: number): void {
    this.values.copyWithin(0, count, total);
    this.present.copyWithin(0, count, total);
    this.present.fill(0, total - count);
  }
}

/**
 * The rows of one run as columns of float64. Beyond `capacity` rows the oldest quarter is forgotten; indices go on
 * counting from the first row ever seen.
 */
export class ColumnStore {
  readonly #columns = new Map<string, Column>();
  #first = 0;
  #stored = 0;

  constructor(private readonly capacity = 200_000) {}

  /** Index of the oldest row still held. */
  get firstRow(): number {
    return this.#first;
  }

  /** Rows ever seen. */
  get rowCount(): number {
    return this.#first + this.#stored;
  }

  append(rows: Record<string, number | null>[]): void {
    for (const row of rows) {
      if (this.#stored >= this.capacity) this.#forget(Math.ceil(this.capacity / 4));
      for (const name of Object.keys(row)) {
        let column = this.#columns.get(name);
        if (!column) {
          column = new Column();
          this.#columns.set(name, column);
        }
        column.set(this.#stored, row[name]);
      }
      this.#stored += 1;
      for (const column of this.#columns.values()) {
        if (column.values.length < this.#stored) column.set(this.#stored - 1, null);
      }
    }
  }

  /** Many rows, as a run that goes on from another begins. */
  appendSlice({ count, columns }: RowsSlice): void {
    const entries = Object.entries(columns);
    for (let i = 0; i < count; i += 1) {
      const row: Record<string, number> = {};
      for (const [name, { values, present }] of entries) {
        if (!present || (present[i >> 3]! >> (i & 7)) & 1) row[name] = values[i]!;
      }
      this.append([row]);
    }
  }

  #forget(count: number): void {
    for (const column of this.#columns.values()) column.drop(count, this.#stored);
    this.#stored -= count;
    this.#first += count;
  }

  /** The rows from index `from` on, as an Arrow IPC stream of nullable Float64 columns. */
  toArrow(from: number): Uint8Array {
    const start = Math.max(from - this.#first, 0);
    const length = this.#stored - start;
    const fields: Field[] = [];
    const children = [];
    for (const [name, column] of this.#columns) {
      const nullBitmap = new Uint8Array(Math.ceil(length / 8));
      let nullCount = 0;
      for (let row = 0; row < length; row += 1) {
        if (column.present[start + row]) nullBitmap[row >> 3]! |= 1 << (row & 7);
        else nullCount += 1;
      }
      fields.push(new Field(name, new Float64(), true));
      children.push(
        makeData({
          type: new Float64(),
          length,
          nullCount,
          nullBitmap,
          data: column.values.slice(start, start + length),
        }),
      );
    }
    const schema = new Schema(fields);
    const batch = new RecordBatch(schema, makeData({ type: new Struct(fields), length, children }));
    const writer = new RecordBatchStreamWriter();
    writer.write(batch);
    writer.finish();
    return writer.toUint8Array(true);
  }
}
