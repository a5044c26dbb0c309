import type { TranslationBundle } from "@jupyterlab/translation";
import type { ChartSpec } from "../model/charts.js";
import { Drawer, legendOf } from "../model/drawing.js";
import { axisTitle, formatValue, unitTitle } from "../model/format.js";
import type { Run } from "../model/run.js";
import type { RunGroup } from "../model/seedAverage.js";
import type { ViewOptions } from "../model/viewOptions.js";
import { nameOf } from "../model/wording.js";
import { layOut, paintAxes, paintLines } from "../painting/paint.js";
import type { Palette } from "../painting/palette.js";
import { CanvasPen, type Pen, SvgPen } from "../painting/pen.js";

/** What a picture of charts is made of. */
export interface PictureParts {
  readonly specs: readonly ChartSpec[];
  readonly runs: readonly Run[];
  readonly groups: readonly RunGroup[] | null;
  readonly options: ViewOptions;
  readonly palette: Palette;
  readonly trans: TranslationBundle;
}

const CARD = { width: 560, height: 280, gap: 20 };
const HEAD = 44;
const COLUMNS = 2;
/** Pixels of a PNG for each of the picture's. */
const SHARPNESS = 2;

/** One chart with its title and legend, its upper left corner at (left, top). */
export function paintChart(
  pen: Pen,
  spec: ChartSpec,
  { runs, groups, options, palette, trans }: PictureParts,
  width: number,
  height: number,
): void {
  const { choices, zoom } = options;
  const drawing = new Drawer(spec).draw(runs, choices, zoom, width - 60, options.zoomOf(spec.id), groups);
  const head = HEAD;
  const layout = layOut(
    drawing,
    {
      unit: spec.unit,
      yTitle: unitTitle(spec, trans),
      axis: choices.xAxis,
      xTitle: axisTitle(choices.xAxis, trans),
      fontSize: palette.fontSize,
    },
    width,
    height - head,
  );
  const plot = { ...layout.plot, top: layout.plot.top + head };
  const moved = {
    ...layout,
    plot,
    yTicks: layout.yTicks.map(({ at, text }) => ({ at: at + head, text })),
  };
  pen.text(spec.title, 12, 18, {
    colour: palette.strong,
    size: palette.fontSize + 3,
    align: "start",
    bold: true,
  });
  paintLegend(pen, spec, runs, groups, palette, width);
  paintAxes(pen, moved, palette);
  paintLines(pen, drawing, spec, plot, palette);
}

function paintLegend(
  pen: Pen,
  spec: ChartSpec,
  runs: readonly Run[],
  groups: readonly RunGroup[] | null,
  palette: Palette,
  width: number,
): void {
  const items = groups
    ? groups.map(({ label }, colour) => ({ label, colour, value: "" }))
    : legendOf(spec, runs).map(({ run, line, colour }) => ({
        label:
          runs.length === 1
            ? line.label
            : spec.lines.length > 1
              ? `${nameOf(run, runs)} · ${line.label}`
              : nameOf(run, runs),
        colour,
        value: runs.length === 1 ? formatValue(run.last(line.column), spec.unit) : "",
      }));
  let x = 12;
  for (const { label, colour, value } of items) {
    const text = value === "" ? label : `${label} ${value}`;
    const needed = 18 + text.length * palette.fontSize * 0.56;
    if (x + needed > width - 12) {
      pen.text("…", x, 36, { colour: palette.text, size: palette.fontSize, align: "start" });
      break;
    }
    pen.rectangle(x, 31, 12, 3, palette.series[colour % palette.series.length]!);
    pen.text(text, x + 16, 36, { colour: palette.text, size: palette.fontSize, align: "start" });
    x += needed + 10;
  }
}

function pictureSize(count: number): { width: number; height: number } {
  const columns = Math.min(COLUMNS, Math.max(1, count));
  const rows = Math.ceil(count / columns);
  return {
    width: columns * CARD.width + (columns + 1) * CARD.gap,
    height: rows * CARD.height + (rows + 1) * CARD.gap,
  };
}

/** A chart as an SVG of its own. */
export function chartSvg(
  spec: ChartSpec,
  parts: PictureParts,
  width = CARD.width,
  height = CARD.height,
): string {
  const pen = new SvgPen(parts.palette.font);
  pen.rectangle(0, 0, width, height, parts.palette.background);
  paintChart(pen, spec, parts, width, height);
  return pen.toSvg(width, height, spec.title);
}

/** All charts as one SVG. */
export function chartsSvg(parts: PictureParts): string {
  const { width, height } = pictureSize(parts.specs.length);
  const columns = Math.min(COLUMNS, Math.max(1, parts.specs.length));
  const cards = parts.specs.map((spec, i) => {
    const x = CARD.gap + (i % columns) * (CARD.width + CARD.gap);
    const y = CARD.gap + Math.floor(i / columns) * (CARD.height + CARD.gap);
    return `<g transform="translate(${x} ${y})">${chartSvg(spec, parts)}</g>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"><rect width="100%" height="100%" fill="${parts.palette.background}"/>${cards.join("")}</svg>`;
}

/** All charts as one PNG. */
export async function chartsPng(parts: PictureParts): Promise<Blob> {
  const { width, height } = pictureSize(parts.specs.length);
  const columns = Math.min(COLUMNS, Math.max(1, parts.specs.length));
  const canvas = document.createElement("canvas");
  canvas.width = width * SHARPNESS;
  canvas.height = height * SHARPNESS;
  const context = canvas.getContext("2d")!;
  context.fillStyle = parts.palette.background;
  context.fillRect(0, 0, canvas.width, canvas.height);
  parts.specs.forEach((spec, i) => {
    const x = CARD.gap + (i % columns) * (CARD.width + CARD.gap);
    const y = CARD.gap + Math.floor(i / columns) * (CARD.height + CARD.gap);
    context.setTransform(SHARPNESS, 0, 0, SHARPNESS, x * SHARPNESS, y * SHARPNESS);
    paintChart(new CanvasPen(context, parts.palette.font), spec, parts, CARD.width, CARD.height);
  });
  return new Promise((resolve, reject) => {
    canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error("The picture is too large."))),
      "image/png",
    );
  });
}
