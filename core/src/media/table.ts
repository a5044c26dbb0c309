import { ArgumentError } from "../graph/errors.js";

export type TableCell = string | number | boolean | null;

/** Records, or columns with rows. */
export type TableValue =
  | Iterable<Readonly<Record<string, TableCell | undefined>>>
  | { readonly columns: readonly string[]; readonly rows: readonly (readonly TableCell[])[] };

export interface TableOptions {
  caption?: string;
}

/** A table as it is kept: numbers that JSON has not are the texts "NaN", "Infinity" and "-Infinity". */
export interface Table {
  columns: string[];
  rows: TableCell[][];
  /** Rows that were left out. */
  omitted: number;
}

const maxRows = 10_000;

/** @throws ArgumentError for cells that are no text, number, boolean or null. */
export function readTable(value: TableValue): Table {
  const { columns, rows } = "columns" in value ? value : ofRecords([...value]);
  const shown = rows.slice(0, maxRows).map((row, i) => {
    if (row.length !== columns.length) {
      throw new ArgumentError(
        `table: row ${i} has ${row.length} cells, and there are ${columns.length} columns`,
        "give each row a cell a column",
      );
    }
    return row.map((cell, c) => plain(cell, `row ${i}, column ${JSON.stringify(columns[c])}`));
  });
  return { columns: [...columns], rows: shown, omitted: rows.length - shown.length };
}

function ofRecords(records: readonly Readonly<Record<string, TableCell | undefined>>[]) {
  const columns = [...new Set(records.flatMap((record) => Object.keys(record)))];
  return { columns, rows: records.map((record) => columns.map((name) => record[name] ?? null)) };
}

function plain(cell: TableCell, where: string): TableCell {
  if (cell === null || typeof cell === "string" || typeof cell === "boolean") return cell;
  if (typeof cell === "number") return Number.isFinite(cell) ? cell : String(cell);
  throw new ArgumentError(`table: ${where} is a ${typeof cell}`, "give texts, numbers, booleans or null");
}
