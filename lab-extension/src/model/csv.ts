import type { Run } from "./run.js";

/** The rows of a run as CSV (RFC 4180), one column a metric; absent cells are empty, NaN and infinities are written. */
export function toCsv(run: Run): string {
  const columns = run.columns.map((name) => ({ name, series: run.series(name)! }));
  const lines = [
    columns.map(({ name }) => (/[",\r\n]/.test(name) ? `"${name.replaceAll('"', '""')}"` : name)).join(","),
  ];
  for (let row = 0; row < run.rowCount; row++) {
    lines.push(columns.map(({ series }) => series.at(row) ?? "").join(","));
  }
  return `${lines.join("\r\n")}\r\n`;
}
