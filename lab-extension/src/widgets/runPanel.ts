import type { DocumentRegistry } from "@jupyterlab/docregistry";
import type { IDisposable } from "@lumino/disposable";
import { Poll } from "@lumino/polling";
import { type ISignal, Signal } from "@lumino/signaling";
import type { RunCatalog } from "../model/catalog.js";
import { figure } from "../model/devices.js";
import type { RunSource } from "../model/source.js";
import type { ViewOptions } from "../model/viewOptions.js";
import { DevicesView } from "./devicesView.js";
import type { ViewEnvironment } from "./environment.js";
import { RunView } from "./runView.js";

const REFRESH_MS = 3_000;

/** What a panel belongs to: a notebook with the runs beside it, or a folder of runs. */
export type PanelPlace = { readonly notebook: string } | { readonly folder: string };

/** The runs of a folder, and of one notebook's kernel, whichever kernel that is, with the devices that they run on. */
export class RunPanel extends RunView {
  constructor(place: PanelPlace, environment: ViewEnvironment, options: ViewOptions) {
    super(environment, options);
    this.#place = place;
    this.#devicesView = new DevicesView(environment);
    this.main.addWidget(this.#devicesView);
    this.#poll = new Poll({
      auto: true,
      factory: async () => {
        if (this.isVisible && this.#catalog) {
          await this.#catalog.refresh();
        }
      },
      frequency: { interval: REFRESH_MS, backoff: true, max: 10 * REFRESH_MS },
      standby: "when-hidden",
    });
  }

  /** Where it belongs; a notebook's path changes with the notebook. */
  get place(): PanelPlace {
    return this.#place;
  }

  /** The notebook, or the folder. */
  get path(): string {
    return "notebook" in this.#place ? this.#place.notebook : this.#place.folder;
  }

  /** The notebook was renamed or moved. */
  get pathChanged(): ISignal<this, string> {
    return this.#pathChanged;
  }

  /** Shows the runs of a folder; the panel disposes it. */
  showCatalog(catalog: RunCatalog): void {
    this.#catalog?.dispose();
    this.#catalog = catalog;
    this.source = catalog;
  }

  /** Shows the runs of the notebook's session, and those beside it, until the notebook is closed. */
  follow(
    context: DocumentRegistry.IContext<DocumentRegistry.IModel>,
    makeCatalog: () => RunCatalog,
    devices: () => RunSource & IDisposable,
  ): void {
    if (this.#followed === context) {
      return;
    }
    this.#followed = context;
    this.showCatalog(makeCatalog());
    this.#showDevices(devices());
    context.pathChanged.connect(this.#onPathChanged, this);
    context.disposed.connect(this.#onClosed, this);
  }

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
    this.#poll.dispose();
    this.#showDevices(null);
    this.#catalog?.dispose();
    Signal.clearData(this);
    super.dispose();
  }

  protected override get limits(): { readonly memory?: number } {
    const total = this.#deviceFigures().reduce((sum, { total: bytes }) => sum + bytes, 0);
    return total > 0 ? { memory: total } : {};
  }

  protected override get deviceMemory(): readonly { readonly name: string; readonly share: number }[] {
    return this.#deviceFigures().map(({ name, used, total }) => ({ name, share: used / total }));
  }

  /** The devices whose memory is known, as their newest samples have it. */
  #deviceFigures(): readonly { readonly name: string; readonly used: number; readonly total: number }[] {
    const hosts = this.#devices?.store.runs ?? [];
    return hosts.flatMap((host) =>
      (host.info.devices ?? []).flatMap(({ id }) => {
        const used = figure(host, `device_${id}_memory_used`) ?? figure(host, `device_${id}_memory_in_use`);
        const total = figure(host, `device_${id}_memory_total`);
        return used === undefined || total === undefined
          ? []
          : [{ name: this.environment.trans.__("GPU %1", id), used, total }];
      }),
    );
  }

  #onPathChanged(_: unknown, path: string): void {
    this.#place = { notebook: path };
    this.#pathChanged.emit(path);
  }

  #onClosed(): void {
    this.#followed = undefined;
    this.#showDevices(null);
  }

  #showDevices(devices: (RunSource & IDisposable) | null): void {
    this.#devicesView.source = devices;
    this.#devices?.dispose();
    this.#devices = devices;
  }

  #place: PanelPlace;
  #catalog: RunCatalog | undefined;
  #followed: unknown;
  #devices: (RunSource & IDisposable) | null = null;
  readonly #poll: Poll;
  readonly #devicesView: DevicesView;
  readonly #pathChanged = new Signal<this, string>(this);
}
