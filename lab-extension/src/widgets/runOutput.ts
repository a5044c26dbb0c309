import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import { Panel, Widget } from "@lumino/widgets";
import { RUN_MIME_TYPE } from "../model/mimeTypes.js";
import type { RunSource } from "../model/source.js";
import { ViewOptions } from "../model/viewOptions.js";
import type { ViewEnvironment } from "./environment.js";
import { RunView } from "./runView.js";

/** Where an output finds its run. */
export interface RunLookup {
  /** The runs of the output's kernel; null where the output has no kernel. */
  readonly live: RunSource | null;
  /** Resolves when it is known whether there is a kernel. */
  readonly ready: Promise<void>;
  /** The run as its file has it, null when there is no such file. */
  stored(path: string): Promise<RunSource | null>;
}

/**
 * A run inside a cell's output: live while the kernel knows it, afterwards from its file, and without a file the text
 * that was stored with the notebook.
 */
export class RunOutput extends Panel implements IRenderMime.IRenderer {
  constructor(
    private readonly lookup: RunLookup,
    private readonly environment: ViewEnvironment,
  ) {
    super();
    this.addClass("aronnax-Output");
    this.#text.addClass("aronnax-Output-text");
    this.addWidget(this.#text);
    this.#live = lookup.live;
    this.#live?.store.changed.connect(this.#choose, this);
    this.#live?.stateChanged.connect(this.#choose, this);
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const data = model.data[RUN_MIME_TYPE] as { id?: unknown; path?: unknown } | undefined;
    const text = model.data["text/plain"];
    this.#text.node.textContent = Array.isArray(text) ? text.join("") : String(text ?? "");
    if (typeof data?.id !== "string") {
      return;
    }
    this.#path = typeof data.path === "string" ? data.path : undefined;
    if (this.#view?.runId !== data.id) {
      this.#view?.dispose();
      this.#view = new RunView(this.environment, new ViewOptions(), data.id);
      this.addWidget(this.#view);
    }
    this.#choose();
    await this.lookup.ready;
    this.#choose();
  }

  override dispose(): void {
    this.#live?.store.changed.disconnect(this.#choose, this);
    this.#live?.stateChanged.disconnect(this.#choose, this);
    super.dispose();
  }

  /** Takes the kernel's run where it has one, else the file's. */
  #choose(): void {
    const view = this.#view;
    if (!view || this.isDisposed) {
      return;
    }
    if (view.runId !== undefined && this.#live?.store.get(view.runId)) {
      view.source = this.#live;
      this.#stored = undefined;
    } else if (this.#stored) {
      view.source = this.#stored;
    } else if (this.#stored === undefined && this.#live?.state !== "connecting") {
      void this.#load();
    }
    const isEmpty = view.shown.length === 0;
    this.#text.setHidden(!isEmpty);
    view.setHidden(isEmpty);
  }

  async #load(): Promise<void> {
    this.#stored = null;
    await this.lookup.ready;
    if (this.#path !== undefined && this.#live?.state !== "connecting") {
      this.#stored = await this.lookup.stored(this.#path);
      this.#choose();
    } else {
      this.#stored = undefined;
    }
  }

  readonly #text = new Widget();
  readonly #live: RunSource | null;
  #view: RunView | undefined;
  #path: string | undefined;
  /** The run's file; null where there is none or it is being read, undefined before anyone asked. */
  #stored: RunSource | null | undefined;
}
