import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { replaceFileSync } from "../../files/atomic.js";
import type { MetricsRow } from "../hub.js";
import type { LoggedRun, MetricsLogger } from "./logger.js";

/**
 * `metrics.csv` in the run's folder (RFC 4180): a column a metric, an empty field where there is no value, `NaN`, `inf`
 * and `-inf` as pandas and NumPy read them. A new column makes it be written anew; an earlier run's is replaced.
 */
export function csvLogger(): MetricsLogger {
  let path = "";
  let columns: string[] = [];
  const all: MetricsRow[] = [];
  const line = (row: MetricsRow) => `${columns.map((column) => field(row[column])).join(",")}\r\n`;
  return {
    name: "CSV",
    start(run: LoggedRun) {
      path = join(run.folder, "metrics.csv");
      columns = ["step"];
      all.length = 0;
      replaceFileSync(path, "");
      this.rows(run.earlier);
    },
    rows(rows) {
      for (const row of rows) all.push(row);
      const added = [...new Set(rows.flatMap(Object.keys))].filter((column) => !columns.includes(column));
      if (added.length > 0) {
        columns.push(...added);
        replaceFileSync(path, `${columns.map(quoted).join(",")}\r\n`, ...all.map(line));
      } else if (rows.length > 0) {
        appendFileSync(path, rows.map(line).join(""));
      }
    },
    status() {},
  };
}

function field(value: number | undefined): string {
  if (value === undefined) return "";
  if (value === Number.POSITIVE_INFINITY) return "inf";
  return value === Number.NEGATIVE_INFINITY ? "-inf" : String(value);
}

function quoted(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
