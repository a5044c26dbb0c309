import type { DocumentRegistry } from "@jupyterlab/docregistry";
import { type ISignal, Signal } from "@lumino/signaling";
import type { RunSource } from "../model/source.js";
import type { ViewOptions } from "../model/viewOptions.js";
import type { ViewEnvironment } from "./environment.js";
import { RunView } from "./runView.js";

/** The runs of one notebook's kernel, whichever kernel that is. */
export class RunPanel extends RunView {
  constructor(path: string, environment: ViewEnvironment, options: ViewOptions) {
    super(environment, options);
    this.#path = path;
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
  follow(context: DocumentRegistry.IContext<DocumentRegistry.IModel>, source: RunSource): void {
    if (this.source === source) {
      return;
    }
    this.source = source;
    context.pathChanged.connect(this.#onPathChanged, this);
    context.disposed.connect(this.#onClosed, this);
  }

  override dispose(): void {
    Signal.clearData(this);
    super.dispose();
  }

  #onPathChanged(_: unknown, path: string): void {
    this.#path = path;
    this.#pathChanged.emit(path);
  }

  #onClosed(): void {
    this.source = null;
  }

  #path: string;
  readonly #pathChanged = new Signal<this, string>(this);
}
