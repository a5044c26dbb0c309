import type { Run } from "./run.js";

/** Where a run is. Seconds; NaN where it is not known. */
export interface Progress {
  readonly step: number;
  readonly totalSteps: number | undefined;
  /** 0 to 1, undefined when the run has no planned end. */
  readonly fraction: number | undefined;
  readonly elapsed: number;
  readonly left: number;
}

// Enough steps to even out one slow step, few enough to follow a change of speed.
const RATE_STEPS = 50;

/** How far a run is, and how long it will take at the speed of its last steps. */
export function progressOf(run: Run): Progress {
  const steps = run.series("step");
  const times = run.series("time");
  const step = run.last("step");
  const elapsed = run.last("time");
  const { totalSteps } = run.info;
  const fraction =
    totalSteps !== undefined && totalSteps > 0 && step >= 0 ? Math.min(1, step / totalSteps) : undefined;
  let left = Number.NaN;
  if (steps && times && totalSteps !== undefined && steps.length > 1 && times.length > 1) {
    const since = Math.max(0, Math.min(steps.length, times.length) - 1 - RATE_STEPS);
    const rate = (elapsed - times.values[since]!) / (step - steps.values[since]!);
    if (Number.isFinite(rate) && rate > 0) {
      left = Math.max(0, totalSteps - step) * rate;
    }
  }
  return { step, totalSteps, fraction, elapsed, left };
}

/** The bytes of the memory's categories together, or of its total where that is more; undefined where none were logged. */
export function memoryOf(run: Run): number | undefined {
  const names = run.columns.filter((name) => name.startsWith("memory_") && !name.includes("/"));
  if (names.length === 0) {
    return undefined;
  }
  const total = run.last("memory_total");
  const parts = names
    .filter((name) => name !== "memory_total")
    .reduce((sum, name) => sum + (Number.isFinite(run.last(name)) ? run.last(name) : 0), 0);
  return Number.isFinite(total) ? Math.max(total, parts) : parts;
}
