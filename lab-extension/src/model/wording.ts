import type { TranslationBundle } from "@jupyterlab/translation";
import { formatInteger } from "./format.js";
import type { RunInfo } from "./protocol.js";
import type { NonFiniteSteps, Run } from "./run.js";

/** How a run's status is shown: as it says, or `stale` where its process is gone. */
export function statusOf({ status, isStale }: Pick<RunInfo, "status" | "isStale">): string | undefined {
  return isStale && status === "running" ? "stale" : status;
}

export function statusLabel(status: string, trans: TranslationBundle): string {
  switch (status) {
    case "running":
      return trans.__("Running");
    case "interrupted":
      return trans.__("Interrupted");
    case "finished":
      return trans.__("Finished");
    case "failed":
      return trans.__("Failed");
    case "stale":
      return trans.__("Gone");
    default:
      return status;
  }
}

/** Where a column was not finite, in a sentence. */
export function nonFiniteText(
  { column, kind, firstStep, lastStep, isLast }: NonFiniteSteps,
  trans: TranslationBundle,
): string {
  const what = kind === "NaN" ? "NaN" : kind === "Infinity" ? "∞" : "-∞";
  const [first, last] = [formatInteger(firstStep), formatInteger(lastStep)];
  if (isLast) {
    return firstStep === lastStep
      ? trans.__("%1 is %2 at step %3.", column, what, first)
      : trans.__("%1 is %2 since step %3.", column, what, first);
  }
  return firstStep === lastStep
    ? trans.__("%1 was %2 at step %3, and is finite since.", column, what, first)
    : trans.__("%1 was %2 from step %3 to %4, and is finite since.", column, what, first, last);
}

/** The name of a run; with the time at which it began where others have the same. */
export function nameOf(run: Run, all: readonly Run[]): string {
  const { name, startedAt } = run.info;
  return all.some((other) => other !== run && other.info.name === name) && startedAt > 0
    ? `${name} · ${new Date(startedAt).toLocaleString()}`
    : name;
}
