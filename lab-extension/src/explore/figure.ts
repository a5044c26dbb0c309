import type { TranslationBundle } from "@jupyterlab/translation";
import type { Layout, Trace } from "plotly.js-basic-dist-min";
import type { ChartSpec } from "../model/charts.js";
import { legendOf, positionOf } from "../model/drawing.js";
import { axisTitle, unitTitle } from "../model/format.js";
import type { XPositions } from "../model/positions.js";
import type { Run } from "../model/run.js";
import type { Series } from "../model/series.js";
import type { ViewChoices } from "../model/viewOptions.js";
import { nameOf } from "../model/wording.js";
import type { Palette } from "../painting/palette.js";

/** A line with more points is thinned: of each bucket its least and its greatest value stay. */
export const MOST_POINTS = 50_000;

/** Stretches of values that are not finite and have marks: the first ones. */
export const MOST_MARKS = 1000;

export interface Figure {
  readonly data: readonly Trace[];
  readonly layout: Layout;
}

/**
 * A chart as plotly draws it: the values as they were logged, without smoothing; gaps where a value is not finite, with a mark; a new
 * stretch where the x axis goes back.
 *
 * @param choices - which x axis, and which charts are logarithmic
 */
export function figureOf(
  spec: ChartSpec,
  runs: readonly Run[],
  choices: Pick<ViewChoices, "xAxis" | "logCharts">,
  palette: Palette,
  trans: TranslationBundle,
): Figure {
  const data: Trace[] = [];
  for (const { run, line, colour: index, dashed } of legendOf(spec, runs)) {
    const series = run.series(line.column);
    const positions = run.positions(choices.xAxis);
    if (!series || !positions.isThere) {
      continue;
    }
    const colour = palette.series[index % palette.series.length]!;
    const name = runs.length === 1 ? line.label : `${nameOf(run, runs)}: ${line.label}`;
    data.push({
      type: "scatter",
      mode: positions.isCloud ? "markers" : series.length < 100 ? "lines+markers" : "lines",
      name,
      ...pointsOf(series, positions),
      line: { color: colour, width: 1.5, dash: dashed ? "dash" : "solid" },
      connectgaps: false,
      showlegend: true,
    });
    const marks = notFinite(series, positions);
    if (marks.x.length > 0) {
      data.push({
        type: "scatter",
        mode: "markers",
        name,
        ...marks,
        marker: { color: palette.error, size: 9, symbol: "x" },
        hoverinfo: "text",
        connectgaps: false,
        showlegend: false,
      });
    }
  }
  const axis = { color: palette.text, gridcolor: palette.grid, zeroline: false };
  return {
    data,
    layout: {
      xaxis: { ...axis, type: "linear", title: { text: axisTitle(choices.xAxis, trans) } },
      yaxis: {
        ...axis,
        type: choices.logCharts.includes(spec.id) ? "log" : "linear",
        title: { text: unitTitle(spec, trans) || spec.title },
      },
      paper_bgcolor: palette.background,
      plot_bgcolor: palette.background,
      font: { family: palette.font, size: 12, color: palette.strong },
      hovermode: "x unified",
      hoverlabel: { bgcolor: palette.background },
      showlegend: data.length > 1,
      legend: { orientation: "h" },
      margin: { l: 70, r: 20, t: 20, b: 50 },
      uirevision: `${spec.id} ${choices.xAxis}`,
    },
  };
}

function pointsOf(series: Series, positions: XPositions): { x: number[]; y: number[] } {
  const x: number[] = [];
  const y: number[] = [];
  const at = positionOf(series, positions);
  const { values } = series;
  const add = (i: number) => {
    const position = at(i);
    if (Number.isNaN(position)) {
      return;
    }
    if (position < x[x.length - 1]! && !positions.isCloud) {
      x.push(Number.NaN);
      y.push(Number.NaN);
    }
    x.push(position);
    const value = values[i]!;
    y.push(Number.isFinite(value) ? value : Number.NaN);
  };
  const width = Math.ceil((2 * series.length) / MOST_POINTS);
  if (width <= 2) {
    for (let i = 0; i < series.length; i++) {
      add(i);
    }
    return { x, y };
  }
  const { extremes, nonFinite } = series;
  let next = 0;
  for (let from = 0; from < series.length; from += width) {
    const to = Math.min(series.length, from + width);
    extremes.find(from, to);
    const { low, high } = extremes;
    while (next < nonFinite.length && nonFinite[next]!.to <= from) {
      next += 1;
    }
    // The gap of values that are not finite stays one.
    const gap = nonFinite[next];
    const kept = new Set(low < 0 ? [] : [low, high]);
    if (gap && gap.from < to) {
      kept.add(Math.max(gap.from, from));
    }
    for (const index of [...kept].sort((a, b) => a - b)) {
      add(index);
    }
  }
  return { x, y };
}

/** Where values are not finite, at the height of the last one that was, or else at 1, which every axis has. */
function notFinite(series: Series, positions: XPositions): { x: number[]; y: number[]; text: string[] } {
  const at = positionOf(series, positions);
  const { values } = series;
  const marks: { x: number[]; y: number[]; text: string[] } = { x: [], y: [], text: [] };
  for (const { from, to, kind } of series.nonFinite.slice(0, MOST_MARKS)) {
    let near = from - 1;
    while (near >= 0 && !Number.isFinite(values[near]!)) {
      near -= 1;
    }
    for (let after = to; near < 0 && after < series.length; after++) {
      if (Number.isFinite(values[after]!)) {
        near = after;
      }
    }
    for (const i of to - from > 1 ? [from, to - 1] : [from]) {
      marks.x.push(at(i));
      marks.y.push(near < 0 ? 1 : values[near]!);
      marks.text.push(kind);
    }
  }
  return marks;
}
