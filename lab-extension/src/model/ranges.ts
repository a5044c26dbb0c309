import type { ChartSpec } from "./charts.js";
import type { DrawnLine } from "./drawing.js";

export type Range = readonly [number, number];

const PADDING = 0.06;
// Fewer values say too little of what is usual.
const LEAST_TO_JUDGE = 20;

/** The range that holds every line, with some air. Quantities that are parts of a whole or speeds start at zero. */
export function verticalRange(
  spec: ChartSpec,
  lines: readonly DrawnLine[],
  { log, zoom, robust }: { log: boolean; zoom: Range | null; robust: boolean },
): Range {
  const visible = lines.map((line) => valuesOf(line, zoom));
  const values = (
    visible.some((list) => list.length > 0) ? visible : lines.map((line) => valuesOf(line, null))
  )
    .flat()
    .filter((value) => (log ? value > 0 : true) && Number.isFinite(value));
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) {
    return log ? [0.1, 1] : [0, 1];
  }
  const isStack = lines.some(({ style }) => style === "area");
  if (robust && !isStack) {
    [low, high] = usualRange(values, low, high);
  } else if (spec.clipped) {
    high = Math.min(high, usualHighest(values));
  }
  if (log) {
    const ratio = Math.max(high / low, 1.05) ** PADDING;
    return [low / ratio, high * ratio];
  }
  if ((isStack || spec.unit !== "number") && low >= 0) {
    low = 0;
  }
  const air = (high - low) * PADDING || Math.abs(high) * PADDING || 1;
  return [low === 0 ? 0 : low - air, high + air];
}

function valuesOf({ points, base }: DrawnLine, zoom: Range | null): number[] {
  const inside = zoom ? (i: number) => points.x[i]! >= zoom[0] && points.x[i]! <= zoom[1] : () => true;
  const values = points.y.filter((_, i) => inside(i));
  return base ? values.concat(base.filter((_, i) => inside(i))) : values;
}

/** Above this a value is far from the others: four times their spread above 95 of 100. */
function usualHighest(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  if (sorted.length < LEAST_TO_JUDGE) {
    return Number.POSITIVE_INFINITY;
  }
  const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))]!;
  const spread = at(0.95) - at(0.05) || Math.abs(at(0.95));
  return spread > 0 ? at(0.95) + 4 * spread : Number.POSITIVE_INFINITY;
}

/** Without the hundredth part at each end, and three times as much again as what is left is wide, or the whole where that is less. */
function usualRange(values: readonly number[], low: number, high: number): Range {
  if (values.length < LEAST_TO_JUDGE) {
    return [low, high];
  }
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!;
  const [from, to] = [at(0.02), at(0.98)];
  const air = (to - from) * 0.5 || Math.abs(to) * 0.5;
  return [Math.max(low, from - air), Math.min(high, to + air)];
}
