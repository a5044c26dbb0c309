import { inspect } from "node:util";
import type { Bundle } from "../link.js";

/** What can be shown as a table, whatever library it comes from. */
interface Rows {
  columns: { name: string; type?: string }[];
  count: number;
  /** The values of a row, by the order of the columns. */
  row(index: number): unknown[];
}

const SHOWN = 20;

/** A value as a table where it is one: of Arrow, Polars, Arquero or Danfo; the user's copy need not be the kernel's. */
export function asTable(value: object): Bundle | undefined {
  const rows = ofArrow(value) ?? ofPolars(value) ?? ofArquero(value) ?? ofDanfo(value);
  return rows && tableBundle(rows);
}

/** Records, one a row, as a table; a column is there if any of the records has it. */
export function recordsTable(records: readonly object[]): Bundle {
  const names = [...new Set(records.flatMap((record) => Object.keys(record)))];
  return tableBundle({
    columns: names.map((name) => ({ name })),
    count: records.length,
    row: (index) => names.map((name) => (records[index] as Record<string, unknown>)[name]),
  });
}

function ofArrow(value: object): Rows | undefined {
  const table = value as {
    numRows?: unknown;
    schema?: { fields?: unknown };
    get?: (index: number) => { toArray(): Iterable<unknown> } | null;
  };
  const { numRows, schema } = table;
  if (typeof numRows !== "number" || !Array.isArray(schema?.fields)) return undefined;
  if (typeof table.get !== "function" || !("batches" in value)) return undefined;
  const fields = schema.fields as { name: string; type: unknown }[];
  return {
    columns: fields.map(({ name, type }) => ({ name, type: String(type) })),
    count: numRows,
    row: (index) => [...(table.get!(index)?.toArray() ?? [])],
  };
}

function ofPolars(value: object): Rows | undefined {
  const frame = value as { schema?: unknown; height?: unknown; head?: unknown; toRecords?: unknown };
  if (typeof frame.schema !== "object" || frame.schema === null) return undefined;
  if (typeof frame.head !== "function" || typeof frame.toRecords !== "function") return undefined;
  const records = (frame.head(SHOWN) as { toRecords(): object[] }).toRecords();
  const types = frame.schema as Record<string, unknown>;
  const names = Object.keys(types);
  return {
    columns: names.map((name) => ({ name, type: String(types[name]) })),
    count: typeof frame.height === "number" ? frame.height : records.length,
    row: (index) => names.map((name) => (records[index] as Record<string, unknown>)[name]),
  };
}

function ofArquero(value: object): Rows | undefined {
  const table = value as { columnNames?: unknown; objects?: unknown; numRows?: unknown };
  const { columnNames, objects, numRows } = table;
  if (![columnNames, objects, numRows].every((member) => typeof member === "function")) return undefined;
  const records = (objects as (options: object) => object[]).call(table, { limit: SHOWN });
  const names = (columnNames as () => string[]).call(table);
  return {
    columns: names.map((name) => ({ name })),
    count: (numRows as () => number).call(table),
    row: (index) => names.map((name) => (records[index] as Record<string, unknown>)[name]),
  };
}

function ofDanfo(value: object): Rows | undefined {
  const frame = value as {
    columns?: unknown;
    values?: unknown;
    ctypes?: { values?: unknown };
    $data?: unknown;
  };
  const { columns, values } = frame;
  if (!("$data" in frame) || !Array.isArray(columns) || !Array.isArray(values)) return undefined;
  const types = Array.isArray(frame.ctypes?.values) ? (frame.ctypes.values as unknown[]) : [];
  return {
    columns: columns.map((name, index) => ({
      name: String(name),
      ...(types[index] === undefined ? {} : { type: String(types[index]) }),
    })),
    count: values.length,
    row: (index) => values[index] as unknown[],
  };
}

/** The first rows of a table as HTML, with names and types of the columns. */
function tableBundle({ columns, count, row }: Rows): Bundle {
  const shown = Math.min(count, SHOWN);
  const head = columns
    .map(({ name, type }) => {
      const below = type === undefined ? "" : `<br><small>${escapeHtml(type)}</small>`;
      return `<th>${escapeHtml(name)}${below}</th>`;
    })
    .join("");
  const body = Array.from({ length: shown }, (_, index) => {
    const cells = row(index).map((cell) => `<td>${escapeHtml(cellText(cell))}</td>`);
    return `<tr><th>${index}</th>${cells.join("")}</tr>`;
  });
  const rest = count > shown ? `<p>${count} rows, the first ${shown} shown</p>` : "";
  const html = `<table><thead><tr><th></th>${head}</tr></thead><tbody>${body.join("")}</tbody></table>${rest}`;
  const names = columns.map(({ name, type }) => (type === undefined ? name : `${name}: ${type}`)).join(", ");
  return {
    data: { "text/html": html, "text/plain": `Table of ${count} rows (${names})` },
    metadata: {},
  };
}

/** Strings as they are; objects that have no text of their own as the console shows them. */
function cellText(cell: unknown): string {
  if (cell === undefined || cell === null) return "";
  if (typeof cell !== "object" || cell instanceof Date) return String(cell);
  const text = Array.isArray(cell) ? "[object" : String(cell);
  return text.startsWith("[object")
    ? inspect(cell, { depth: 1, breakLength: Number.POSITIVE_INFINITY })
    : text;
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
