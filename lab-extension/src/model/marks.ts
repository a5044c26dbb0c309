import type { ChartSpec } from "./charts.js";
import type { Run } from "./run.js";
import type { Series } from "./series.js";

export type MarkKind = "checkpoint" | "resume" | "interrupt" | "validation" | "spike";

/** Something that happened at a position of the x axis. */
export interface Mark {
  readonly kind: MarkKind;
  readonly x: number;
  readonly step: number;
}

/** Most marks of one kind: beyond them they are a bar and say nothing. */
const MOST = 200;
/** A spike is further above the moving mean than so many times the usual distance, once so many values are known. */
const SPIKE = 8;
const SPIKE_AFTER = 50;
const SPIKE_MEMORY = 0.98;

/** What is to be marked in a chart of a run. */
export function marksOf(run: Run, axis: string, spec: ChartSpec): Mark[] {
  const positions = run.positions(axis);
  const steps = run.series("step");
  if (!positions.isThere || positions.isCloud) {
    return [];
  }
  const atStep = (kind: MarkKind, step: number): Mark[] => {
    const row = steps ? run.positions("step").nearestRow(step) : -1;
    const x = row < 0 ? Number.NaN : positions.at(row);
    return Number.isFinite(x) ? [{ kind, x, step }] : [];
  };
  const marks: Mark[] = [
    ...(run.info.checkpoints ?? []).slice(-MOST).flatMap((step) => atStep("checkpoint", step)),
    ...run.stepsBack.slice(-MOST).flatMap(({ row, to }) => {
      const x = positions.at(row);
      return Number.isFinite(x) ? [{ kind: "resume" as const, x, step: to }] : [];
    }),
    ...run.interrupts.slice(-MOST).flatMap((step) => atStep("interrupt", step)),
  ];
  if (run.info.parent) {
    marks.push(...atStep("resume", run.info.parent.step));
  }
  if (run.info.status === "interrupted" && !run.interrupts.includes(run.last("step"))) {
    marks.push(...atStep("interrupt", run.last("step")));
  }
  const validations = run.series("valid_loss");
  if (spec.id === "loss" && validations && validations.length <= MOST) {
    for (let i = 0; i < validations.length; i++) {
      const row = validations.rowOf(i);
      const x = positions.at(row);
      if (Number.isFinite(x)) {
        marks.push({ kind: "validation", x, step: run.stepOf(row) });
      }
    }
  }
  if (spec.id === "loss" || spec.id === "gradient_norm") {
    const series = run.series(spec.id);
    for (const row of series ? spikesOf(series).slice(-MOST) : []) {
      const x = positions.at(row);
      if (Number.isFinite(x)) {
        marks.push({ kind: "spike", x, step: run.stepOf(row) });
      }
    }
  }
  return marks;
}

interface SpikeSearch {
  seen: number;
  generation: number;
  mean: number;
  distance: number;
  known: number;
  rows: number[];
}

const searches = new WeakMap<Series, SpikeSearch>();

/** Rows whose value is far above those before it; a spike is told once, not at each of its steps. */
export function spikesOf(series: Series): readonly number[] {
  let search = searches.get(series);
  if (!search || search.generation !== series.generation) {
    search = { seen: 0, generation: series.generation, mean: 0, distance: 0, known: 0, rows: [] };
    searches.set(series, search);
  }
  const { values } = series;
  let inSpike = false;
  for (let i = search.seen; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value)) {
      continue;
    }
    const above = value - search.mean;
    if (search.known >= SPIKE_AFTER && above > SPIKE * search.distance && search.distance > 0) {
      if (!inSpike) {
        search.rows.push(series.rowOf(i));
      }
      inSpike = true;
      // It counts little, so that the next spike is seen too.
      search.mean += (1 - SPIKE_MEMORY) * 0.1 * above;
      continue;
    }
    inSpike = false;
    const memory = Math.min(SPIKE_MEMORY, search.known / (search.known + 1));
    search.distance = memory * search.distance + (1 - memory) * Math.abs(above);
    search.mean += (1 - memory) * above;
    search.known += 1;
  }
  search.seen = values.length;
  return search.rows;
}
