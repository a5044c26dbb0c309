import { PathExt } from "@jupyterlab/coreutils";
import type { Contents } from "@jupyterlab/services";
import { type ISignal, Signal } from "@lumino/signaling";
import { decodeRunFile } from "./decode.js";
import { type RunInfo, readStatus } from "./protocol.js";
import { RunStore } from "./runStore.js";
import type { RunSource, SourceState } from "./source.js";

/** What a run's `run.json` tells beside its rows. */
interface StoredState extends Pick<RunInfo, "status" | "message" | "config" | "parent"> {
  readonly id?: string;
  /** The files with the rows, in their order. */
  readonly segments: readonly string[];
}

/** The run in a `metrics.arrow` file and the segments after it, with the status that the `run.json` beside it tells. */
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
      const folder = PathExt.dirname(path);
      const state = await this.#readState(folder);
      this.#first = base64;
      const further = PathExt.basename(path) === FIRST_SEGMENT ? state.segments : [];
      this.#last = await this.#lastChange(folder, further);
      const files = [base64, ...(await this.#readSegments(folder, further))];
      const { info, rows } = await decodeRunFile(files.map(bytesOf), PathExt.basename(folder) || path);
      this.#state = "stored";
      this.#problem = undefined;
      const run = { ...info, ...ofRun(state, info.id), firstRow: 0, buffer: 0 };
      this.store.clear();
      this.store.apply({ type: "snapshot", seq: 0, runs: [run] }, new Map([[0, rows]]));
    } catch (error) {
      this.#state = "failed";
      this.#problem = error instanceof Error ? error.message : String(error);
    }
    this.#stateChanged.emit();
  }

  /** Reads the status, and segments that have changed: the first file may be the same for long. */
  async refreshState(path: string): Promise<void> {
    const run = this.store.runs[0];
    if (!run) {
      return;
    }
    const folder = PathExt.dirname(path);
    const state = await this.#readState(folder);
    const further = PathExt.basename(path) === FIRST_SEGMENT ? state.segments : [];
    if ((await this.#lastChange(folder, further)) !== this.#last) {
      await this.load(path, this.#first);
      return;
    }
    const update = { ...run.info, ...ofRun(state, run.id), firstRow: 0, buffer: null };
    this.store.apply({ type: "batch", seq: 0, runs: [update] }, new Map());
  }

  /** The content of the segments, as far as they are there. */
  async #readSegments(folder: string, names: readonly string[]): Promise<string[]> {
    const contents: string[] = [];
    for (const name of names) {
      try {
        const file = PathExt.join(folder, name);
        const model = await this.contents.get(file, { type: "file", format: "base64", content: true });
        contents.push(model.content as string);
      } catch {
        break; // moved away meanwhile
      }
    }
    return contents;
  }

  /** What changes when the last segment grows or a further one is begun. */
  async #lastChange(folder: string, names: readonly string[]): Promise<string> {
    const last = names.at(-1);
    if (last === undefined) {
      return "";
    }
    try {
      const model = await this.contents.get(PathExt.join(folder, last), { content: false });
      return `${last} ${model.last_modified} ${model.size}`;
    } catch {
      return "";
    }
  }

  /** A file without its `run.json` is as good, but for the status. */
  async #readState(folder: string): Promise<StoredState> {
    try {
      const path = PathExt.join(folder, "run.json");
      const { content } = await this.contents.get(path, { type: "file", format: "text", content: true });
      const { id, status, message, config, parent, segments } = JSON.parse(content as string) as Record<
        string,
        unknown
      >;
      return {
        id: typeof id === "string" ? id : undefined,
        status: readStatus(status),
        message: typeof message === "string" ? message : undefined,
        config: config as RunInfo["config"],
        parent: parent as RunInfo["parent"],
        segments: (Array.isArray(segments) ? segments : []).filter(
          (name): name is string => typeof name === "string" && /^metrics\.\d+\.arrow$/.test(name),
        ),
      };
    } catch {
      return { segments: [] };
    }
  }

  /** The first file, as it was read last, and the last segment's state then. */
  #first = "";
  #last = "";
  #state: SourceState = "connecting";
  #problem: string | undefined;
  readonly #stateChanged = new Signal<RunSource, void>(this);
}

const FIRST_SEGMENT = "metrics.arrow";

function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** What the state says, where it is the state of this run. */
function ofRun({ id, segments: _, ...state }: StoredState, run: string): Partial<RunInfo> {
  return id === run ? state : {};
}
