import { type ISignal, Signal } from "@lumino/signaling";
import { decodeRunFile } from "./decode.js";
import { RunStore } from "./runStore.js";
import type { RunSource, SourceState } from "./source.js";

/** The run in a `metrics.arrow` file. */
export class FileSource implements RunSource {
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
   * @param base64 - its content, as Jupyter's contents API gives it.
   * @param name - its name, for errors and for a run that has none.
   */
  async load(base64: string, name: string): Promise<void> {
    try {
      const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
      const { info, rows } = await decodeRunFile(bytes, name);
      this.#state = "stored";
      this.#problem = undefined;
      const run = { ...info, firstRow: 0, buffer: 0 };
      this.store.apply({ type: "snapshot", seq: 0, runs: [run] }, new Map([[0, rows]]));
    } catch (error) {
      this.#state = "failed";
      this.#problem = error instanceof Error ? error.message : String(error);
    }
    this.#stateChanged.emit();
  }

  #state: SourceState = "connecting";
  #problem: string | undefined;
  readonly #stateChanged = new Signal<RunSource, void>(this);
}
