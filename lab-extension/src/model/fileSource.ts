import { PathExt } from "@jupyterlab/coreutils";
import type { Contents } from "@jupyterlab/services";
import { type ISignal, Signal } from "@lumino/signaling";
import { decodeRunFile } from "./decode.js";
import { type RunInfo, readStatus } from "./protocol.js";
import { RunStore } from "./runStore.js";
import type { RunSource, SourceState } from "./source.js";

/** The run in a `metrics.arrow` file, with the status that the `run.json` beside it tells. */
export class FileSource implements RunSource {
  constructor(private readonly contents: Contents.IManager) {}

  readonly store = new RunStore();

  get state(): SourceState {
    return this.#state;
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  get stateChanged(): ISignal<RunSource, void> {
    return this.#stateChanged;
  }

  /**
   * Reads the file again; what was there before stays when it cannot be read.
   *
   * @param path - of the file.
   * @param base64 - its content, as Jupyter's contents API gives it.
   */
  async load(path: string, base64: string): Promise<void> {
    try {
      const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
      const folder = PathExt.dirname(path);
      const { info, rows } = await decodeRunFile(bytes, PathExt.basename(folder) || path);
      const state = await this.#readState(PathExt.join(folder, "run.json"), info.id);
      this.#state = "stored";
      this.#problem = undefined;
      const run = { ...info, ...state, firstRow: 0, buffer: 0 };
      this.store.clear();
      this.store.apply({ type: "snapshot", seq: 0, runs: [run] }, new Map([[0, rows]]));
    } catch (error) {
      this.#state = "failed";
      this.#problem = error instanceof Error ? error.message : String(error);
    }
    this.#stateChanged.emit();
  }

  /** Reads the status again: a run that ends may write nothing more into its file. */
  async refreshState(path: string): Promise<void> {
    const run = this.store.runs[0];
    if (run) {
      const state = await this.#readState(PathExt.join(PathExt.dirname(path), "run.json"), run.id);
      const update = { ...run.info, ...state, firstRow: 0, buffer: null };
      this.store.apply({ type: "batch", seq: 0, runs: [update] }, new Map());
    }
  }

  /** A file without its `run.json` is as good, but for the status. */
  async #readState(path: string, id: string): Promise<Pick<RunInfo, "status" | "message">> {
    try {
      const { content } = await this.contents.get(path, { type: "file", format: "text", content: true });
      const state = JSON.parse(content as string) as { id?: unknown; status?: unknown; message?: unknown };
      return state.id !== id
        ? {}
        : {
            status: readStatus(state.status),
            message: typeof state.message === "string" ? state.message : undefined,
          };
    } catch {
      return {};
    }
  }

  #state: SourceState = "connecting";
  #problem: string | undefined;
  readonly #stateChanged = new Signal<RunSource, void>(this);
}
