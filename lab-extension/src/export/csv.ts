import type { Run } from "../model/run.js";

/** Rows that one part of the file has: a text of all rows of a long run would be longer than a string may be. */
const ROWS_AT_ONCE = 20_000;

/** The rows of a run as CSV (RFC 4180) in parts, one column a metric; absent cells are empty, NaN and infinities are written. */
export function* csvParts(run: Run): Generator<string> {
  const columns = run.columns.map((name) => ({ name, series: run.series(name)!, next: 0 }));
  yield `${columns.map(({ name }) => quoted(name)).join(",")}\r\n`;
  for (let start = 0; start < run.rowCount; start += ROWS_AT_ONCE) {
    const lines: string[] = [];
    for (let row = start; row < Math.min(run.rowCount, start + ROWS_AT_ONCE); row++) {
      lines.push(
        columns
          .map((column) => {
            const { series } = column;
            if (column.next < series.length && series.rowOf(column.next) === row) {
              column.next += 1;
              return series.values[column.next - 1];
            }
            return "";
          })
          .join(","),
      );
    }
    yield `${lines.join("\r\n")}\r\n`;
  }
}

export function toCsv(run: Run): string {
  return [...csvParts(run)].join("");
}

function quoted(name: string): string {
  return /[",\r\n]/.test(name) ? `"${name.replaceAll('"', '""')}"` : name;
}
