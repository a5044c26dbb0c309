import type { ChartLine, ChartSpec } from "./charts.js";
import { decimate, type NonFinitePoint, nonFinitePoints, type Points, visibleRange } from "./decimate.js";
import type { Run } from "./run.js";
import type { Series } from "./series.js";
import { MovingAverage } from "./smoothing.js";
import type { ViewChoices, XAxis } from "./viewOptions.js";

export type Range = readonly [number, number];

/** How a line looks. `faint` is what the moving average was made from; `area` lies on the area before it. */
export type LineStyle = "solid" | "dashed" | "faint" | "area";

export interface DrawnLine {
  readonly points: Points;
  readonly style: LineStyle;
  /** Which of the palette's colours. */
  readonly colour: number;
  /** Few points, far apart: each is marked. */
  readonly marked: boolean;
}

/** All that a chart puts on the screen, in values. */
export interface Drawing {
  readonly lines: readonly DrawnLine[];
  readonly nonFinite: readonly NonFinitePoint[];
  /** Where a line leaves the chart at its upper edge. */
  readonly above: readonly { readonly x: number; readonly colour: number }[];
  readonly x: Range;
  readonly y: Range;
  readonly log: boolean;
}

/** A line of a chart for one run: what the legend lists and a drawing draws. */
export interface LegendEntry {
  readonly run: Run;
  readonly line: ChartLine;
  readonly colour: number;
  readonly dashed: boolean;
}

// Below a point every so many pixels, a line's points are marked.
const MARKED_SPACING = 12;
// The last of the palette's colours is that of text.
const NEUTRAL = 5;
const PADDING = 0.06;
// Fewer values say too little of what is usual.
const LEAST_TO_JUDGE = 20;

/** With one run the colours tell its lines apart, with several they tell the runs apart and a dash tells the lines. */
export function legendOf(spec: ChartSpec, runs: readonly Run[]): LegendEntry[] {
  if (runs.length === 1) {
    const run = runs[0]!;
    return spec.lines.flatMap((line, i) =>
      run.series(line.column)
        ? [{ run, line, colour: line.overlay ? NEUTRAL : i, dashed: line.overlay ?? false }]
        : [],
    );
  }
  const lines = spec.stacked ? spec.lines.filter((line) => line.overlay) : spec.lines;
  return runs.flatMap((run, colour) =>
    lines.flatMap((line, i) => (run.series(line.column) ? [{ run, line, colour, dashed: i > 0 }] : [])),
  );
}

/** The x value of each row of a run. */
export function positionsOf(run: Run, axis: XAxis): (row: number) => number {
  const column = run.series(axis) ?? run.series("step");
  if (!column) {
    return (row) => row;
  }
  const { values } = column;
  return column.length === run.rowCount ? (row) => values[row]! : (row) => column.at(row) ?? Number.NaN;
}

/** The row of a run whose position is nearest to `x`; positions ascend. */
export function rowAt(run: Run, axis: XAxis, x: number): number {
  const position = positionsOf(run, axis);
  let low = 0;
  let high = run.rowCount - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (position(middle) < x) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low > 0 && x - position(low - 1) <= position(low) - x ? low - 1 : low;
}

/** Makes the drawings of one chart; it remembers its moving averages from one to the next. */
export class Drawer {
  constructor(readonly spec: ChartSpec) {}

  /**
   * @param zoom - the part of the x axis to show, null for all.
   * @param pixels - the width of the plot, which bounds the number of points.
   */
  draw(runs: readonly Run[], choices: ViewChoices, zoom: Range | null, pixels: number): Drawing {
    const log = choices.logCharts.includes(this.spec.id);
    const entries = legendOf(this.spec, runs);
    const stack = this.spec.stacked && runs.length === 1 && !log;
    const lines: DrawnLine[] = stack ? stackedLines(runs[0]!, entries, choices.xAxis, zoom, pixels) : [];
    const nonFinite: NonFinitePoint[] = [];
    for (const entry of entries) {
      if (stack && !entry.line.overlay) {
        continue;
      }
      const series = entry.run.series(entry.line.column)!;
      const { rows, values } = series;
      const position = positionsOf(entry.run, choices.xAxis);
      const x = (i: number) => position(rows[i]!);
      const range = visibleRange(series.length, x, zoom);
      const marked = range[1] - range[0] < pixels / MARKED_SPACING;
      const add = (y: Float64Array, style: LineStyle) => {
        const points = decimate(log ? positiveOnly(y) : y, x, range, pixels);
        lines.push({ points, style, colour: entry.colour, marked: marked && style !== "faint" });
      };
      const style: LineStyle = entry.dashed ? "dashed" : "solid";
      if (choices.smoothing > 0 && entry.line.smooth) {
        add(values, "faint");
        add(this.#average(entry, series, choices.smoothing), style);
      } else {
        add(values, style);
      }
      nonFinite.push(...nonFinitePoints(values, x, range, pixels));
    }
    const y = verticalRange(this.spec, lines, log, zoom);
    return {
      lines,
      nonFinite,
      above: lines.flatMap(({ points, colour }) =>
        points.x.flatMap((x, i) => (points.y[i]! > y[1] ? [{ x, colour }] : [])),
      ),
      log,
      x: zoom ?? horizontalRange(lines, nonFinite),
      y,
    };
  }

  #average(entry: LegendEntry, series: Series, weight: number): Float64Array {
    const key = `${entry.run.id}\n${entry.line.column}`;
    let known = this.#averages.get(key);
    if (known?.series !== series || known.average.weight !== weight) {
      known = { series, average: new MovingAverage(weight) };
      this.#averages.set(key, known);
    }
    return known.average.of(series);
  }

  readonly #averages = new Map<string, { series: Series; average: MovingAverage }>();
}

/** The categories of one run on top of each other, thinned at the same rows so that they stay on top of each other. */
function stackedLines(
  run: Run,
  entries: readonly LegendEntry[],
  axis: XAxis,
  zoom: Range | null,
  pixels: number,
): DrawnLine[] {
  const parts = entries.filter((entry) => !entry.line.overlay);
  const first = parts[0] && run.series(parts[0].line.column);
  if (!first) {
    return [];
  }
  const position = positionsOf(run, axis);
  const { rows } = first;
  const [from, to] = visibleRange(first.length, (i) => position(rows[i]!), zoom);
  const stride = Math.max(1, Math.ceil((to - from) / (2 * pixels)));
  const base: number[] = [];
  return parts.map(({ run: owner, line, colour }) => {
    const series = owner.series(line.column)!;
    const points: Points = { x: [], y: [] };
    for (let i = from, point = 0; i < to; i += stride, point++) {
      const row = rows[i]!;
      const value = series.at(row) ?? 0;
      base[point] = (base[point] ?? 0) + (Number.isFinite(value) ? value : 0);
      points.x.push(position(row));
      points.y.push(base[point]!);
    }
    return { points, style: "area", colour, marked: false };
  });
}

function positiveOnly(values: Float64Array): Float64Array {
  return values.map((value) => (value > 0 ? value : Number.NaN));
}

function span(lists: readonly (readonly number[])[]): Range {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const list of lists) {
    for (const value of list) {
      if (value < low) {
        low = value;
      }
      if (value > high) {
        high = value;
      }
    }
  }
  return low > high ? [0, 1] : [low, high];
}

/** The lowest and highest position; one position alone gets some room. */
function horizontalRange(lines: readonly DrawnLine[], nonFinite: readonly NonFinitePoint[]): Range {
  const [low, high] = span([...lines.map(({ points }) => points.x), nonFinite.map(({ x }) => x)]);
  return low === high ? [low - 0.5, low + 0.5] : [low, high];
}

/** The range that holds every line, with some air. Quantities that are parts of a whole or speeds start at zero. */
function verticalRange(
  spec: ChartSpec,
  lines: readonly DrawnLine[],
  log: boolean,
  zoom: Range | null,
): Range {
  const visible = lines.map(({ points }) =>
    zoom ? points.y.filter((_, i) => points.x[i]! >= zoom[0] && points.x[i]! <= zoom[1]) : points.y,
  );
  const values = visible.some((list) => list.length > 0) ? visible : lines.map(({ points }) => points.y);
  let [low, high] = span(values);
  if (log) {
    const ratio = Math.max(high / low, 1.05) ** PADDING;
    return low > 0 ? [low / ratio, high * ratio] : [1e-3, 1];
  }
  if (spec.clipped) {
    high = Math.min(high, usualHighest(values.flat()));
  }
  if (spec.unit !== "number" && low >= 0) {
    low = 0;
  }
  const air = (high - low) * PADDING || Math.abs(high) * PADDING || 1;
  return [low === 0 ? 0 : low - air, high + air];
}

/** Above this a value is far from the others: four times their spread above 95 of 100. */
function usualHighest(values: readonly number[]): number {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (sorted.length < LEAST_TO_JUDGE) {
    return Number.POSITIVE_INFINITY;
  }
  const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))]!;
  const spread = at(0.95) - at(0.05) || Math.abs(at(0.95));
  return spread > 0 ? at(0.95) + 4 * spread : Number.POSITIVE_INFINITY;
}
