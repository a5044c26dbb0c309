/** What a check of a device is: a computation there, beside the same one in float64 here. */
import { type DType, type Tensor, tensor } from "aronnax";
import type { Dense } from "./reference.js";

/** One line of a report. A check that threw has an infinite error and the message. */
export interface Row {
  readonly name: string;
  readonly relativeError: number;
  readonly limit: number;
  readonly error?: string;
}

export interface Check {
  readonly name: string;
  /** The largest relative error that passes. */
  readonly limit: number;
  /** The relative error. */
  readonly run: () => Promise<number>;
}

type Numbers = ArrayLike<number | bigint>;
/** What was computed there, and what it should be. */
export type Pair = readonly [actual: Tensor, expected: Dense | Numbers];

/** A check that everything `compute` gives is what it should be. Nothing runs before the check does. */
export function check(name: string, limit: number, compute: () => Pair | readonly Pair[]): Check {
  return {
    name,
    limit,
    async run() {
      const given = compute();
      const pairs = (Array.isArray(given[0]) ? given : [given]) as readonly Pair[];
      const errors = await Promise.all(
        pairs.map(async ([actual, expected]) =>
          relativeError(
            await actual.data(),
            "data" in expected ? (expected as Dense).data : (expected as Numbers),
          ),
        ),
      );
      return Math.max(...errors);
    },
  };
}

/**
 * The largest difference of two elements over the largest finite element expected. Infinite where the lengths differ, or one side has a NaN
 * or an infinity that the other has not.
 */
export function relativeError(actual: Numbers, expected: Numbers): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let [scale, worst] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const [x, y] = [Number(actual[i]), Number(expected[i])];
    if (Object.is(x, y) || x === y) {
      if (Number.isFinite(y)) scale = Math.max(scale, Math.abs(y));
      continue;
    }
    if (!Number.isFinite(x) || !Number.isFinite(y)) return Number.POSITIVE_INFINITY;
    scale = Math.max(scale, Math.abs(y));
    worst = Math.max(worst, Math.abs(x - y));
  }
  return worst === 0 ? 0 : worst / Math.max(scale, Number.MIN_VALUE);
}

/** The numbers of `x` on the device. */
export function upload(x: Dense, dtype: DType = "float32"): Tensor {
  return tensor(x.data, { shape: x.shape, dtype });
}

/** Runs the checks one after the other; none stops the others. `report` gets each row as it comes. */
export async function runChecks(checks: readonly Check[], report?: (row: Row) => void): Promise<Row[]> {
  const rows: Row[] = [];
  for (const { name, limit, run } of checks) {
    const row = await run().then(
      (found): Row => ({ name, limit, relativeError: found }),
      (error: unknown): Row => ({
        name,
        limit,
        relativeError: Number.POSITIVE_INFINITY,
        error: (error instanceof Error ? error.message : String(error)).slice(0, 2000),
      }),
    );
    rows.push(row);
    report?.(row);
  }
  return rows;
}
