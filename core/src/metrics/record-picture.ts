/** The curves of a run as one small SVG, for saved notebooks, reports and folders: no scripts, no styles from outside. */
import type { ColumnTable } from "./columns.js";

/** Of one chart, in pixels, with its margins; two stand side by side. */
const [width, height] = [356, 128];
const [left, right, top, bottom] = [48, 14, 20, 18];
/** Neighbouring rows are drawn as their lowest and highest value, at most so many times. */
const buckets = 180;
/** They stand out from white and from black. */
const [ink, faint, lineColours, alarm] = ["#767676", "#76767640", ["#3b82f6", "#e08a00"], "#e5484d"] as const;

export interface Curve {
  readonly title: string;
  /** The first is the one that the chart is of. */
  readonly columns: readonly string[];
}

/** The charts that there is something to draw of: loss, learning rate, gradient norm and the speed, else the first columns. */
export function curvesOf(table: ColumnTable): Curve[] {
  const { columns } = table;
  const speeds = columns.filter((name) => name.endsWith("_per_second"));
  const speed = ["tokens_per_second", "frames_per_second"].find((name) => speeds.includes(name)) ?? speeds[0];
  const usual: Curve[] = [
    { title: "loss", columns: ["loss", "valid_loss"] },
    { title: "learning rate", columns: ["learning_rate"] },
    { title: "gradient norm", columns: ["gradient_norm"] },
    ...(speed === undefined ? [] : [{ title: speed.replace("_per_second", "/s"), columns: [speed] }]),
  ];
  const found = usual.filter((curve) => curve.columns.some((name) => columns.includes(name)));
  if (found.length > 0) return found;
  return columns
    .filter((name) => name !== "step" && name !== "time")
    .slice(0, 4)
    .map((name) => ({ title: name, columns: [name] }));
}

/** @returns undefined where no row has a number to draw */
export function drawRecord(table: ColumnTable, label: string): string | undefined {
  const charts = curvesOf(table).flatMap((curve) => drawCurve(table, curve) ?? []);
  if (charts.length === 0) return undefined;
  const [columns, rows] = [Math.min(2, charts.length), Math.ceil(charts.length / 2)];
  const [w, h] = [columns * width, rows * height];
  const placed = charts.map(
    (chart, i) => `<g transform="translate(${(i % 2) * width} ${Math.floor(i / 2) * height})">${chart}</g>`,
  );
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${w}" height="${h}" viewBox="0 0 ${w} ${h}" role="img" ` +
    `font-family="system-ui,sans-serif" font-size="10" fill="${ink}"><title>${escapeMarkup(label)}</title>${placed.join("")}</svg>`
  );
}

interface Line {
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Steps at which the value was NaN or infinite. */
  readonly broken: readonly number[];
  readonly few: boolean;
}

function drawCurve(table: ColumnTable, { title, columns }: Curve): string | undefined {
  const lines = columns.map((name) => lineOf(table, name));
  const points = lines.flatMap((line) => line.points);
  const broken = [...new Set(lines.flatMap((line) => line.broken))];
  if (points.length === 0 && broken.length === 0) return undefined;
  const [x0, x1] = rangeOf([...points.map(([x]) => x), ...broken]);
  const [low, high] = rangeOf(points.map(([, y]) => y));
  const pad = (high - low || Math.abs(high) || 1) * 0.06;
  const [y0, y1] = [low - pad, high + pad];
  const [w, h] = [width - left - right, height - top - bottom];
  const X = (x: number): string => rounded(left + (x1 > x0 ? ((x - x0) / (x1 - x0)) * w : w / 2));
  const Y = (y: number): string => rounded(top + h - ((y - y0) / (y1 - y0)) * h);
  const parts = [`<text x="${left}" y="12" font-weight="600">${escapeMarkup(title)}</text>`];
  for (const tick of points.length > 0 ? ticks(y0, y1, 3) : []) {
    parts.push(
      `<path d="M${left} ${Y(tick)}h${w}" stroke="${faint}"/><text x="${left - 4}" y="${Y(tick)}" dy=".35em" text-anchor="end">${numberText(tick)}</text>`,
    );
  }
  for (const tick of ticks(x0, x1, 4).filter(Number.isInteger)) {
    parts.push(`<text x="${X(tick)}" y="${height - 5}" text-anchor="middle">${numberText(tick)}</text>`);
  }
  for (const step of thinned(broken)) {
    parts.push(`<path d="M${X(step)} ${top}v${h}" stroke="${alarm}" stroke-opacity=".5"/>`);
  }
  lines.forEach((line, i) => {
    const colour = lineColours[i % lineColours.length]!;
    const path = line.points.map(([x, y]) => `${X(x)} ${Y(y)}`).join("L");
    if (line.points.length > 1)
      parts.push(
        `<path d="M${path}" fill="none" stroke="${colour}" stroke-width="1.3" stroke-linejoin="round"/>`,
      );
    if (line.few)
      for (const [x, y] of line.points)
        parts.push(`<circle cx="${X(x)}" cy="${Y(y)}" r="2" fill="${colour}"/>`);
    const name = columns[i]!;
    if (i > 0 && line.points.length > 0)
      parts.push(
        `<text x="${width - right}" y="12" text-anchor="end" fill="${colour}">${escapeMarkup(name)}</text>`,
      );
  });
  return parts.join("");
}

/** A column over the steps; of many rows their extremes. */
function lineOf(table: ColumnTable, name: string): Line {
  const points: [number, number][] = [];
  const broken: number[] = [];
  const size = Math.max(1, table.rowCount / buckets);
  const stepOf = (row: number): number => table.get("step", row) ?? row;
  let [bucket, count, lowestRow, highestRow] = [0, 0, -1, -1];
  let [lowest, highest] = [0, 0];
  const close = (): void => {
    if (lowestRow < 0) return;
    const ends: [number, number][] = [
      [lowestRow, lowest],
      [highestRow, highest],
    ];
    if (lowestRow > highestRow) ends.reverse();
    for (const [row, value] of lowestRow === highestRow ? ends.slice(1) : ends)
      points.push([stepOf(row), value]);
    lowestRow = -1;
  };
  table.each(name, (value, row) => {
    const at = Math.floor(row / size);
    if (at !== bucket) close();
    bucket = at;
    if (!Number.isFinite(value)) {
      broken.push(stepOf(row));
      return;
    }
    count++;
    if (lowestRow < 0) [lowest, highest, lowestRow, highestRow] = [value, value, row, row];
    if (value < lowest) [lowest, lowestRow] = [value, row];
    if (value > highest) [highest, highestRow] = [value, row];
  });
  close();
  return { points, broken, few: count <= 40 };
}

/** At most one of a pixel's width. */
function thinned(steps: readonly number[]): number[] {
  const [from, to] = rangeOf(steps);
  const places = new Map(steps.map((step) => [Math.round(((step - from) / (to - from || 1)) * width), step]));
  return [...places.values()];
}

function rangeOf(values: readonly number[]): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low <= high ? [low, high] : [0, 1];
}

/** About so many round numbers in a range. */
function ticks(low: number, high: number, count: number): number[] {
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const found: number[] = [];
  for (let i = Math.ceil(low / step); i * step <= high * (1 + 1e-9); i++)
    found.push(Number((i * step).toPrecision(12)));
  return found;
}

/** At most four digits: `0.0003`, `1.25M`. */
export function numberText(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "-∞";
  const size = Math.abs(value);
  if (size >= 1e15 || (size < 1e-4 && size > 0))
    return value
      .toExponential(2)
      .replace(/\.?0+e/, "e")
      .replace("e+", "e");
  const [scale, unit] =
    size >= 1e9 ? [1e9, "G"] : size >= 1e6 ? [1e6, "M"] : size >= 1e4 ? [1e3, "k"] : [1, ""];
  return `${Number((value / scale).toPrecision(4))}${unit}`;
}

function rounded(value: number): string {
  return String(Math.round(value * 10) / 10);
}

/** For HTML, SVG and their attributes; what XML cannot hold at all is left out. */
export function escapeMarkup(text: string): string {
  return (
    text
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is meant
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "")
      .replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd")
      .replaceAll("&", "&amp;")
      .replaceAll("<", "&lt;")
      .replaceAll(">", "&gt;")
      .replaceAll('"', "&quot;")
      .replaceAll("'", "&#39;")
  );
}
