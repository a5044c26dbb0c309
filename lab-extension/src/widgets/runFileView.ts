import { PathExt } from "@jupyterlab/coreutils";
import type { DocumentRegistry } from "@jupyterlab/docregistry";
import { Poll } from "@lumino/polling";
import { FileSource } from "../model/fileSource.js";
import { ServerPlace } from "../model/runFiles/runPlace.js";
import { FIRST_SEGMENT } from "../model/runFiles/runState.js";
import type { RunPlaces } from "../model/runPlaces.js";
import { ViewOptions } from "../model/viewOptions.js";
import type { ViewEnvironment } from "./environment.js";
import { RunView } from "./runView.js";

const REFRESH_MS = 2000;

/** The run in a file that was opened, and in the segments after it; it is followed while it is written, in another notebook or without one. */
export class RunFileView extends RunView {
  constructor(
    private readonly context: DocumentRegistry.IContext<DocumentRegistry.IModel>,
    private readonly places: RunPlaces,
    environment: ViewEnvironment,
  ) {
    super(environment, new ViewOptions());
    void context.ready.then(() => this.#open());
    context.pathChanged.connect(this.#open, this);
    this.#poll = new Poll({
      auto: true,
      factory: async () => {
        const source = this.#file;
        const isRunning = source?.run?.info.status === "running";
        if ((isRunning || source?.state === "failed") && this.isVisible) {
          await source?.refresh();
        }
      },
      frequency: { interval: REFRESH_MS, backoff: true, max: 10 * REFRESH_MS },
      standby: "when-hidden",
    });
  }

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
    this.#poll.dispose();
    this.context.pathChanged.disconnect(this.#open, this);
    super.dispose();
    this.#file?.dispose();
  }

  #open(): void {
    this.#file?.dispose();
    const { contents, settings } = this.places;
    const { path } = this.context;
    const name = PathExt.basename(path);
    // The first of a run's files stands for all of them.
    const place = new ServerPlace(contents, settings, PathExt.dirname(path));
    this.#file = new FileSource(place, name === FIRST_SEGMENT ? undefined : name);
    this.source = this.#file;
    void this.#file.refresh();
  }

  #file: FileSource | undefined;
  readonly #poll: Poll;
}
