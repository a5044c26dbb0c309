import type { DocumentRegistry } from "@jupyterlab/docregistry";
import type { IDisposable } from "@lumino/disposable";
import { type ISignal, Signal } from "@lumino/signaling";
import type { RunSource } from "../model/source.js";
import type { ViewOptions } from "../model/viewOptions.js";
import { DevicesView } from "./devicesView.js";
import type { ViewEnvironment } from "./environment.js";
import { RunView } from "./runView.js";

/** The runs of one notebook's kernel, whichever kernel that is, and the devices that they run on. */
export class RunPanel extends RunView {
  constructor(path: string, environment: ViewEnvironment, options: ViewOptions) {
    super(environment, options);
    this.#path = path;
    this.#devicesView = new DevicesView(environment);
    this.addWidget(this.#devicesView);
  }

  /** The notebook. */
  get path(): string {
    return this.#path;
  }

  /** The notebook was renamed or moved. */
  get pathChanged(): ISignal<this, string> {
    return this.#pathChanged;
  }

  /** Shows the runs of the notebook's session until the notebook is closed. */
  follow(
    context: DocumentRegistry.IContext<DocumentRegistry.IModel>,
    source: RunSource,
    devices: () => RunSource & IDisposable,
  ): void {
    if (this.source === source) {
      return;
    }
    this.source = source;
    this.#showDevices(devices());
    context.pathChanged.connect(this.#onPathChanged, this);
    context.disposed.connect(this.#onClosed, this);
  }

  override dispose(): void {
    this.#showDevices(null);
    Signal.clearData(this);
    super.dispose();
  }

  #onPathChanged(_: unknown, path: string): void {
    this.#path = path;
    this.#pathChanged.emit(path);
  }

  #onClosed(): void {
    this.source = null;
    this.#showDevices(null);
  }

  #showDevices(devices: (RunSource & IDisposable) | null): void {
    this.#devicesView.source = devices;
    this.#devices?.dispose();
    this.#devices = devices;
  }

  #path: string;
  #devices: (RunSource & IDisposable) | null = null;
  readonly #devicesView: DevicesView;
  readonly #pathChanged = new Signal<this, string>(this);
}
