import type { ChartSpec } from "../model/charts.js";
import type { LegendEntry } from "../model/drawing.js";
import type { Run } from "../model/run.js";

/** The value of a column where the axis is nearest to `x`; undefined where the run has not come so far, or is past it. */
export function valueAt(run: Run, column: string, axis: string, x: number): number | undefined {
  const series = run.series(column);
  const positions = run.positions(axis);
  const row = positions.nearestRow(x);
  if (!series || row < 0 || !covers(run, axis, x, row)) {
    return undefined;
  }
  return series.values[series.nearest(row)];
}

/** What a chart says of one of its lines at `x`, or at its newest value: of a stack's rest, what the total has beyond the other parts. */
export function readingOf(
  spec: ChartSpec,
  { run, line }: LegendEntry,
  axis: string,
  x: number | null,
  isStack: boolean,
): number | undefined {
  const at = (column: string) => (x === null ? run.series(column)?.last : valueAt(run, column, axis, x));
  const value = at(line.column);
  if (!isStack || line.column !== spec.total || value === undefined) {
    return value;
  }
  const parts = spec.lines
    .filter(({ column }) => column !== spec.total)
    .reduce((sum, { column }) => sum + (at(column) ?? 0), 0);
  return Math.max(0, value - parts);
}

/** Whether `x` lies within a run, its nearest row being `row`: not beyond its ends by more than the next row would be. */
function covers(run: Run, axis: string, x: number, row: number): boolean {
  const positions = run.positions(axis);
  const at = positions.at(row);
  const neighbour = row > 0 ? positions.at(row - 1) : positions.at(row + 1);
  const distance = Math.abs(at - neighbour);
  return (
    Math.abs(x - at) <= (Number.isFinite(distance) ? distance : Number.POSITIVE_INFINITY) ||
    isInside(run, axis, x)
  );
}

function isInside(run: Run, axis: string, x: number): boolean {
  const values = (run.positions(axis).series ?? run.series("step"))?.values;
  return values !== undefined && values.length > 0 && x >= values[0]! && x <= values.at(-1)!;
}

/** The position of a row of any run that is nearest to `x`. */
export function nearestPosition(runs: readonly Run[], axis: string, x: number): number | null {
  let best: number | null = null;
  for (const run of runs) {
    const positions = run.positions(axis);
    const row = positions.nearestRow(x);
    const at = row < 0 ? Number.NaN : positions.at(row);
    if (Number.isFinite(at) && (best === null || Math.abs(at - x) < Math.abs(best - x))) {
      best = at;
    }
  }
  return best;
}
