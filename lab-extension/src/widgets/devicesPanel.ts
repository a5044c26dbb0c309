import { Dialog, type ISessionContext, showDialog } from "@jupyterlab/apputils";
import type { IDisposable } from "@lumino/disposable";
import type { Message } from "@lumino/messaging";
import { Panel } from "@lumino/widgets";
import { hostCharts } from "../model/devices.js";
import type { Run } from "../model/run.js";
import { type RuntimeAction, RuntimeLink } from "../model/runtimeLink.js";
import type { RuntimeState } from "../model/runtimeState.js";
import type { RunSource } from "../model/source.js";
import { DEFAULT_CHOICES, ViewOptions } from "../model/viewOptions.js";
import { ChartGrid } from "./chartGrid.js";
import { DeviceCardsWidget } from "./deviceCards.js";
import type { ViewEnvironment } from "./environment.js";
import { RuntimeContentWidget, RuntimeStatusWidget } from "./runtimeStatus.js";

/** How long an action waits to hear of the runtime. */
const STATE_MS = 5_000;

/**
 * The runtime of a notebook's kernel in the sidebar: its state, its devices with an hour of their figures, who holds their memory, and the
 * programs. While it is not visible, nothing is sampled for it.
 */
export class DevicesPanel extends Panel {
  /** @param watch - samples the devices of a session's runtime until the result is disposed. */
  constructor(
    private readonly environment: ViewEnvironment,
    private readonly watch: (context: ISessionContext) => RunSource & IDisposable,
  ) {
    super();
    const { trans } = environment;
    // The palette of the runs' charts.
    this.addClass("aronnax-RunView");
    this.addClass("aronnax-DevicesPanel");
    this.#status = new RuntimeStatusWidget(trans, (action, state) => this.#confirm(action, state));
    this.#content = new RuntimeContentWidget(trans);
    this.addWidget(this.#status);
    this.addWidget(this.#hosts);
    this.addWidget(this.#content);
  }

  /** The session whose kernel is asked; null for none. */
  set context(context: ISessionContext | null) {
    if (context !== this.#context) {
      this.#context?.disposed.disconnect(this.#onContextDisposed, this);
      this.#context = context;
      context?.disposed.connect(this.#onContextDisposed, this);
      this.#follow();
    }
  }

  get context(): ISessionContext | null {
    return this.#context;
  }

  /** Does something about the runtime, as the buttons do, once its state is known. */
  async act(action: RuntimeAction): Promise<void> {
    const link = this.#link;
    if (link && !link.state) {
      await new Promise<void>((resolve) => {
        const settled = () => {
          link.changed.disconnect(settled);
          resolve();
        };
        link.changed.connect(settled);
        setTimeout(settled, STATE_MS);
      });
    }
    await this.#status.act(action);
  }

  /** Tells the kernel that the page goes away. */
  leave(): void {
    this.#link?.close();
  }

  override dispose(): void {
    if (!this.isDisposed) {
      this.#context = null;
      this.#unfollow();
      super.dispose();
    }
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.#follow();
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.#follow();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.#follow();
  }

  protected override onBeforeDetach(message: Message): void {
    this.#unfollow();
    super.onBeforeDetach(message);
  }

  #follow(): void {
    const context = this.isVisible && !this.isDisposed ? this.#context : null;
    if (context === this.#followed) {
      return;
    }
    this.#unfollow();
    this.#followed = context;
    if (context && !context.isDisposed) {
      this.#link = new RuntimeLink(context);
      this.#link.changed.connect(this.#refresh, this);
      this.#source = this.watch(context);
      this.#source.store.changed.connect(this.#refresh, this);
    }
    this.#status.link = this.#link;
    this.#refresh();
  }

  #unfollow(): void {
    this.#followed = null;
    this.#source?.dispose();
    this.#source = null;
    this.#link?.dispose();
    this.#link = null;
    if (!this.#status.isDisposed) {
      this.#status.link = null;
    }
  }

  #refresh(): void {
    if (this.isDisposed) {
      return;
    }
    const state = this.#link?.state ?? null;
    // What an ended runtime had is history; its figures are not those of the devices any more.
    const hosts = (this.#source?.store.runs ?? []).filter((host) => host.rowCount > 0);
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
        view = new HostCards(this.environment);
        this.#views.set(host.id, view);
        this.#hosts.addWidget(view);
      }
      view.showHost(host, state);
    }
    this.#content.showState(state);
  }

  async #confirm(action: RuntimeAction, state: RuntimeState): Promise<boolean> {
    const { trans } = this.environment;
    const arrays = state.holders.reduce(
      (sum, { kind, buffers }) => sum + (kind === "process" ? 0 : buffers),
      0,
    );
    if ((action !== "stop" && action !== "restart") || arrays === 0) {
      return true;
    }
    const { button } = await showDialog({
      title: action === "stop" ? trans.__("Stop the runtime?") : trans.__("Restart the runtime?"),
      body: trans.__(
        "It holds %1 arrays for %2 clients and workspaces. They are lost, and trainings go on from their last checkpoint.",
        arrays,
        state.holders.filter(({ kind, buffers }) => kind !== "process" && buffers > 0).length,
      ),
      buttons: [
        Dialog.cancelButton({ label: trans.__("Cancel") }),
        Dialog.warnButton({ label: action === "stop" ? trans.__("Stop") : trans.__("Restart") }),
      ],
    });
    return button.accept;
  }

  #onContextDisposed(): void {
    this.context = null;
  }

  readonly #status: RuntimeStatusWidget;
  readonly #content: RuntimeContentWidget;
  readonly #hosts = new Panel();
  readonly #views = new Map<string, HostCards>();
  #context: ISessionContext | null = null;
  /** The one whose figures are shown now. */
  #followed: ISessionContext | null = null;
  #link: RuntimeLink | null = null;
  #source: (RunSource & IDisposable) | null = null;
}

/** One host: its devices, and their history. */
class HostCards extends Panel {
  constructor(private readonly environment: ViewEnvironment) {
    super();
    this.addClass("aronnax-HostCards");
    this.#cards = new DeviceCardsWidget(environment.trans);
    this.#grid = new ChartGrid(new ViewOptions({ ...DEFAULT_CHOICES, xAxis: "time" }), environment);
    this.addWidget(this.#cards);
    this.addWidget(this.#grid);
  }

  showHost(host: Run, state: RuntimeState | null): void {
    this.toggleClass("aronnax-mod-ended", state?.running === false);
    this.#cards.showHost(host, state);
    this.#grid.showCharts(hostCharts(host, this.environment.trans), [host]);
  }

  readonly #cards: DeviceCardsWidget;
  readonly #grid: ChartGrid;
}
