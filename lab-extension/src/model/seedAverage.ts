import { visibleSpan } from "./decimate.js";
import { MovingAverage, type Values } from "./derived.js";
import { positionOf } from "./drawing.js";
import type { Run } from "./run.js";
import type { Series } from "./series.js";

/** Runs that are drawn as one: the same but for the seed. */
export interface RunGroup {
  readonly label: string;
  readonly runs: readonly Run[];
}

/** The mean over runs at positions of the x axis, with one standard deviation to each side. */
export interface GroupAverage {
  readonly x: readonly number[];
  readonly mean: readonly number[];
  readonly low: readonly number[];
  readonly high: readonly number[];
  readonly runs: number;
}

const averages = new WeakMap<Series, MovingAverage>();

/**
 * Averages a column over runs. At each of `buckets` places of the axis a run counts with the mean of its values there, or with the line
 * between its neighbours where it has none; beyond its end it does not count.
 */
export function groupAverage(
  runs: readonly Run[],
  column: string,
  axis: string,
  zoom: readonly [number, number] | null,
  buckets: number,
  smoothing: number,
): GroupAverage {
  const lines = runs.flatMap((run) => {
    const series = run.series(column);
    const positions = run.positions(axis);
    if (!series || !positions.isThere || positions.isCloud || positions.breaks.length > 0) {
      return [];
    }
    const x = positionOf(series, positions);
    return [{ values: smoothing > 0 ? smoothed(series, smoothing) : series, x, length: series.length }];
  });
  const empty = { x: [], mean: [], low: [], high: [], runs: 0 };
  if (lines.length === 0) {
    return empty;
  }
  const start = zoom?.[0] ?? Math.min(...lines.map(({ x }) => x(0)));
  const end = zoom?.[1] ?? Math.max(...lines.map(({ x, length }) => x(length - 1)));
  const longest = Math.max(
    ...lines.map(({ x, length }) => {
      const [from, to] = visibleSpan([0, length], x, zoom);
      return to - from;
    }),
  );
  const places = Math.max(2, Math.min(buckets, longest));
  const width = (end - start) / (places - 1) || 1;
  const result: { x: number[]; mean: number[]; low: number[]; high: number[]; runs: number } = {
    ...empty,
    x: [],
    mean: [],
    low: [],
    high: [],
    runs: lines.length,
  };
  const cursors = lines.map(({ x, length }) => visibleSpan([0, length], x, [start - width / 2, end])[0]);
  for (let place = 0; place < places; place++) {
    const at = start + place * width;
    const values = lines.flatMap((line, i) => {
      const from = lowerBound(line, cursors[i]!, at - width / 2);
      const to = lowerBound(line, from, at + width / 2);
      cursors[i] = to;
      const value = to > from ? line.values.extremes.mean(from, to) : between(line, from, at);
      return Number.isFinite(value) ? [value] : [];
    });
    if (values.length === 0) {
      continue;
    }
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const deviation =
      values.length > 1
        ? Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1))
        : 0;
    result.x.push(at);
    result.mean.push(mean);
    result.low.push(mean - deviation);
    result.high.push(mean + deviation);
  }
  return result;
}

function smoothed(series: Series, weight: number): Values {
  let average = averages.get(series);
  if (average?.weight !== weight) {
    average = new MovingAverage(weight);
    averages.set(series, average);
  }
  return average.of(series);
}

/** The first index from `from` on whose position is not below `limit`: the steps double, then halve. */
function lowerBound(
  { x, length }: { x: (i: number) => number; length: number },
  from: number,
  limit: number,
): number {
  let stride = 1;
  let low = from;
  while (low + stride < length && x(low + stride) < limit) {
    low += stride;
    stride *= 2;
  }
  let high = Math.min(length, low + stride);
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x(middle) < limit) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/** On the straight line between two neighbours; NaN outside of the run. */
function between(
  { values, x, length }: { values: Values; x: (i: number) => number; length: number },
  next: number,
  at: number,
): number {
  if (next <= 0 || next >= length) {
    return Number.NaN;
  }
  const [before, after] = [x(next - 1), x(next)];
  const share = (at - before) / (after - before || 1);
  const list = values.values;
  return list[next - 1]! * (1 - share) + list[next]! * share;
}
