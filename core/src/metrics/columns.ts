import type { MetricsRow } from "./hub.js";

/** Rows of one piece of a column; a column has a piece only where it has values. */
const pieceRows = 1 << 16;
const firstRows = 256;

/** Values of up to `pieceRows` rows and, bit by bit, which of them are there. */
interface Piece {
  values: Float64Array;
  present: Uint8Array;
}

type Pieces = (Piece | undefined)[];

/** The values of one column over some rows. Where `present` is given, a row without its bit has no value. */
export interface ColumnSlice {
  readonly values: Float64Array;
  /** Bit `i & 7` of byte `i >> 3` is row `i`'s. */
  readonly present?: Uint8Array;
}

/** Some rows, column by column; a column that is not there has no value in them. */
export interface RowsSlice {
  readonly count: number;
  readonly columns: Readonly<Record<string, ColumnSlice>>;
}

/**
 * A run's rows as columns of float64 in pieces: a million rows of 14 columns take 114 MB, a column that is seldom logged
 * little, and growing copies no more than a piece.
 */
export class ColumnTable {
  readonly #columns = new Map<string, Pieces>();
  #rowCount = 0;

  get rowCount(): number {
    return this.#rowCount;
  }

  /** In the order in which they appeared. */
  get columns(): string[] {
    return [...this.#columns.keys()];
  }

  append(row: Readonly<MetricsRow>): void {
    for (const name in row) set(this.#pieces(name), this.#rowCount, row[name]!);
    this.#rowCount++;
  }

  appendSlice({ count, columns }: RowsSlice): void {
    for (const [name, { values, present }] of Object.entries(columns)) {
      const pieces = this.#pieces(name);
      for (let i = 0; i < count; i++) {
        if (present === undefined || hasBit(present, i)) set(pieces, this.#rowCount + i, values[i]!);
      }
    }
    this.#rowCount += count;
  }

  /** Undefined where the row has no value in this column. */
  get(name: string, row: number): number | undefined {
    const pieces = this.#columns.get(name);
    return row < this.#rowCount && pieces !== undefined ? valueAt(pieces, row) : undefined;
  }

  /** Calls `visit` with the values of a column that are there, in their order, and with their rows. */
  each(name: string, visit: (value: number, row: number) => void): void {
    for (const [index, piece] of (this.#columns.get(name) ?? []).entries()) {
      if (piece === undefined) continue;
      const first = index * pieceRows;
      const rows = Math.min(piece.values.length, this.#rowCount - first);
      for (let i = 0; i < rows; i++) if (hasBit(piece.present, i)) visit(piece.values[i]!, first + i);
    }
  }

  /** A row with the values that it has. */
  row(index: number): MetricsRow {
    const row: MetricsRow = {};
    for (const name of this.#columns.keys()) {
      const value = this.get(name, index);
      if (value !== undefined) row[name] = value;
    }
    return row;
  }

  /** All rows as objects: convenient, and some hundred bytes a row. */
  rows(from = 0, to = this.#rowCount): MetricsRow[] {
    return Array.from({ length: Math.max(0, to - from) }, (_, i) => this.row(from + i));
  }

  /** One column over some rows, NaN where there is no value. */
  column(name: string, from = 0, to = this.#rowCount): Float64Array {
    const values = new Float64Array(Math.max(0, Math.min(to, this.#rowCount) - from)).fill(Number.NaN);
    const pieces = this.#columns.get(name) ?? [];
    for (let i = 0; i < values.length; i++) values[i] = valueAt(pieces, from + i) ?? Number.NaN;
    return values;
  }

  /** Copies of the rows from `from` to `to`, without the columns that have no value there. */
  slice(from: number, to: number): RowsSlice {
    const count = Math.max(0, Math.min(to, this.#rowCount) - from);
    const columns: Record<string, ColumnSlice> = {};
    for (const [name, pieces] of this.#columns) {
      const values = new Float64Array(count);
      const present = new Uint8Array((count + 7) >> 3);
      let some = 0;
      for (let i = 0; i < count; i++) {
        const value = valueAt(pieces, from + i);
        if (value === undefined) continue;
        values[i] = value;
        present[i >> 3]! |= 1 << (i & 7);
        some++;
      }
      if (some > 0) columns[name] = some === count ? { values } : { values, present };
    }
    return { count, columns };
  }

  /** Forgets the rows from `rowCount` on. */
  truncate(rowCount: number): void {
    if (rowCount >= this.#rowCount) return;
    this.#rowCount = rowCount;
    const whole = Math.ceil(rowCount / pieceRows);
    for (const pieces of this.#columns.values()) {
      if (pieces.length > whole) pieces.length = whole;
      const last = pieces[whole - 1];
      const rest = rowCount % pieceRows;
      if (last === undefined || rest === 0) continue;
      for (let i = rest; i < last.values.length; i++) last.present[i >> 3]! &= ~(1 << (i & 7));
    }
  }

  #pieces(name: string): Pieces {
    let pieces = this.#columns.get(name);
    if (pieces === undefined) {
      pieces = [];
      this.#columns.set(name, pieces);
    }
    return pieces;
  }
}

function set(pieces: Pieces, row: number, value: number): void {
  const index = Math.floor(row / pieceRows);
  const at = row % pieceRows;
  let piece = pieces[index];
  if (piece === undefined || at >= piece.values.length) {
    // The first piece grows with a short run; a later one is made whole.
    const rows = index > 0 ? pieceRows : Math.min(pieceRows, Math.max(firstRows, 2 * at));
    const grown = { values: new Float64Array(rows), present: new Uint8Array((rows + 7) >> 3) };
    if (piece !== undefined) {
      grown.values.set(piece.values);
      grown.present.set(piece.present);
    }
    piece = grown;
    pieces[index] = piece;
  }
  piece.values[at] = value;
  piece.present[at >> 3]! |= 1 << (at & 7);
}

function valueAt(pieces: Pieces, row: number): number | undefined {
  const piece = pieces[Math.floor(row / pieceRows)];
  const at = row % pieceRows;
  // Beyond the end of a small piece there are no bits.
  return piece !== undefined && hasBit(piece.present, at) ? piece.values[at] : undefined;
}

/** Whether row `i` is there. */
export function hasBit(present: Uint8Array, i: number): boolean {
  return ((present[i >> 3] ?? 0) >> (i & 7)) % 2 === 1;
}
