import type { Message } from "@lumino/messaging";
import { Panel } from "@lumino/widgets";
import { hostCharts } from "../model/devices.js";
import type { Run } from "../model/run.js";
import type { RunSource } from "../model/source.js";
import { DEFAULT_CHOICES, ViewOptions } from "../model/viewOptions.js";
import { ChartGrid } from "./chartGrid.js";
import { DeviceTableWidget } from "./deviceTable.js";
import type { ViewEnvironment } from "./environment.js";

/** Figures older than this, in ms, are said to be old: ten samples are missing. */
const STALE = 10_000;

/** The hosts of a kernel's runtime with their devices; hidden until a runtime is attached. */
export class DevicesView extends Panel {
  constructor(private readonly environment: ViewEnvironment) {
    super();
    this.addClass("aronnax-Devices");
    this.hide();
  }

  set source(source: RunSource | null) {
    this.#source?.store.changed.disconnect(this.#refresh, this);
    this.#source = source;
    source?.store.changed.connect(this.#refresh, this);
    this.#refresh();
  }

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
    this.source = null;
    super.dispose();
  }

  #refresh(): void {
    const hosts = (this.#source?.store.runs ?? []).filter((host) => host.rowCount > 0);
    this.setHidden(hosts.length === 0);
    const ids = new Set(hosts.map(({ id }) => id));
    for (const [id, view] of this.#views) {
      if (!ids.has(id)) {
        view.dispose();
        this.#views.delete(id);
      }
    }
    for (const host of hosts) {
      let view = this.#views.get(host.id);
      if (!view) {
        view = new HostView(this.environment);
        this.#views.set(host.id, view);
        this.addWidget(view);
      }
      view.showHost(host, hosts.length > 1);
    }
  }

  #source: RunSource | null = null;
  readonly #views = new Map<string, HostView>();
}

/** One host: the newest figures in a table, and their history in charts. */
class HostView extends Panel {
  constructor(private readonly environment: ViewEnvironment) {
    super();
    this.addClass("aronnax-Host");
    this.#table = new DeviceTableWidget(environment.trans);
    this.#grid = new ChartGrid(new ViewOptions({ ...DEFAULT_CHOICES, xAxis: "time" }), environment);
    this.addWidget(this.#table);
    this.addWidget(this.#grid);
  }

  showHost(host: Run, isOneOfSeveral: boolean): void {
    if (host.rowCount !== this.#rowCount) {
      this.#rowCount = host.rowCount;
      this.#changedAt = performance.now();
      this.removeClass("aronnax-mod-stale");
    }
    this.#table.showHost(host, isOneOfSeveral);
    this.#grid.showCharts(hostCharts(host, this.environment.trans), [host]);
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.#clock = setInterval(() => {
      this.toggleClass("aronnax-mod-stale", performance.now() - this.#changedAt > STALE);
    }, 1000);
  }

  protected override onBeforeDetach(message: Message): void {
    clearInterval(this.#clock);
    super.onBeforeDetach(message);
  }

  readonly #table: DeviceTableWidget;
  readonly #grid: ChartGrid;
  #rowCount = 0;
  #changedAt = 0;
  #clock: ReturnType<typeof setInterval> | undefined;
}
