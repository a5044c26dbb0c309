import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import { Panel, Widget } from "@lumino/widgets";
import type { RunSource } from "../model/source.js";
import { ViewOptions } from "../model/viewOptions.js";
import type { ViewEnvironment } from "./environment.js";
import { RunView } from "./runView.js";

export const RUN_MIME_TYPE = "application/vnd.aronnax.run+json";

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
    lookup.live?.store.changed.connect(this.#choose, this);
    lookup.live?.stateChanged.connect(this.#choose, this);
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const data = model.data[RUN_MIME_TYPE] as { id?: unknown; path?: unknown } | undefined;
    const text = model.data["text/plain"];
    this.#text.node.textContent = Array.isArray(text) ? text.join("") : String(text ?? "");
    if (typeof data?.id !== "string") {
      return;
    }
    if (this.#view?.runId !== data.id) {
      this.#view?.dispose();
      this.#view = new RunView(this.environment, new ViewOptions(), data.id);
      this.addWidget(this.#view);
    }
    this.#choose();
    await this.lookup.ready;
    if (!this.#isLive && typeof data.path === "string") {
      this.#stored = await this.lookup.stored(data.path);
      this.#choose();
    }
  }

  override dispose(): void {
    this.lookup.live?.store.changed.disconnect(this.#choose, this);
    this.lookup.live?.stateChanged.disconnect(this.#choose, this);
    super.dispose();
  }

  get #isLive(): boolean {
    return this.#view?.runId !== undefined && this.lookup.live?.store.get(this.#view.runId) !== undefined;
  }

  #choose(): void {
    if (!this.#view || this.isDisposed) {
      return;
    }
    const source = this.#isLive ? this.lookup.live : this.#stored;
    if (source) {
      this.#view.source = source;
    }
    // A kernel that restarted no longer knows the run: what is on display stays.
    const isEmpty = this.#view.shown.length === 0;
    this.#text.setHidden(!isEmpty);
    this.#view.setHidden(isEmpty);
  }

  readonly #text = new Widget();
  #view: RunView | undefined;
  #stored: RunSource | null = null;
}
