import type { ChartSpec, Unit } from "../model/charts.js";
import type { Drawing, DrawnLine } from "../model/drawing.js";
import { formatPosition, formatTick, tickTexts } from "../model/format.js";
import type { MarkKind } from "../model/marks.js";
import { integerTicks, linearTicks, logTicks, timeTicks } from "../model/ticks.js";
import type { Palette } from "./palette.js";
import type { Pen } from "./pen.js";

/** Where in its picture the plot lies, in pixels. */
export interface Plot {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

export interface Axes {
  readonly plot: Plot;
  readonly xTicks: readonly { readonly at: number; readonly text: string }[];
  readonly yTicks: readonly { readonly at: number; readonly text: string }[];
  readonly xTitle: string;
  readonly yTitle: string;
}

const MOST_TICKS = 10;
const TICK_SPACING = { x: 74, y: 34 };
const AIR = { top: 10, right: 12 };

/** Lays out a picture: the axes take what their texts need. */
export function layOut(
  drawing: Drawing,
  {
    unit,
    yTitle,
    axis,
    xTitle,
    fontSize,
  }: { unit: Unit; yTitle: string; axis: string; xTitle: string; fontSize: number },
  width: number,
  height: number,
): Axes {
  const bottom = Math.ceil(fontSize * 2.9);
  const plotHeight = Math.max(20, height - AIR.top - bottom);
  const yCount = Math.max(2, Math.floor(plotHeight / TICK_SPACING.y));
  const [low, high] = drawing.y;
  const yValues = drawing.log ? logTicks(low, high, yCount) : linearTicks(low, high, yCount);
  const yTexts = tickTexts(yValues, (value, digits) => formatTick(value, unit, digits));
  const longest = Math.max(3, ...yTexts.map((text) => text.length));
  const left = Math.ceil(longest * fontSize * 0.56) + Math.ceil(fontSize * 1.6) + 6;
  const plotWidth = Math.max(20, width - left - AIR.right);
  const xCount = Math.min(MOST_TICKS, Math.max(2, Math.floor(plotWidth / TICK_SPACING.x)));
  const ticksOf =
    axis === "time" ? timeTicks : axis === "step" || axis === "tokens" ? integerTicks : linearTicks;
  const xValues = ticksOf(drawing.x[0], drawing.x[1], xCount);
  const xTexts = tickTexts(xValues, (value, digits) => formatPosition(value, axis, digits));
  const plot: Plot = { left, top: AIR.top, width: plotWidth, height: plotHeight };
  const xAt = xScale(drawing, plot);
  const yAt = yScale(drawing, plot);
  return {
    plot,
    xTicks: xValues.map((value, i) => ({ at: xAt(value), text: xTexts[i]! })),
    yTicks: yValues.map((value, i) => ({ at: yAt(value), text: yTexts[i]! })),
    xTitle,
    yTitle,
  };
}

export function xScale(
  { x: [low, high] }: Pick<Drawing, "x">,
  { left, width }: Plot,
): (value: number) => number {
  const factor = width / (high - low || 1);
  return (value) => left + (value - low) * factor;
}

export function yScale(
  { y, log }: Pick<Drawing, "y" | "log">,
  { top, height }: Plot,
): (value: number) => number {
  const [low, high] = log ? [Math.log10(y[0]), Math.log10(y[1])] : y;
  const factor = height / (high - low || 1);
  return log
    ? (value) => top + height - (Math.log10(value) - low) * factor
    : (value) => top + height - (value - low) * factor;
}

/** The axes: grid, ticks and titles. */
export function paintAxes(pen: Pen, { plot, xTicks, yTicks, xTitle, yTitle }: Axes, palette: Palette): void {
  const { left, top, width, height } = plot;
  const bottom = top + height;
  const size = palette.fontSize;
  const text = { colour: palette.text, size };
  for (const { at, text: label } of yTicks) {
    const y = Math.round(at) + 0.5;
    pen.line([left, left + width], [y, y], { colour: palette.grid, width: 1, alpha: 0.7 });
    pen.text(label, left - 6, y + size * 0.35, { ...text, align: "end" });
  }
  pen.line([left, left + width], [bottom + 0.5, bottom + 0.5], { colour: palette.axis, width: 1 });
  for (const { at, text: label } of xTicks) {
    const x = Math.round(at) + 0.5;
    pen.line([x, x], [bottom, bottom + 4], { colour: palette.axis, width: 1 });
    // A label at the edge stays in the picture.
    const align = at > left + width - size * 1.5 ? "end" : at < left + size ? "start" : "middle";
    pen.text(label, align === "end" ? left + width : align === "start" ? left : at, bottom + size * 1.35, {
      ...text,
      align,
    });
  }
  pen.text(xTitle, left + width / 2, bottom + size * 2.6, { ...text, align: "middle" });
  pen.text(yTitle, size, top + height / 2, { ...text, align: "middle", isUpright: true });
}

const MARK_SYMBOLS: Record<MarkKind, "diamond" | "up" | "down" | "dot" | "cross"> = {
  checkpoint: "diamond",
  resume: "up",
  interrupt: "cross",
  validation: "dot",
  spike: "down",
};

/** The lines and marks, cut off at the plot's edges. */
export function paintLines(pen: Pen, drawing: Drawing, spec: ChartSpec, plot: Plot, palette: Palette): void {
  const xAt = xScale(drawing, plot);
  const yAt = yScale(drawing, plot);
  const { left, top, width, height } = plot;
  const bottom = top + height;
  pen.clipped(left, top, width, height, () => {
    for (const mark of drawing.marks) {
      if (mark.kind !== "validation" && mark.kind !== "checkpoint") {
        const x = Math.round(xAt(mark.x)) + 0.5;
        const colour = mark.kind === "spike" ? palette.warning : palette.text;
        pen.line([x, x], [top, bottom], { colour, width: 1, alpha: 0.6, dash: [3, 3] });
      }
    }
    if (drawing.limit !== undefined) {
      const y = yAt(drawing.limit);
      pen.line([left, left + width], [y, y], { colour: palette.error, width: 1, dash: [6, 3] });
    }
    for (const line of drawing.lines) {
      paintLine(pen, line, spec, xAt, yAt, bottom, palette);
    }
  });
  pen.clipped(left - 6, top - 8, width + 12, height + 16, () => {
    for (const { x, end, kind } of drawing.nonFinite) {
      const y = kind === "Infinity" ? top : bottom;
      const [from, to] = [xAt(x), xAt(end)];
      if (to - from > 2) {
        pen.rectangle(from, kind === "Infinity" ? top : bottom - 5, to - from, 5, palette.error, 0.55);
      }
      if (from >= left - 1 && from <= left + width + 1) {
        pen.symbol(kind === "NaN" ? "cross" : kind === "Infinity" ? "up" : "down", from, y, 9, palette.error);
      }
    }
    for (const { x, colour, isAbove } of drawing.outside) {
      pen.symbol(
        isAbove ? "up" : "down",
        xAt(x),
        isAbove ? top + 3 : bottom - 3,
        6,
        palette.series[colour % palette.series.length]!,
      );
    }
    for (const mark of drawing.marks) {
      const x = xAt(mark.x);
      if (x >= left && x <= left + width) {
        const isAtBottom = mark.kind === "checkpoint" || mark.kind === "validation";
        const colour =
          mark.kind === "spike"
            ? palette.warning
            : mark.kind === "validation"
              ? palette.series[1]!
              : palette.text;
        pen.symbol(
          MARK_SYMBOLS[mark.kind],
          x,
          isAtBottom ? bottom : top + 2,
          mark.kind === "validation" ? 4 : 7,
          colour,
        );
      }
    }
  });
}

/** From so many points on a line of extremes is drawn column by column, which costs a tenth of a line with as many corners. */
const DENSE = 300;

/** Of each column of pixels the part between the least and the greatest value. */
function paintColumns(pen: Pen, x: readonly number[], y: readonly number[], colour: string): void {
  let column = Number.NaN;
  let top = 0;
  let bottom = 0;
  const flush = () => {
    if (!Number.isNaN(column)) {
      pen.rectangle(column, top - 0.5, 1, bottom - top + 1, colour, 0.35);
    }
  };
  for (let i = 0; i < x.length; i++) {
    const at = Math.floor(x[i]!);
    const value = y[i]!;
    if (Number.isNaN(value) || Number.isNaN(at)) {
      continue;
    }
    if (at !== column) {
      flush();
      column = at;
      top = value;
      bottom = value;
    } else {
      top = Math.min(top, value);
      bottom = Math.max(bottom, value);
    }
  }
  flush();
}

function paintLine(
  pen: Pen,
  { points, base, style, colour: index, marked }: DrawnLine,
  spec: ChartSpec,
  xAt: (value: number) => number,
  yAt: (value: number) => number,
  bottom: number,
  palette: Palette,
): void {
  const colour = palette.series[index % palette.series.length]!;
  const { length } = points.x;
  const x = new Array<number>(length);
  const y = new Array<number>(length);
  for (let i = 0; i < length; i++) {
    x[i] = xAt(points.x[i]!);
    y[i] = yAt(points.y[i]!);
  }
  switch (style) {
    case "area":
    case "band": {
      const lower = base
        ? base.map((value) => yAt(value))
        : y.map((value) => (Number.isNaN(value) ? value : bottom));
      pen.area(x, y, lower, colour, style === "band" ? 0.2 : 0.45);
      if (style === "area") {
        pen.line(x, y, { colour, width: 1 });
      }
      return;
    }
    case "dots":
      for (let i = 0; i < length; i++) {
        pen.symbol("dot", x[i]!, y[i]!, 3, colour);
      }
      return;
    case "faint":
      if (length > DENSE) {
        paintColumns(pen, x, y, colour);
        return;
      }
      pen.line(x, y, { colour, width: 1, alpha: 0.35 });
      return;
    default: {
      const dash = style === "dashed" ? [4, 3] : index >= palette.series.length ? [8, 3] : [];
      pen.line(x, y, { colour, width: spec.wide ? 1.75 : 1.5, dash });
      if (marked) {
        for (let i = 0; i < length; i++) {
          if (Number.isFinite(y[i])) {
            pen.symbol("dot", x[i]!, y[i]!, 4.5, colour);
          }
        }
      }
    }
  }
}
