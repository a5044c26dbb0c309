import type { Values } from "./derived.js";

/** Points to draw. */
export interface Points {
  readonly x: number[];
  readonly y: number[];
}

/** Indices, the last not among them. */
export type Span = readonly [from: number, to: number];

/** The first and one past the last index of `span` whose x lies in `range`, and one neighbour each side so that lines
 * reach the edge. `x` ascends in the span. */
export function visibleSpan(
  [first, end]: Span,
  x: (index: number) => number,
  range: readonly [number, number] | null,
): Span {
  if (!range) {
    return [first, end];
  }
  const lowerBound = (limit: number) => {
    let low = first;
    let high = end;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (x(middle) < limit) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  };
  return [Math.max(first, lowerBound(range[0]) - 1), Math.min(end, lowerBound(range[1]) + 2)];
}

/** Values in a bucket, a power of two: the borders of buckets stay where they are while a run grows, and lines do not flicker. */
export function bucketWidth(count: number, buckets: number): number {
  return count <= 2 * buckets ? 1 : 2 ** Math.ceil(Math.log2(count / buckets));
}

/** Calls `visit` for each bucket of a span. */
export function eachBucket([from, to]: Span, width: number, visit: (from: number, to: number) => void): void {
  for (let start = Math.floor(from / width) * width; start < to; start += width) {
    visit(Math.max(from, start), Math.min(to, start + width));
  }
}

/**
 * Thins a line to at most two points for each bucket, which keep every extreme: of each bucket of neighbours its lowest and
 * its highest value, in their order. A bucket without a finite value becomes a gap.
 */
export function decimate(
  { values, extremes }: Values,
  x: (index: number) => number,
  span: Span,
  width: number,
  points: Points,
): void {
  if (width === 1) {
    for (let i = span[0]; i < span[1]; i++) {
      const value = values[i]!;
      points.x.push(x(i));
      points.y.push(Number.isFinite(value) ? value : Number.NaN);
    }
    return;
  }
  eachBucket(span, width, (from, to) => {
    extremes.find(from, to);
    const { low, high } = extremes;
    if (low < 0) {
      points.x.push(x(from));
      points.y.push(Number.NaN);
      return;
    }
    const first = Math.min(low, high);
    points.x.push(x(first));
    points.y.push(values[first]!);
    if (low !== high) {
      const second = Math.max(low, high);
      points.x.push(x(second));
      points.y.push(values[second]!);
    }
  });
}

/** The mean of each bucket, where its first value lies. */
export function means(
  { extremes }: Values,
  x: (index: number) => number,
  span: Span,
  width: number,
  points: Points,
): void {
  eachBucket(span, width, (from, to) => {
    points.x.push(x((from + to - 1) >> 1));
    points.y.push(extremes.mean(from, to));
  });
}

/** Ends the line that the points make; what follows is another. */
export function breakLine(points: Points): void {
  if (points.x.length > 0) {
    points.x.push(Number.NaN);
    points.y.push(Number.NaN);
  }
}

/** A picture has no place for more points than it has cells: of those in one cell the first is kept. */
export function thinCloud(
  count: number,
  point: (index: number) => readonly [x: number, y: number],
  columns: number,
  rows: number,
): Points {
  let [left, right, low, high] = [
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
  ];
  for (let i = 0; i < count; i++) {
    const [x, y] = point(i);
    if (Number.isFinite(x) && Number.isFinite(y)) {
      left = Math.min(left, x);
      right = Math.max(right, x);
      low = Math.min(low, y);
      high = Math.max(high, y);
    }
  }
  const cells = new Uint8Array((columns + 1) * (rows + 1));
  const points: Points = { x: [], y: [] };
  for (let i = 0; i < count; i++) {
    const [x, y] = point(i);
    if (Number.isFinite(x) && Number.isFinite(y)) {
      const column = Math.floor(((x - left) / (right - left || 1)) * columns);
      const row = Math.floor(((y - low) / (high - low || 1)) * rows);
      const cell = row * (columns + 1) + column;
      if (cells[cell] === 0) {
        cells[cell] = 1;
        points.x.push(x);
        points.y.push(y);
      }
    }
  }
  return points;
}
