import type { Message } from "@lumino/messaging";
import { Panel, Widget } from "@lumino/widgets";
import { csvParts } from "../export/csv.js";
import { download } from "../export/download.js";
import type { ExportKind } from "../export/kinds.js";
import type { PictureParts } from "../export/pictures.js";
import { chartsOf } from "../model/charts.js";
import { formatInteger } from "../model/format.js";
import type { Run } from "../model/run.js";
import { groupRuns } from "../model/runQuery.js";
import type { RunGroup } from "../model/seedAverage.js";
import { entryOf, type Remark, type RunEntry, type RunSource } from "../model/source.js";
import { TABS, type Tab, type ViewOptions } from "../model/viewOptions.js";
import { readPalette } from "../painting/palette.js";
import { AlertWatch } from "./alertWatch.js";
import { ChartGrid } from "./chartGrid.js";
import { CompareWidget } from "./compareTable.js";
import { ConfigTableWidget } from "./configTable.js";
import { ControlsWidget } from "./controls.js";
import type { ViewEnvironment } from "./environment.js";
import { RunHeaderWidget } from "./runHeader.js";
import { RunLegend } from "./runLegend.js";
import { RunListWidget } from "./runList.js";
import { SamplesWidget } from "./samples.js";

/** More lines in a chart are a tangle. */
const MOST_SHOWN = 60;

/** The runs of a source: list, header, controls, and the charts, samples, configuration or comparison. */
export class RunView extends Panel {
  /** @param runId - show this run only, for a view that belongs to it. */
  constructor(
    protected readonly environment: ViewEnvironment,
    readonly options: ViewOptions,
    readonly runId?: string,
  ) {
    super();
    const { trans } = environment;
    this.addClass("aronnax-RunView");
    this.#list = new RunListWidget(options, trans);
    this.#header = new RunHeaderWidget(trans);
    this.#controls = new ControlsWidget(options, trans, (kind) => void this.exportAs(kind));
    this.#notice.addClass("aronnax-Empty");
    this.#notice.node.setAttribute("role", "status");
    this.#loading.addClass("aronnax-Loading");
    this.#legend = new RunLegend(trans);
    this.#grid = new ChartGrid(options, environment);
    this.#samples = new SamplesWidget(trans);
    this.#config = new ConfigTableWidget(trans);
    this.#compare = new CompareWidget(options, trans);
    this.#alerts = new AlertWatch(environment);
    this.main.addClass("aronnax-RunView-main");
    this.addWidget(this.#list);
    this.addWidget(this.main);
    for (const part of [
      this.#header,
      this.#alerts,
      this.#controls,
      this.#loading,
      this.#notice,
      this.#legend,
      this.#grid,
      this.#samples,
      this.#config,
      this.#compare,
    ]) {
      this.main.addWidget(part);
    }
    options.changed.connect(this.refresh, this);
    this.refresh();
  }

  /** Everything but the list of runs. */
  protected readonly main = new Panel();

  get source(): RunSource | null {
    return this.#source;
  }

  set source(source: RunSource | null) {
    if (source === this.#source) {
      return;
    }
    this.#source?.store.changed.disconnect(this.refresh, this);
    this.#source?.stateChanged.disconnect(this.refresh, this);
    this.#source = source;
    source?.store.changed.connect(this.refresh, this);
    source?.stateChanged.connect(this.refresh, this);
    this.refresh();
  }

  /** All runs to choose from. */
  get entries(): readonly RunEntry[] {
    const source = this.#source;
    return source ? (source.entries ?? source.store.runs.map(entryOf)) : [];
  }

  /** The ids of the runs that are to be on display, the header's first. */
  get chosen(): readonly string[] {
    if (this.runId !== undefined) {
      return [this.runId];
    }
    const { entries } = this;
    const { run, compare, baseline } = this.options.choices;
    const primary = entries.find(({ id }) => id === run) ?? entries[0];
    if (!primary) {
      return [];
    }
    const beside = entries.filter(({ id }) => id !== primary.id && (compare.includes(id) || id === baseline));
    return [primary, ...beside].slice(0, MOST_SHOWN).map(({ id }) => id);
  }

  /** The runs on display whose rows are here, the one of the header first. */
  get shown(): readonly Run[] {
    const store = this.#source?.store;
    return store ? this.chosen.flatMap((id) => store.get(id) ?? []) : [];
  }

  /** The rows of the header's run. */
  exportCsv(): void {
    void this.exportAs("csv");
  }

  /** Downloads what is on display. */
  async exportAs(kind: ExportKind): Promise<void> {
    const [run] = this.shown;
    if (!run) {
      return;
    }
    const { name } = run.info;
    switch (kind) {
      case "csv":
        download(`${name}.csv`, "text/csv", [...csvParts(run)]);
        break;
      case "parquet": {
        const { toParquet } = await import("../export/parquet.js");
        download(`${name}.parquet`, "application/vnd.apache.parquet", [await toParquet(run)]);
        break;
      }
      case "png": {
        const { chartsPng } = await import("../export/pictures.js");
        download(`${name}.png`, "image/png", [await chartsPng(this.#pictureParts())]);
        break;
      }
      case "svg": {
        const { chartsSvg } = await import("../export/pictures.js");
        download(`${name}.svg`, "image/svg+xml", [chartsSvg(this.#pictureParts())]);
        break;
      }
      case "report": {
        const { toReport } = await import("../export/report.js");
        const report = await toReport(this.#pictureParts(), (one) => this.#source?.filesOf?.(one.id));
        download(`${name}.html`, "text/html", [report]);
        break;
      }
    }
  }

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
    this.source = null;
    this.options.changed.disconnect(this.refresh, this);
    super.dispose();
  }

  /** What there is at most, for charts that show a part of it. */
  protected get limits(): { readonly memory?: number } {
    return {};
  }

  /** How much of each device's memory is taken. */
  protected get deviceMemory(): readonly { readonly name: string; readonly share: number }[] {
    return [];
  }

  protected override onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    (this.#grid.node.querySelector<HTMLElement>("[tabindex]") ?? this.node).focus({ preventScroll: true });
  }

  /** Brings everything up to date with the source and the choices. */
  protected refresh(): void {
    if (this.isDisposed) {
      return;
    }
    const source = this.#source;
    const { chosen, entries } = this;
    source?.show?.(chosen);
    const shown = this.shown;
    const { trans } = this.environment;
    this.node.dataset.state = source?.state ?? "idle";
    const interrupt = source?.interrupt;
    const isRunningHere = source?.state === "live";
    const primary = shown[0]?.id === chosen[0] || this.runId !== undefined ? shown[0] : undefined;
    this.#header.showRun(primary, isRunningHere && interrupt ? () => void interrupt() : undefined);
    this.#alerts.watch(
      primary,
      () => this.#header.silence,
      () => this.deviceMemory,
    );
    const progress = source?.progress ?? {};
    const hasList = this.runId === undefined && (entries.length > 1 || progress.runs !== undefined);
    this.#list.setHidden(!hasList);
    this.toggleClass("aronnax-mod-list", hasList);
    if (hasList) {
      this.#list.showRuns(entries, chosen, progress);
    }
    const tabs = this.#tabs(shown, entries);
    const tab = tabs.includes(this.options.choices.tab) ? this.options.choices.tab : "charts";
    this.#controls.showRuns(shown, tabs);
    this.#showNotice(primary, chosen[0]);
    const groups = this.#groups(shown);
    this.#legend.showRuns(shown, groups, this.options.choices.baseline);
    this.#legend.setHidden(tab !== "charts" || (groups?.length ?? shown.length) < 2);
    this.#grid.setHidden(tab !== "charts");
    this.#samples.setHidden(tab !== "samples");
    this.#config.setHidden(tab !== "configuration");
    this.#compare.setHidden(tab !== "compare");
    if (tab === "charts") {
      this.#grid.showCharts(chartsOf(shown, trans, shown.length > 0 ? this.limits : {}), shown, groups);
    } else if (tab === "samples") {
      this.#samples.showRuns(shown.map((run) => ({ run, name: run.info.name, files: this.#filesOf(run) })));
    } else if (tab === "configuration") {
      this.#config.showRuns(shown.map((run) => ({ ...entryOf(run) })));
    } else {
      this.#compare.showRuns(entries, chosen, progress);
    }
  }

  #tabs(shown: readonly Run[], entries: readonly RunEntry[]): readonly Tab[] {
    const has: Record<Tab, boolean> = {
      charts: true,
      samples: shown.some((run) => run.media.length > 0),
      configuration: shown.some(({ info }) => info.config !== undefined && info.config !== null),
      compare: this.runId === undefined && entries.length > 1,
    };
    return TABS.filter((tab) => has[tab]);
  }

  #groups(shown: readonly Run[]): readonly RunGroup[] | null {
    const { groupBy } = this.options.choices;
    return groupBy === null || shown.length < 3
      ? null
      : groupRuns(
          shown.map((run) => ({ run, config: run.info.config })),
          groupBy,
        ).map(({ label, runs }) => ({ label, runs: runs.map(({ run }) => run) }));
  }

  /** The same object for the same run: what shows an address keeps it. */
  #filesOf(run: Run) {
    let files = this.#files.get(run);
    if (!files) {
      files = this.#source?.filesOf?.(run.id);
      if (files) {
        this.#files.set(run, files);
      }
    }
    return files;
  }

  #pictureParts(): PictureParts {
    const runs = this.shown;
    return {
      specs: chartsOf(runs, this.environment.trans, this.limits),
      runs,
      groups: this.#groups(runs),
      options: this.options,
      palette: readPalette(this.node),
      trans: this.environment.trans,
    };
  }

  #showNotice(run: Run | undefined, chosen: string | undefined): void {
    const { trans } = this.environment;
    const source = this.#source;
    const found = source?.remarkOn?.(chosen ?? "");
    const remark = found && remarkText(found, trans);
    const message = run
      ? (remark ?? historyText(source, run, trans))
      : (remark ?? (chosen !== undefined && this.runId === undefined ? "" : emptyText(source, trans)));
    this.#notice.setHidden(message === "");
    this.#notice.toggleClass("aronnax-mod-problem", remark !== undefined || source?.state === "failed");
    if (this.#notice.node.textContent !== message) {
      this.#notice.node.textContent = message;
    }
    const rows = source?.progress?.rows;
    const isLoading =
      rows !== undefined || (run === undefined && chosen !== undefined && remark === undefined);
    this.#loading.setHidden(!isLoading);
    if (isLoading) {
      const text =
        rows === undefined
          ? trans.__("Reading the run…")
          : trans.__("Reading the run: %1%", Math.floor(rows * 100));
      if (this.#loading.node.textContent !== text) {
        this.#loading.node.textContent = text;
        this.#loading.node.style.setProperty("--aronnax-share", `${(rows ?? 0) * 100}%`);
      }
    }
  }

  #source: RunSource | null = null;
  readonly #list: RunListWidget;
  readonly #header: RunHeaderWidget;
  readonly #alerts: AlertWatch;
  readonly #controls: ControlsWidget;
  readonly #notice = new Widget();
  readonly #loading = new Widget();
  readonly #legend: RunLegend;
  readonly #grid: ChartGrid;
  readonly #samples: SamplesWidget;
  readonly #config: ConfigTableWidget;
  readonly #compare: CompareWidget;
  readonly #files = new WeakMap<Run, NonNullable<ReturnType<NonNullable<RunSource["filesOf"]>>>>();
}

type Trans = ViewEnvironment["trans"];

function remarkText({ kind, detail, rows }: Remark, trans: Trans): string {
  const count = formatInteger(rows);
  switch (kind) {
    case "unreadable":
      return trans.__("This cannot be read as a run's metrics. %1.", detail);
    case "cut":
      return trans.__(
        "The file ends in the middle of a batch, %1 rows before it were read. (%2)",
        count,
        detail,
      );
    case "damaged":
      return trans.__("The file is damaged, %1 rows before that place were read. (%2)", count, detail);
    case "incomplete":
      return trans.__("The beginning of the run is missing: neither kernel nor files have it. (%1)", detail);
  }
}

/** What is to be said above the charts of a run. */
function historyText(source: RunSource | null, run: Run, trans: Trans): string {
  switch (source?.state) {
    case "lost":
      return trans.__("The connection to the kernel is lost. The history below is what it had sent.");
    case "failed":
      return source.problem ?? trans.__("The metrics could not be read.");
    default:
      return run.rowCount === 0 && run.info.status === "running" && !run.info.isStale
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
