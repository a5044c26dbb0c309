import type { Bundle } from "../link.js";

/** As much of an Apache Arrow table as its display needs; the user's copy of Arrow need not be the kernel's. */
interface ArrowTable {
  numRows: number;
  schema: { fields: { name: string; type: unknown }[] };
  get(index: number): { toArray(): unknown[] } | null;
}

const ROWS = 20;

export function isArrowTable(value: object): value is ArrowTable {
  const { numRows, schema, get } = value as Partial<ArrowTable>;
  return (
    typeof numRows === "number" &&
    Array.isArray(schema?.fields) &&
    typeof get === "function" &&
    "batches" in value
  );
}

/** The first and last rows of a table as HTML, with names and types of the columns. */
export function tableBundle(table: ArrowTable): Bundle {
  const rows = Math.min(table.numRows, ROWS);
  const head = table.schema.fields
    .map(({ name, type }) => `<th>${escapeHtml(name)}<br><small>${escapeHtml(String(type))}</small></th>`)
    .join("");
  const body: string[] = [];
  for (let index = 0; index < rows; index += 1) {
    const cells = [...(table.get(index)?.toArray() ?? [])].map(
      (cell) => `<td>${escapeHtml(String(cell))}</td>`,
    );
    body.push(`<tr><th>${index}</th>${cells.join("")}</tr>`);
  }
  const rest = table.numRows > rows ? `<p>${table.numRows} rows, the first ${rows} shown</p>` : "";
  const html = `<table><thead><tr><th></th>${head}</tr></thead><tbody>${body.join("")}</tbody></table>${rest}`;
  const columns = table.schema.fields.map(({ name, type }) => `${name}: ${type}`).join(", ");
  return {
    data: { "text/html": html, "text/plain": `Table of ${table.numRows} rows (${columns})` },
    metadata: {},
  };
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
