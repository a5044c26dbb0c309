import type { RunInfo } from "../../../lab-extension/src/model/protocol.js";
import type { ColumnBatch } from "../../../lab-extension/src/model/run.js";
import { Run } from "../../../lab-extension/src/model/run.js";

/** Rows as columns, with a bit for each value that is there; null and undefined are absent. */
export function batchOf(
  columns: Readonly<Record<string, readonly (number | null | undefined)[]>>,
): ColumnBatch {
  const rowCount = Math.max(0, ...Object.values(columns).map((column) => column.length));
  return {
    rowCount,
    columns: new Map(
      Object.entries(columns).map(([name, cells]) => {
        const values = new Float64Array(rowCount);
        const present = new Uint8Array((rowCount + 7) >> 3);
        let isWhole = true;
        for (let i = 0; i < rowCount; i++) {
          const cell = cells[i];
          if (typeof cell === "number") {
            values[i] = cell;
            present[i >> 3]! |= 1 << (i & 7);
          } else {
            isWhole = false;
          }
        }
        return [name, isWhole ? { values } : { values, present }] as const;
      }),
    ),
  };
}

export function runOfColumns(
  columns: Readonly<Record<string, readonly (number | null | undefined)[]>>,
  info: Partial<RunInfo> = {},
): Run {
  const run = new Run({ id: "a", name: "a", startedAt: 0, status: "running", ...info });
  run.append(batchOf(columns), 0);
  return run;
}

/** A run of rows; a cell that a row lacks is absent. */
export function runOfRows(
  rows: readonly Readonly<Record<string, number>>[],
  info: Partial<RunInfo> = {},
): Run {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  return runOfColumns(Object.fromEntries(names.map((name) => [name, rows.map((row) => row[name])])), info);
}
