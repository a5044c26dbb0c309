import type { Message } from "@lumino/messaging";
import { Panel, Widget } from "@lumino/widgets";
import { chartsOf } from "../model/charts.js";
import { toCsv } from "../model/csv.js";
import type { Run } from "../model/run.js";
import type { RunSource } from "../model/source.js";
import type { ViewOptions } from "../model/viewOptions.js";
import { ChartGrid } from "./chartGrid.js";
import { ControlsWidget } from "./controls.js";
import { download } from "./download.js";
import type { ViewEnvironment } from "./environment.js";
import { RunHeaderWidget } from "./runHeader.js";

/** The runs of a source: header, controls and charts. */
export class RunView extends Panel {
  /** @param runId - show this run only, for a view that belongs to it. */
  constructor(
    private readonly environment: ViewEnvironment,
    readonly options: ViewOptions,
    readonly runId?: string,
  ) {
    super();
    this.addClass("aronnax-RunView");
    this.#header = new RunHeaderWidget(environment.trans);
    this.#controls = new ControlsWidget(options, environment.trans, () => this.exportCsv());
    this.#notice.addClass("aronnax-Empty");
    this.#grid = new ChartGrid(options, environment);
    this.addWidget(this.#header);
    this.addWidget(this.#controls);
    this.addWidget(this.#notice);
    this.addWidget(this.#grid);
    options.changed.connect(this.#refresh, this);
    this.#refresh();
  }

  get source(): RunSource | null {
    return this.#source;
  }

  set source(source: RunSource | null) {
    if (source === this.#source) {
      return;
    }
    this.#source?.store.changed.disconnect(this.#refresh, this);
    this.#source?.stateChanged.disconnect(this.#refresh, this);
    this.#source = source;
    source?.store.changed.connect(this.#refresh, this);
    source?.stateChanged.connect(this.#refresh, this);
    this.#refresh();
  }

  /** The runs on display, the one of the header first. */
  get shown(): readonly Run[] {
    const store = this.#source?.store;
    if (!store) {
      return [];
    }
    if (this.runId !== undefined) {
      const run = store.get(this.runId);
      return run ? [run] : [];
    }
    const { run, compare } = this.options.choices;
    const primary = (run === null ? undefined : store.get(run)) ?? store.runs[0];
    return primary
      ? [primary, ...store.runs.filter((other) => other !== primary && compare.includes(other.id))]
      : [];
  }

  /** Downloads the rows of the header's run. */
  exportCsv(): void {
    const [run] = this.shown;
    if (run) {
      download(`${run.info.name}.csv`, "text/csv", toCsv(run));
    }
  }

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
    this.source = null;
    this.options.changed.disconnect(this.#refresh, this);
    super.dispose();
  }

  protected override onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    (this.#grid.node.querySelector<HTMLElement>("[tabindex]") ?? this.node).focus({ preventScroll: true });
  }

  #refresh(): void {
    if (this.isDisposed) {
      return;
    }
    const shown = this.shown;
    const state = this.#source?.state ?? "idle";
    this.node.dataset.state = state;
    const interrupt = this.#source?.interrupt;
    this.#header.showRun(shown[0], interrupt && (() => void interrupt()));
    this.#controls.showRuns(this.runId === undefined ? (this.#source?.store.runs ?? []) : shown, shown);
    this.#showNotice(shown[0]);
    this.#grid.showCharts(chartsOf(shown, this.environment.trans), shown);
  }

  #showNotice(run: Run | undefined): void {
    const { trans } = this.environment;
    const message = run ? historyText(this.#source, run, trans) : emptyText(this.#source, trans);
    this.#notice.setHidden(message === "");
    if (this.#notice.node.textContent !== message) {
      this.#notice.node.textContent = message;
    }
  }

  #source: RunSource | null = null;
  readonly #header: RunHeaderWidget;
  readonly #controls: ControlsWidget;
  readonly #notice = new Widget();
  readonly #grid: ChartGrid;
}

type Trans = ViewEnvironment["trans"];

/** What is to be said above the charts of a run. */
function historyText(source: RunSource | null, run: Run, trans: Trans): string {
  switch (source?.state) {
    case "lost":
      return trans.__("The connection to the kernel is lost. The history below is what it had sent.");
    case "failed":
      return source.problem ?? trans.__("The metrics could not be read.");
    default:
      return run.rowCount === 0 && run.info.status === "running"
        ? trans.__("Waiting for the first step, which takes longer than the others: the program is compiled.")
        : "";
  }
}

function emptyText(source: RunSource | null, trans: Trans): string {
  switch (source?.state) {
    case undefined:
    case "idle":
      return trans.__("No kernel. Start one, and its training runs appear here.");
    case "connecting":
      return trans.__("Connecting to the kernel…");
    case "unsupported":
      return trans.__("This kernel publishes no training metrics. Open a notebook with the Aronnax kernel.");
    case "lost":
      return trans.__("The kernel is gone. Restart it, and its training runs appear here.");
    case "failed":
      return source?.problem ?? trans.__("The metrics could not be read.");
    case "live":
    case "stored":
      return trans.__("No training run yet. Start one with trainer.fit(), and it appears here.");
  }
}
