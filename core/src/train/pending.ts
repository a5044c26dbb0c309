/** Steps that are queued on the device, and what is waited for of them. */
import type { MetricsRow } from "../metrics/index.js";
import type { Standing } from "./checkpoints.js";
import type { Figures } from "./divergence.js";
import type { Moment } from "./progress.js";
import { fetched } from "./statistics.js";
import type { StepReport } from "./step.js";

/** Steps or batches queued on the device before the oldest is waited for. */
export const inFlight = 2;

export interface Arrived {
  readonly figures: Figures;
  /** Further columns of the metrics. */
  readonly more: MetricsRow;
  /** When they came, in milliseconds of `performance.now()`. */
  readonly at: number;
}

export interface Pending {
  readonly before: Moment;
  readonly after: Standing;
  /** When it was queued, in milliseconds of `performance.now()`, and whether its program was compiled right before. */
  readonly queuedAt: number;
  readonly compiled: boolean;
  /** What its batch holds. */
  readonly own: Readonly<Record<string, number>>;
  readonly flops: number | undefined;
  /** Of the data. */
  readonly columns: MetricsRow;
  readonly result: Promise<Arrived>;
  /** Whoever waits for its row. */
  logged(row: MetricsRow): void;
  failed(error: unknown): void;
}

/** Asks for the figures of a step that was just queued, and for its columns if they are wanted. */
export function arriving(
  step: number,
  { figures, names, statistics }: StepReport,
  wantsStatistics: boolean,
): Promise<Arrived> {
  const more = wantsStatistics ? fetched(statistics) : {};
  const result = Promise.all([figures.data(), more]).then(([values, row]): Arrived => {
    const [loss, learningRate, gradientNorm, why, ...others] = Array.from(values, Number) as [
      number,
      number,
      number,
      number,
      ...number[],
    ];
    const metrics: MetricsRow = {};
    // Of a sound step, what is no number was not measured in it.
    for (const [i, name] of (names === "" ? [] : names.split("\n")).entries())
      if (why !== 0 || !Number.isNaN(others[i])) metrics[name] = others[i]!;
    return {
      figures: { step, loss, learningRate, gradientNorm, why },
      more: { ...metrics, ...row },
      at: performance.now(),
    };
  });
  // It is awaited later, or not at all after a failure.
  result.catch(() => {});
  return result;
}
