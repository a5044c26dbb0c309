import type { Trace } from "plotly.js-basic-dist-min";
import type { Drawing, DrawnLine } from "../model/drawing.js";
import type { Palette } from "./palette.js";

const SYMBOLS = { nan: "x", high: "triangle-up", low: "triangle-down" };

/** The traces of a drawing. NaN and infinities become markers at the edge they left the chart by. */
export function tracesOf(drawing: Drawing, palette: Palette): Trace[] {
  const traces = drawing.lines.map((line, i) =>
    lineTrace(line, palette, drawing.lines[i - 1]?.style === "area"),
  );
  if (drawing.nonFinite.length > 0) {
    const [low, high] = drawing.y;
    traces.push({
      type: "scatter",
      mode: "markers",
      x: drawing.nonFinite.map((point) => point.x),
      y: drawing.nonFinite.map((point) => (point.value === Number.POSITIVE_INFINITY ? high : low)),
      marker: {
        color: palette.error,
        size: 9,
        symbol: drawing.nonFinite.map(({ value }) =>
          Number.isNaN(value) ? SYMBOLS.nan : value > 0 ? SYMBOLS.high : SYMBOLS.low,
        ),
      },
      cliponaxis: false,
      hoverinfo: "skip",
    });
  }
  if (drawing.above.length > 0) {
    traces.push({
      type: "scatter",
      mode: "markers",
      x: drawing.above.map((point) => point.x),
      y: drawing.above.map(() => drawing.y[1]),
      marker: {
        color: drawing.above.map(({ colour }) => palette.series[colour % palette.series.length]!),
        size: 7,
        symbol: SYMBOLS.high,
      },
      cliponaxis: false,
      hoverinfo: "skip",
    });
  }
  return traces;
}

function lineTrace({ points, style, colour, marked }: DrawnLine, palette: Palette, onArea: boolean): Trace {
  const color = palette.series[colour % palette.series.length]!;
  return {
    type: "scatter",
    mode: marked ? "lines+markers" : "lines",
    x: points.x,
    y: points.y,
    line: {
      color,
      width: style === "faint" || style === "area" ? 1 : 1.75,
      dash: style === "dashed" ? "dot" : "solid",
    },
    marker: { color, size: 4 },
    opacity: style === "faint" ? 0.3 : 1,
    fill: style === "area" ? (onArea ? "tonexty" : "tozeroy") : "none",
    fillcolor: palette.areas[colour % palette.areas.length]!,
    connectgaps: false,
    hoverinfo: "skip",
  };
}
