import type { ISessionContext } from "@jupyterlab/apputils";
import type { IDisposable } from "@lumino/disposable";
import type { Message } from "@lumino/messaging";
import { Panel } from "@lumino/widgets";
import type { RuntimeAction } from "../model/runtimeLink.js";
import type { RunSource } from "../model/source.js";
import type { DevicesPanel } from "./devicesPanel.js";
import type { ViewEnvironment } from "./environment.js";

/** The place of the devices in the sidebar; what it shows is loaded when it is shown first, not with JupyterLab. */
export class DevicesSidebar extends Panel {
  /** @param watch - samples the devices of a session's runtime until the result is disposed. */
  constructor(
    private readonly environment: ViewEnvironment,
    private readonly watch: (context: ISessionContext) => RunSource & IDisposable,
  ) {
    super();
    this.addClass("aronnax-DevicesSidebar");
  }

  /** The session whose kernel is asked; null for none. */
  set context(context: ISessionContext | null) {
    this.#context = context;
    if (this.#panel) {
      this.#panel.context = context;
    }
  }

  get context(): ISessionContext | null {
    return this.#context;
  }

  /** Does something about the runtime, as the buttons do. */
  async act(action: RuntimeAction): Promise<void> {
    await (await this.#load()).act(action);
  }

  /** Tells the kernel that the page goes away. */
  leave(): void {
    this.#panel?.leave();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    void this.#load();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    if (this.isVisible) {
      void this.#load();
    }
  }

  #load(): Promise<DevicesPanel> {
    this.#loading ??= import("./devicesPanel.js").then((loaded) => {
      const panel = new loaded.DevicesPanel(this.environment, this.watch);
      this.#panel = panel;
      panel.context = this.#context;
      if (this.isDisposed) {
        panel.dispose();
      } else {
        this.addWidget(panel);
      }
      return panel;
    });
    return this.#loading;
  }

  #context: ISessionContext | null = null;
  #panel: DevicesPanel | undefined;
  #loading: Promise<DevicesPanel> | undefined;
}
