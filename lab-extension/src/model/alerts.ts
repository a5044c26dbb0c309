import type { Run } from "./run.js";

/** What is to be told of, as the settings have it. */
export interface AlertRules {
  /** A loss or a gradient norm that is not finite. */
  readonly notFinite: boolean;
  /** Seconds without a step; 0 for never. A run whose steps take longer has twenty of them. */
  readonly stalledSeconds: number;
  /** Share of a device's memory that is taken, 0 to 1; 0 for never. */
  readonly memoryShare: number;
}

export const DEFAULT_RULES: AlertRules = { notFinite: true, stalledSeconds: 120, memoryShare: 0.95 };

export type Alert =
  | { readonly kind: "notFinite"; readonly column: string; readonly value: string; readonly step: number }
  | { readonly kind: "stalled"; readonly seconds: number }
  | { readonly kind: "memory"; readonly share: number; readonly device: string };

const WATCHED = ["loss", "valid_loss", "gradient_norm"];

/**
 * What is wrong with a run now.
 *
 * @param silence - seconds since its newest row came.
 * @param devices - how much of the memory of each device is taken.
 */
export function alertsOf(
  run: Run,
  rules: AlertRules,
  silence: number,
  devices: readonly { readonly name: string; readonly share: number }[] = [],
): readonly Alert[] {
  const alerts: Alert[] = [];
  if (rules.notFinite) {
    for (const column of WATCHED) {
      const series = run.series(column);
      const range = series?.nonFinite.at(-1);
      if (series && range && range.to === series.length) {
        alerts.push({
          kind: "notFinite",
          column,
          value: range.kind,
          step: run.stepOf(series.rowOf(range.from)),
        });
      }
    }
  }
  const isRunning = run.info.status === "running" && !run.info.isStale;
  const slow = 20 * (run.last("step_seconds") || 0);
  // The first step waits for the compiler, however long that takes.
  if (
    isRunning &&
    rules.stalledSeconds > 0 &&
    run.rowCount > 0 &&
    silence > Math.max(rules.stalledSeconds, slow)
  ) {
    alerts.push({ kind: "stalled", seconds: silence });
  }
  if (isRunning && rules.memoryShare > 0) {
    for (const { name, share } of devices) {
      if (share >= rules.memoryShare) {
        alerts.push({ kind: "memory", share, device: name });
      }
    }
  }
  return alerts;
}

export function readRules(stored: unknown): AlertRules {
  const given = (typeof stored === "object" && stored !== null ? stored : {}) as Record<string, unknown>;
  const number = (value: unknown, otherwise: number) =>
    typeof value === "number" && value >= 0 ? value : otherwise;
  return {
    notFinite: typeof given.notFinite === "boolean" ? given.notFinite : DEFAULT_RULES.notFinite,
    stalledSeconds: number(given.stalledSeconds, DEFAULT_RULES.stalledSeconds),
    memoryShare: number(given.memoryShare, DEFAULT_RULES.memoryShare),
  };
}
