import type { IDisposable } from "@lumino/disposable";
import { type ISignal, Signal } from "@lumino/signaling";
import type { Run } from "./run.js";
import type { RunPlace } from "./runFiles/runPlace.js";
import type { Remark, RunFileAccess, RunSet, RunSource, SourceProgress, SourceState } from "./source.js";
import { StoredRun } from "./storedRun.js";

/** One run, from the files in its folder. */
export class FileSource implements RunSource, IDisposable {
  /** @param file - the one segment to read; all of the folder when absent. */
  constructor(
    private readonly place: RunPlace,
    file?: string,
    private readonly stored = new StoredRun(place, file),
  ) {
    stored.changed.connect(this.#onChanged, this);
    const { changed } = this.#set;
    this.store = {
      changed,
      get runs() {
        return stored.run ? [stored.run] : [];
      },
      get: (id) => (stored.run?.id === id ? stored.run : undefined),
    };
  }

  readonly store: RunSet;

  get state(): SourceState {
    return this.stored.problem !== undefined ? "failed" : this.stored.run ? "stored" : "connecting";
  }

  get problem(): string | undefined {
    return this.stored.problem;
  }

  get stateChanged(): ISignal<RunSource, void> {
    return this.#stateChanged;
  }

  get progress(): SourceProgress {
    const { progress } = this.stored;
    return progress === undefined ? {} : { rows: progress };
  }

  /** The run, once its first segment was read. */
  get run(): Run | undefined {
    return this.stored.run;
  }

  remarkOn(): Remark | undefined {
    return this.stored.remark;
  }

  filesOf(): RunFileAccess {
    return fileAccess(this.place);
  }

  /** Reads what is new. */
  refresh(): Promise<void> {
    return this.stored.refresh();
  }

  get isDisposed(): boolean {
    return this.stored.isDisposed;
  }

  dispose(): void {
    this.stored.dispose();
    Signal.clearData(this);
  }

  #onChanged(): void {
    const { state } = this;
    if (state !== this.#lastState) {
      this.#lastState = state;
      this.#stateChanged.emit();
    }
    this.#set.changed.emit();
  }

  #lastState: SourceState = "connecting";
  readonly #stateChanged = new Signal<RunSource, void>(this);
  readonly #set = { changed: new Signal<RunSet, void>({} as RunSet) };
}

/** Addresses of the files of a folder: the server's own, or of a copy in the page where only a kernel has them. */
export function fileAccess(place: RunPlace): RunFileAccess {
  return {
    urlOf: async (file) => {
      const found = await place.file(file);
      if ("address" in found) {
        return found.address.url;
      }
      const parts: BlobPart[] = [];
      for (let at = 0; ; ) {
        const { bytes, size } = await found.fetch(at, 1 << 20);
        parts.push(bytes.slice());
        at += bytes.length;
        if (bytes.length === 0 || at >= size) {
          return URL.createObjectURL(new Blob(parts));
        }
      }
    },
  };
}
