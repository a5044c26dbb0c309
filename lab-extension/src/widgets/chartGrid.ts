import { Widget } from "@lumino/widgets";
import type { ChartSpec } from "../model/charts.js";
import type { Run } from "../model/run.js";
import type { RunGroup } from "../model/seedAverage.js";
import type { ViewOptions } from "../model/viewOptions.js";
import { Chart } from "./chart.js";
import type { ViewEnvironment } from "./environment.js";

/** Charts side by side, made and removed as there is something to draw. */
export class ChartGrid extends Widget {
  constructor(
    private readonly options: ViewOptions,
    private readonly environment: ViewEnvironment,
  ) {
    super();
    this.addClass("aronnax-Grid");
  }

  /** The charts, in the order they are shown. */
  get charts(): readonly Chart[] {
    return [...this.#charts.values()];
  }

  showCharts(
    specs: readonly ChartSpec[],
    runs: readonly Run[],
    groups: readonly RunGroup[] | null = null,
  ): void {
    const wanted = new Map(
      specs.map((spec) => [`${spec.id} ${spec.limit ?? ""} ${spec.lines.map((line) => line.column)}`, spec]),
    );
    for (const [key, chart] of this.#charts) {
      if (!wanted.has(key)) {
        chart.dispose();
        this.#charts.delete(key);
      }
    }
    let position = 0;
    for (const [key, spec] of wanted) {
      let chart = this.#charts.get(key);
      if (!chart) {
        chart = new Chart(spec, this.options, this.environment);
        this.#charts.set(key, chart);
      }
      if (this.node.children[position] !== chart.node) {
        this.node.insertBefore(chart.node, this.node.children[position] ?? null);
      }
      position += 1;
      chart.update(runs, groups);
    }
  }

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
    for (const chart of this.#charts.values()) {
      chart.dispose();
    }
    this.#charts.clear();
    super.dispose();
  }

  readonly #charts = new Map<string, Chart>();
}
