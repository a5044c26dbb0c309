import type { ChartLine, ChartSpec } from "./charts.js";
import {
  breakLine,
  bucketWidth,
  decimate,
  eachBucket,
  means,
  type Points,
  type Span,
  thinCloud,
  visibleSpan,
} from "./decimate.js";
import { MovingAverage, PositiveOnly, StackLayer, type Values } from "./derived.js";
import { type Mark, marksOf } from "./marks.js";
import type { XPositions } from "./positions.js";
import { type Range, verticalRange } from "./ranges.js";
import type { Run } from "./run.js";
import { groupAverage, type RunGroup } from "./seedAverage.js";
import type { NonFiniteKind, Series } from "./series.js";
import type { ViewChoices } from "./viewOptions.js";

export type { Range } from "./ranges.js";

/**
 * How a line looks. `faint` has all the extremes that the solid one, an average, has not; `area` lies on the area before it; `band` lies
 * between its points and those of `base`; `dots` is no line.
 */
export type LineStyle = "solid" | "dashed" | "faint" | "area" | "band" | "dots";

export interface DrawnLine {
  readonly points: Points;
  /** The lower edge of an area or a band, beside `points.y`; zero where it is absent. */
  readonly base?: readonly number[];
  readonly style: LineStyle;
  /** Which of the palette's colours. */
  readonly colour: number;
  /** Few points, far apart: each is marked. */
  readonly marked: boolean;
}

/** Where values are not finite: from one position to another, at which no line can be drawn. */
export interface NonFinitePoint {
  readonly x: number;
  readonly end: number;
  readonly kind: NonFiniteKind;
}

/** All that a chart puts on the screen, in values. */
export interface Drawing {
  readonly lines: readonly DrawnLine[];
  readonly nonFinite: readonly NonFinitePoint[];
  /** Where a line leaves the chart at an edge. */
  readonly outside: readonly { readonly x: number; readonly colour: number; readonly isAbove: boolean }[];
  readonly marks: readonly Mark[];
  readonly x: Range;
  readonly y: Range;
  readonly log: boolean;
  /** What there is of the quantity at most, where it is near enough to be in the picture. */
  readonly limit?: number;
  /** Values that have no place on a logarithmic axis. */
  readonly notPositive: number;
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
/** Values in a bucket from which on their extremes are a slab of colour, and a mean says more. */
const SLAB = 8;
const CLOUD_ROWS = 400;
/** A limit that is so many times as much as there is would flatten everything. */
const NEAR_LIMIT = 4;
const AIR_OVER_LIMIT = 1.06;
/** Marks at the edges: more of them are one bar. */
const MOST_OUTSIDE = 400;

/** With one run the colours tell its lines apart, with several they tell the runs apart and a dash tells the lines. */
export function legendOf(spec: ChartSpec, runs: readonly Run[]): LegendEntry[] {
  if (runs.length === 1) {
    const run = runs[0]!;
    return spec.lines.flatMap((line, i) =>
      run.series(line.column) ? [{ run, line, colour: i, dashed: false }] : [],
    );
  }
  const lines = comparedLines(spec);
  return runs.flatMap((run, colour) =>
    lines.flatMap((line, i) => (run.series(line.column) ? [{ run, line, colour, dashed: i > 0 }] : [])),
  );
}

/** What is drawn of each of several runs: of a stack its sum. */
function comparedLines({ total, lines }: ChartSpec): readonly ChartLine[] {
  return total === undefined ? lines : lines.filter(({ column }) => column === total);
}

/** Makes the drawings of one chart; it remembers what it derived from series from one to the next. */
export class Drawer {
  constructor(readonly spec: ChartSpec) {}

  /**
   * @param zoom - the part of the x axis to show, null for all; `zoomY` of the y axis.
   * @param pixels - the width of the plot, which bounds the number of points.
   */
  draw(
    runs: readonly Run[],
    choices: ViewChoices,
    zoom: Range | null,
    pixels: number,
    zoomY: Range | null = null,
    groups: readonly RunGroup[] | null = null,
  ): Drawing {
    const log = choices.logCharts.includes(this.spec.id);
    const isStack = this.spec.stacked === true && runs.length === 1 && !log;
    const view: View = { choices, zoom, log, pixels };
    const parts: Parts = { lines: [], nonFinite: [], ends: [], notPositive: 0 };
    const entries = legendOf(this.spec, runs);
    if (isStack) {
      this.#drawStack(runs[0]!, entries, view, parts);
    } else if (groups) {
      this.#drawGroups(groups, view, parts);
    } else {
      for (const entry of entries) {
        this.#drawLine(entry, view, parts);
      }
    }
    const { lines, nonFinite } = parts;
    const x = zoom ?? horizontalRange(lines, nonFinite, parts.ends);
    const own = verticalRange(this.spec, lines, { log, zoom, robust: choices.robust });
    const { limit } = this.spec;
    const isNear = limit !== undefined && limit <= NEAR_LIMIT * own[1];
    const y = zoomY ?? (isNear && limit * AIR_OVER_LIMIT > own[1] ? [own[0], limit * AIR_OVER_LIMIT] : own);
    return {
      lines,
      nonFinite,
      outside: outsideOf(lines, x, y),
      marks: runs.length === 1 && choices.xAxis !== "" ? marksOf(runs[0]!, choices.xAxis, this.spec) : [],
      log,
      x,
      y,
      ...(isNear && { limit }),
      notPositive: parts.notPositive,
    };
  }

  #drawLine(entry: LegendEntry, view: View, parts: Parts): void {
    const { choices, log, pixels } = view;
    const series = entry.run.series(entry.line.column)!;
    const positions = entry.run.positions(choices.xAxis);
    if (!positions.isThere) {
      return;
    }
    const { colour } = entry;
    const style: LineStyle = entry.dashed ? "dashed" : "solid";
    const key = `${entry.run.id}\n${entry.line.column}`;
    const raw: Values = log ? this.#positive(key, series, series.values) : series;
    if (log) {
      parts.notPositive += countNotPositive(series);
    }
    if (positions.isCloud || isSparser(positions, series)) {
      parts.lines.push(scattered(series, positions, colour, log, pixels));
      return;
    }
    const spans = spansOf(series, positions, view.zoom);
    const count = spans.reduce((sum, [from, to]) => sum + to - from, 0);
    const width = bucketWidth(count, pixels);
    const marked = count < pixels / MARKED_SPACING;
    const x = positionOf(series, positions);
    parts.ends.push(...spans.flatMap(([from, to]) => [x(from), x(to - 1)]));
    const add = (values: Values, lineStyle: LineStyle, thin: typeof decimate = decimate) => {
      const points: Points = { x: [], y: [] };
      for (const span of spans) {
        breakLine(points);
        thin(values, x, span, width, points);
      }
      parts.lines.push({ points, style: lineStyle, colour, marked: marked && lineStyle !== "faint" });
    };
    if (choices.smoothing > 0 && entry.line.smooth) {
      add(raw, "faint");
      const average = this.#average(key, series, choices.smoothing);
      add(log ? this.#positive(`${key} average`, series, average.values) : average, style);
    } else if (width >= SLAB && entry.line.smooth) {
      add(raw, "faint");
      add(raw, style, means);
    } else {
      add(raw, style);
    }
    addNonFinite(series, x, spans, pixels, parts.nonFinite);
  }

  /** The parts of one run on top of each other: of each bucket the rows at which any of the sums is least or greatest. */
  #drawStack(run: Run, entries: readonly LegendEntry[], { choices, zoom, pixels }: View, parts: Parts): void {
    const total = this.spec.total;
    const categories = entries.filter(({ line }) => line.column !== total);
    const base = (categories[0] ?? entries[0]) && run.series((categories[0] ?? entries[0])!.line.column);
    const positions = run.positions(choices.xAxis);
    if (!base || !positions.isThere) {
      return;
    }
    const layers: { values: Values; colour: number }[] = [];
    for (const { line, colour } of categories) {
      const below = layers.at(-1)?.values;
      const series = run.series(line.column)!;
      const layer = this.#layer(line.column);
      layers.push({
        values: layer.of(base, below, (row) => series.at(row) ?? lastBefore(series, row)),
        colour,
      });
    }
    const whole = total === undefined ? undefined : run.series(total);
    if (whole) {
      // What the total has beyond its named parts; a total that was taken between two steps may have less.
      const layer = this.#layer("");
      const below = layers.at(-1)?.values;
      const rest = (row: number, sum: number) => Math.max(0, (whole.at(row) ?? lastBefore(whole, row)) - sum);
      const colour = entries.find(({ line }) => line.column === total)!.colour;
      layers.push({ values: layer.of(base, below, rest), colour });
    }
    const spans = spansOf(base, positions, zoom);
    const count = spans.reduce((sum, [from, to]) => sum + to - from, 0);
    // A bucket may need two points for each part.
    const width = bucketWidth(count, Math.max(1, pixels / 2));
    const x = positionOf(base, positions);
    parts.ends.push(...spans.flatMap(([from, to]) => [x(from), x(to - 1)]));
    const indices: number[] = [];
    for (const span of spans) {
      if (indices.length > 0) {
        indices.push(-1);
      }
      eachBucket(span, width, (from, to) => {
        const rows = new Set<number>();
        for (const { values } of layers) {
          const { extremes } = values;
          extremes.find(from, to);
          if (extremes.low >= 0) {
            rows.add(extremes.low).add(extremes.high);
          }
        }
        indices.push(...[...rows].sort((a, b) => a - b));
      });
    }
    let below: number[] | undefined;
    for (const { values, colour } of layers) {
      const points: Points = {
        x: indices.map((i) => (i < 0 ? Number.NaN : x(i))),
        y: indices.map((i) => (i < 0 ? Number.NaN : values.values[i]!)),
      };
      parts.lines.push({ points, ...(below && { base: below }), style: "area", colour, marked: false });
      below = points.y;
    }
  }

  #drawGroups(groups: readonly RunGroup[], view: View, parts: Parts): void {
    const { choices, zoom, pixels, log } = view;
    groups.forEach(({ runs }, colour) => {
      for (const [i, { column }] of comparedLines(this.spec).entries()) {
        const average = groupAverage(
          runs,
          column,
          choices.xAxis,
          zoom,
          Math.ceil(pixels / 2),
          choices.smoothing,
        );
        if (average.x.length === 0) {
          continue;
        }
        const positive = (values: readonly number[]) =>
          log ? values.map((value) => (value > 0 ? value : Number.NaN)) : [...values];
        if (average.runs > 1) {
          const points = { x: [...average.x], y: positive(average.high) };
          parts.lines.push({ points, base: positive(average.low), style: "band", colour, marked: false });
        }
        parts.lines.push({
          points: { x: [...average.x], y: positive(average.mean) },
          style: i > 0 ? "dashed" : "solid",
          colour,
          marked: average.x.length < pixels / MARKED_SPACING,
        });
      }
    });
  }

  #average(key: string, series: Series, weight: number): Values {
    let known = this.#averages.get(key);
    if (known?.series !== series || known.average.weight !== weight) {
      known = { series, average: new MovingAverage(weight) };
      this.#averages.set(key, known);
    }
    return known.average.of(series);
  }

  #positive(key: string, series: Series, values: Float64Array): Values {
    let known = this.#positives.get(key);
    if (!known || known.series !== series || known.source !== values.buffer) {
      known = { series, source: values.buffer, only: new PositiveOnly() };
      this.#positives.set(key, known);
    }
    return known.only.of(series, values);
  }

  #layer(column: string): StackLayer {
    let layer = this.#layers.get(column);
    if (!layer) {
      layer = new StackLayer();
      this.#layers.set(column, layer);
    }
    return layer;
  }

  /** Forgets what was derived: the runs are others now. */
  forget(): void {
    this.#averages.clear();
    this.#positives.clear();
    this.#layers.clear();
  }

  readonly #averages = new Map<string, { series: Series; average: MovingAverage }>();
  readonly #positives = new Map<string, { series: Series; source: ArrayBufferLike; only: PositiveOnly }>();
  readonly #layers = new Map<string, StackLayer>();
}

interface View {
  readonly choices: ViewChoices;
  readonly zoom: Range | null;
  readonly log: boolean;
  readonly pixels: number;
}

interface Parts {
  readonly lines: DrawnLine[];
  readonly nonFinite: NonFinitePoint[];
  /** Where lines begin and end, which their extremes do not tell. */
  readonly ends: number[];
  notPositive: number;
}

function lastBefore(series: Series, row: number): number {
  const index = series.lowerBound(row) - 1;
  return index < 0 ? 0 : series.values[index]!;
}

/** Whether the axis has fewer values than the line: rows without a position cannot be searched. */
function isSparser(positions: XPositions, series: Series): boolean {
  const axis = positions.series;
  return axis !== undefined && (axis.length < series.length || axis.lastRow < series.lastRow);
}

/** The positions of the values of a series. */
export function positionOf(series: Series, positions: XPositions): (index: number) => number {
  return (index) => positions.at(series.rowOf(index));
}

/** The visible values, by stretches in which the position does not go back. */
function spansOf(series: Series, positions: XPositions, zoom: Range | null): Span[] {
  const x = positionOf(series, positions);
  return positions
    .stretches()
    .map(([from, to]) => visibleSpan([series.lowerBound(from), series.lowerBound(to)], x, zoom))
    .filter(([from, to]) => to > from);
}

function scattered(
  series: Series,
  positions: XPositions,
  colour: number,
  log: boolean,
  pixels: number,
): DrawnLine {
  const { values } = series;
  const point = (i: number) => {
    const value = values[i]!;
    return [positions.at(series.rowOf(i)), log && value <= 0 ? Number.NaN : value] as const;
  };
  return {
    points: thinCloud(series.length, point, pixels, CLOUD_ROWS),
    style: "dots",
    colour,
    marked: true,
  };
}

function countNotPositive(series: Series): number {
  const { extremes } = series;
  extremes.find(0, series.length);
  if (extremes.low < 0 || series.values[extremes.low]! > 0) {
    return 0;
  }
  return series.values.reduce((count, value) => count + (value <= 0 && Number.isFinite(value) ? 1 : 0), 0);
}

/** Marks of what is not finite, at most one of each kind a pixel. */
function addNonFinite(
  series: Series,
  x: (index: number) => number,
  spans: readonly Span[],
  pixels: number,
  points: NonFinitePoint[],
): void {
  for (const [from, to] of spans) {
    const width = Math.max(1, (to - from) / pixels);
    const lastBucket = new Map<string, number>();
    for (const range of series.nonFinite) {
      if (range.to <= from || range.from >= to) {
        continue;
      }
      const first = Math.max(range.from, from);
      const last = Math.min(range.to, to) - 1;
      const bucket = Math.floor((last - from) / width);
      if (lastBucket.get(range.kind) === bucket && last === first) {
        continue;
      }
      lastBucket.set(range.kind, bucket);
      points.push({ x: x(first), end: x(last), kind: range.kind });
    }
  }
}

function outsideOf(lines: readonly DrawnLine[], x: Range, [low, high]: Range): Drawing["outside"] {
  const marks: { x: number; colour: number; isAbove: boolean }[] = [];
  for (const { points, style, colour } of lines) {
    if (style === "area" || style === "band") {
      continue;
    }
    for (let i = 0; i < points.x.length && marks.length < MOST_OUTSIDE; i++) {
      const value = points.y[i]!;
      const isAbove = value > high;
      if ((isAbove || value < low) && points.x[i]! >= x[0] && points.x[i]! <= x[1]) {
        marks.push({ x: points.x[i]!, colour, isAbove });
      }
    }
  }
  return marks;
}

/** The lowest and highest position; one position alone gets some room. */
function horizontalRange(
  lines: readonly DrawnLine[],
  nonFinite: readonly NonFinitePoint[],
  ends: readonly number[],
): Range {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  const include = (x: number) => {
    low = Math.min(low, Number.isFinite(x) ? x : low);
    high = Math.max(high, Number.isFinite(x) ? x : high);
  };
  for (const { points } of lines) {
    points.x.forEach(include);
  }
  ends.forEach(include);
  for (const point of nonFinite) {
    include(point.x);
    include(point.end);
  }
  if (low > high) {
    return [0, 1];
  }
  return low === high ? [low - 0.5, low + 0.5] : [low, high];
}
