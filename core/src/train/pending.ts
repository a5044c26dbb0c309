/** Steps that are queued on the device, and what is waited for of them. */
import type { MetricsRow } from "../metrics/index.js";
import type { Standing } from "./checkpoints.js";
import type { Figures } from "./divergence.js";
import type { Moment } from "./progress.js";
import { fetched } from "./statistics.js";
import type { StepReport, TrainableModel } from "./step.js";

/** Steps or batches queued on the device before the oldest is waited for. */
export const inFlight = 2;

export interface Arrived {
  readonly figures: Figures;
  /** Further columns of the metrics. */
  readonly more: MetricsRow;
  /** When they came, in milliseconds of `performance.now()`. */
  readonly at: number;
}

export interface Pending<M extends TrainableModel> {
  readonly before: Moment<M>;
  readonly after: Standing;
  readonly result: Promise<Arrived>;
}

/** Asks for the figures of a step that was just queued, and for its columns if they are wanted. */
export function arriving(
  step: number,
  { figures, columns }: StepReport,
  wantsColumns: boolean,
): Promise<Arrived> {
  const more = wantsColumns ? fetched(columns) : {};
  const result = Promise.all([figures.data(), more]).then(([values, row]): Arrived => {
    const [loss, learningRate, gradientNorm, why] = Array.from(values, Number) as [
      number,
      number,
      number,
      number,
    ];
    return { figures: { step, loss, learningRate, gradientNorm, why }, more: row, at: performance.now() };
  });
  // It is awaited later, or not at all after a failure.
  result.catch(() => {});
  return result;
}
