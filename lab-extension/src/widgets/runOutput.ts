import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import type { PartialJSONObject } from "@lumino/coreutils";
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
  /** What a notebook is to keep of the run, as its folder has it (docs/contracts.md §4); null when it has none of this run. */
  record(path: string, run: string): Promise<PartialJSONObject | null>;
  /** Whether the process of a run that says "running" is gone; null where that cannot be told. */
  isGone(path: string, run: string): Promise<boolean | null>;
  /** Draws HTML of a notebook, as the notebook would. */
  draw(html: string, trusted: boolean): Promise<Widget | null>;
  /** Shows the run with all its charts. */
  readonly open: (() => void) | undefined;
}

/**
 * A run inside a cell's output: small and live while it goes on; once it has ended, or its process is gone, what the notebook keeps of it.
 * Where the notebook does not have that yet, because the page was reloaded or the kernel killed, it is written into the output.
 */
export class RunOutput extends Panel implements IRenderMime.IRenderer {
  constructor(
    private readonly lookup: RunLookup,
    private readonly environment: ViewEnvironment,
  ) {
    super();
    this.addClass("aronnax-Output");
    this.#text.addClass("aronnax-Output-text");
    this.#record.addClass("aronnax-Output-record");
    this.#bar.className = "aronnax-Output-bar";
    this.addWidget(this.#text);
    this.addWidget(this.#record);
    if (lookup.open) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "aronnax-Button";
      button.dataset.control = "open-runs";
      button.textContent = environment.trans.__("All charts");
      button.title = environment.trans.__("Show the runs of this notebook with all charts");
      button.addEventListener("click", lookup.open);
      this.#bar.append(button);
    }
    this.#live = lookup.live;
    this.#live?.store.changed.connect(this.#choose, this);
    this.#live?.stateChanged.connect(this.#choose, this);
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    this.#model = model;
    const data = model.data[RUN_MIME_TYPE] as { id?: unknown; path?: unknown } | undefined;
    this.#text.node.textContent = textOf(model.data["text/plain"]);
    if (typeof data?.id !== "string") {
      return;
    }
    this.#path = typeof data.path === "string" ? data.path : undefined;
    if (this.#id !== data.id) {
      this.#id = data.id;
      this.#view?.dispose();
      this.#view = undefined;
      this.#stored = undefined;
      this.#asked = false;
      this.#isGone = null;
    }
    await this.#showRecord();
    this.#choose();
    await this.lookup.ready;
    this.#choose();
  }

  override dispose(): void {
    this.#live?.store.changed.disconnect(this.#choose, this);
    this.#live?.stateChanged.disconnect(this.#choose, this);
    super.dispose();
  }

  /** Draws the record that the output has, in the place of an earlier one. */
  async #showRecord(): Promise<void> {
    const model = this.#model;
    // What a run that has no rows yet brings along is a line, which is there as text.
    const html = model?.data["image/svg+xml"] === undefined ? "" : textOf(model.data["text/html"]);
    if (html === this.#html) {
      return;
    }
    this.#html = html;
    const drawn = html === "" ? null : await this.lookup.draw(html, model?.trusted ?? false);
    if (this.#html !== html || this.isDisposed) {
      drawn?.dispose();
      return;
    }
    for (const widget of [...this.#record.widgets]) {
      widget.dispose();
    }
    if (drawn) {
      this.#record.addWidget(drawn);
    }
  }

  /** Takes the kernel's run where it has one, else the file's; and what is shown of it. */
  #choose(): void {
    const id = this.#id;
    if (id === undefined || this.isDisposed) {
      return;
    }
    let source: RunSource | null | undefined;
    if (this.#live?.store.get(id)) {
      source = this.#live;
      this.#stored = undefined;
    } else if (this.#stored !== undefined) {
      source = this.#stored;
    } else if (this.#live?.state !== "connecting") {
      void this.#load();
    }
    const run = source?.store.get(id) ?? undefined;
    // A run that goes on in a file only is of a process that this notebook's kernel is not.
    const isRunning = run?.info.status === "running";
    const goesOn = isRunning && (source === this.#live || this.#isGone === false);
    if (run && !goesOn) {
      void this.#bringUpToDate(id, isRunning);
    }
    const showsRecord = !goesOn && this.#record.widgets.length > 0;
    const showsView = !showsRecord && run !== undefined;
    if (showsView && !this.#view) {
      this.#view = new RunView(this.environment, new ViewOptions(), id);
      this.addWidget(this.#view);
    }
    if (this.#view) {
      this.#view.source = showsView ? (source ?? null) : null;
      this.#view.setHidden(!showsView);
    }
    this.#record.setHidden(!showsRecord);
    this.#text.setHidden(showsRecord || showsView);
    if (showsRecord || showsView) {
      this.node.append(this.#bar);
    } else {
      this.#bar.remove();
    }
    this.node.dataset.shows = showsRecord ? "record" : showsView ? "live" : "text";
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

  /** Writes the run's record into the output, where that has an earlier one or none. */
  async #bringUpToDate(id: string, isRunning: boolean): Promise<void> {
    const model = this.#model;
    if (this.#asked || !model || this.#path === undefined) {
      return;
    }
    this.#asked = true;
    if (isRunning) {
      this.#isGone = await this.lookup.isGone(this.#path, id);
      if (this.#isGone === false) {
        this.#choose();
      }
      if (this.#isGone !== true) {
        return;
      }
    }
    // The kernel sends it itself to a page that listens: its files are written a moment before.
    await new Promise((resolve) => setTimeout(resolve, UPDATE_MS));
    const record = await this.lookup.record(this.#path, id);
    if (!record || this.isDisposed || this.#model !== model || this.#id !== id) {
      return;
    }
    const data = { ...model.data };
    const isNew = textOf(data["image/svg+xml"]) !== textOf(record["image/svg+xml"]);
    const own = textOf(data["text/plain"]).endsWith(textOf(record["text/plain"]));
    if (isNew || !own) {
      model.setData({ data: { ...data, ...record } as never });
    }
  }

  readonly #text = new Widget();
  readonly #record = new Panel();
  readonly #bar = document.createElement("div");
  readonly #live: RunSource | null;
  #model: IRenderMime.IMimeModel | undefined;
  #view: RunView | undefined;
  #id: string | undefined;
  #path: string | undefined;
  #html = "";
  /** Whether the record has been asked for, and whether the run that says "running" in its file was found dead. */
  #asked = false;
  #isGone: boolean | null = null;
  /** The run's file; null where there is none or it is being read, undefined before anyone asked. */
  #stored: RunSource | null | undefined;
}

/** How long the kernel's own update may take to come, and longer than a listing of the folder is taken for true. */
const UPDATE_MS = 3500;

/** A text of a MIME bundle, which may be kept as its lines. */
function textOf(part: unknown): string {
  return Array.isArray(part) ? part.join("") : typeof part === "string" ? part : "";
}
