import type { TranslationBundle } from "@jupyterlab/translation";
import type { Run } from "./run.js";
import { X_AXES } from "./viewOptions.js";

export type Unit = "number" | "rate" | "bytes" | "fraction" | "seconds";

export interface ChartLine {
  readonly column: string;
  readonly label: string;
  /** Whether the moving average applies: to what is noisy from step to step. */
  readonly smooth?: boolean;
}

/** A chart: which columns it shows, and how. */
export interface ChartSpec {
  readonly id: string;
  readonly title: string;
  readonly unit: Unit;
  readonly lines: readonly ChartLine[];
  readonly stacked?: boolean;
  /** Of a stacked chart, the column that holds the sum: what it has beyond the other lines is the last part. Of several runs it is what is drawn. */
  readonly total?: string;
  /** What there is of the quantity at most, as of memory. */
  readonly limit?: number;
  /** Values far above the others are marked at the upper edge: a slow or lucky step must not flatten all the others. */
  readonly clipped?: boolean;
  /** Takes twice the width. */
  readonly wide?: boolean;
}

/** The charts of the columns that every run has a name for. */
function knownCharts(trans: TranslationBundle): readonly ChartSpec[] {
  return [
    {
      id: "loss",
      title: trans.__("Loss"),
      unit: "number",
      wide: true,
      lines: [
        { column: "loss", label: trans.__("Training"), smooth: true },
        { column: "valid_loss", label: trans.__("Validation") },
      ],
    },
    {
      id: "throughput",
      title: trans.__("Tokens per second"),
      clipped: true,
      unit: "rate",
      lines: [{ column: "tokens_per_second", label: trans.__("Tokens/s"), smooth: true }],
    },
    {
      id: "learning_rate",
      title: trans.__("Learning rate"),
      unit: "number",
      lines: [{ column: "learning_rate", label: trans.__("Learning rate") }],
    },
    {
      id: "gradient_norm",
      title: trans.__("Gradient norm"),
      clipped: true,
      unit: "number",
      lines: [{ column: "gradient_norm", label: trans.__("Gradient norm"), smooth: true }],
    },
    {
      id: "memory",
      title: trans.__("Device memory"),
      unit: "bytes",
      stacked: true,
      total: "memory_total",
      lines: [
        { column: "memory_parameters", label: trans.__("Parameters") },
        { column: "memory_optimizer", label: trans.__("Optimizer") },
        { column: "memory_activations", label: trans.__("Gradients and activations") },
        { column: "memory_cache", label: trans.__("Cache") },
        { column: "memory_data", label: trans.__("Data") },
        { column: "memory_total", label: trans.__("Other") },
      ],
    },
    {
      id: "mfu",
      title: trans.__("Model FLOPs utilization"),
      clipped: true,
      unit: "fraction",
      lines: [{ column: "mfu", label: trans.__("MFU"), smooth: true }],
    },
    {
      id: "step_seconds",
      title: trans.__("Step time"),
      clipped: true,
      unit: "seconds",
      lines: [{ column: "step_seconds", label: trans.__("Seconds"), smooth: true }],
    },
  ];
}

/**
 * The charts that have something to show. Columns that no chart knows have one of their own; those named `what/part` (the norms of a model's
 * blocks) share one for each `what`. The time left is the header's.
 */
export function chartsOf(
  runs: readonly Run[],
  trans: TranslationBundle,
  limits: { readonly memory?: number } = {},
): readonly ChartSpec[] {
  const columns = new Set(runs.flatMap((run) => run.columns));
  const charts: ChartSpec[] = [];
  for (const column of [...X_AXES, "seconds_left"]) {
    columns.delete(column);
  }
  for (const chart of knownCharts(trans)) {
    const lines = chart.lines.filter((line) => columns.has(line.column));
    for (const line of lines) {
      columns.delete(line.column);
    }
    if (lines.length > 0) {
      charts.push({ ...chart, lines, ...(chart.id === "memory" && { limit: limits.memory }) });
    }
  }
  const others = new Map<string, ChartSpec["lines"][number][]>();
  for (const column of columns) {
    const [title = column, ...part] = column.split("/");
    const lines = others.get(title) ?? [];
    others.set(title, lines);
    lines.push({ column, label: part.length === 0 ? column : part.join("/"), smooth: true });
  }
  for (const [title, lines] of others) {
    // A chart of that name may be among the known ones.
    const id = charts.some((chart) => chart.id === title) ? `${title}/` : title;
    charts.push({ id, title, unit: "number", lines });
  }
  return charts;
}
