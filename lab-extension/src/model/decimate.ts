/** Points to draw. */
export interface Points {
  readonly x: number[];
  readonly y: number[];
}

/** Where a value is not finite: nothing can be drawn there but a marker. */
export interface NonFinitePoint {
  readonly x: number;
  readonly value: number;
}

/** The first and one past the last index whose x lies in `[from, to]`, and one neighbour each side so that lines
 * reach the edge. `x` ascends. */
export function visibleRange(
  length: number,
  x: (index: number) => number,
  range: readonly [number, number] | null,
): [number, number] {
  if (!range) {
    return [0, length];
  }
  const lowerBound = (limit: number) => {
    let low = 0;
    let high = length;
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
  return [Math.max(0, lowerBound(range[0]) - 1), Math.min(length, lowerBound(range[1]) + 2)];
}

/**
 * Thins a line to at most `2 * buckets` points that keep every extreme: of each bucket of neighbours its lowest and
 * its highest value, in their order. A bucket without a finite value becomes a gap.
 */
export function decimate(
  y: Float64Array,
  x: (index: number) => number,
  [from, to]: readonly [number, number],
  buckets: number,
): Points {
  const points: Points = { x: [], y: [] };
  const count = to - from;
  if (count <= 2 * buckets) {
    for (let i = from; i < to; i++) {
      points.x.push(x(i));
      points.y.push(Number.isFinite(y[i]) ? y[i]! : Number.NaN);
    }
    return points;
  }
  for (let bucket = 0; bucket < buckets; bucket++) {
    const start = from + Math.floor((bucket * count) / buckets);
    const end = from + Math.floor(((bucket + 1) * count) / buckets);
    let lowest = -1;
    let highest = -1;
    for (let i = start; i < end; i++) {
      const value = y[i]!;
      if (!Number.isFinite(value)) {
        continue;
      }
      if (lowest < 0 || value < y[lowest]!) {
        lowest = i;
      }
      if (highest < 0 || value > y[highest]!) {
        highest = i;
      }
    }
    if (lowest < 0) {
      points.x.push(x(start));
      points.y.push(Number.NaN);
      continue;
    }
    for (const i of lowest === highest ? [lowest] : [Math.min(lowest, highest), Math.max(lowest, highest)]) {
      points.x.push(x(i));
      points.y.push(y[i]!);
    }
  }
  return points;
}

/** The places where `y` is not finite, at most one of each kind (NaN, +∞, -∞) a bucket. */
export function nonFinitePoints(
  y: Float64Array,
  x: (index: number) => number,
  [from, to]: readonly [number, number],
  buckets: number,
): NonFinitePoint[] {
  const points: NonFinitePoint[] = [];
  const width = Math.max(1, (to - from) / buckets);
  const lastBucket = new Map<string, number>();
  for (let i = from; i < to; i++) {
    const value = y[i]!;
    if (Number.isFinite(value)) {
      continue;
    }
    const bucket = Math.floor((i - from) / width);
    if (lastBucket.get(String(value)) !== bucket) {
      lastBucket.set(String(value), bucket);
      points.push({ x: x(i), value });
    }
  }
  return points;
}
