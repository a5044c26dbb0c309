import type { IDisposable } from "@lumino/disposable";
import { type ISignal, Signal } from "@lumino/signaling";
import type { RunInfo } from "./protocol.js";
import { Run } from "./run.js";
import { MediaIndex } from "./runFiles/mediaIndex.js";
import { openReader, type RunFilesReader } from "./runFiles/readers.js";
import { type RunPlace, readText } from "./runFiles/runPlace.js";
import type { ReaderEvent, StoredRun as SegmentRun } from "./runFiles/runReader.js";
import { FIRST_SEGMENT, parseRunState, type RunState, SEGMENT_NAME } from "./runFiles/runState.js";
import type { Remark } from "./source.js";

type OpenReader = (emit: (event: ReaderEvent) => void) => RunFilesReader;

/** Longer without a sign than this, and than ten of its steps, and a run that says it is running is taken for ended. */
const SILENCE_MS = 120_000;

/** A run from its files, read further when it is asked to. */
export class StoredRun implements IDisposable {
  /**
   * @param file - the one segment to read; all of the folder when absent.
   * @param open - makes what reads; in a thread of its own when absent.
   */
  constructor(
    readonly place: RunPlace,
    private readonly file?: string,
    open: OpenReader = openReader,
  ) {
    this.#reader = open((event) => this.#take(event));
    this.#media = new MediaIndex(place);
  }

  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  /** Undefined until its first segment was read. */
  get run(): Run | undefined {
    return this.#run;
  }

  /** Why there is no run, or why it cannot be read on. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Where its files are not whole. */
  get damage(): string | undefined {
    return this.#damage;
  }

  /** What is to be said of the files. That a run that is being written ends in the middle of a batch is nothing. */
  get remark(): Remark | undefined {
    const rows = this.#run?.rowCount ?? 0;
    if (this.#problem !== undefined) {
      return { kind: "unreadable", detail: this.#problem, rows };
    }
    if (this.#damage === undefined) {
      return undefined;
    }
    const isCut = this.#damage.includes("the file ends inside");
    const isWritten = this.#run?.info.status === "running" && !this.#run.info.isStale && rows > 0;
    return isCut && isWritten ? undefined : { kind: isCut ? "cut" : "damaged", detail: this.#damage, rows };
  }

  /** Of the rows, 0 to 1, while they are read. */
  get progress(): number | undefined {
    return this.#progress;
  }

  get state(): RunState | undefined {
    return this.#state;
  }

  /** Names in the run's folder. */
  get names(): readonly string[] {
    return this.#names;
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  dispose(): void {
    if (!this.#isDisposed) {
      this.#isDisposed = true;
      this.#reader.close();
      Signal.clearData(this);
    }
  }

  /** Reads what is new. Resolves when all that is whole has been read. */
  async refresh(): Promise<void> {
    this.#names = (await this.place.list("")) ?? [];
    const segments = this.file === undefined ? segmentsIn(this.#names) : [this.file];
    if (segments.length === 0) {
      this.#fail(
        this.#names.length === 0
          ? `the folder ${this.place.name} is not there`
          : `the folder ${this.place.name} has no ${FIRST_SEGMENT}`,
      );
      return;
    }
    if (this.#names.includes("run.json")) {
      await this.#readState();
    }
    if (this.#isDisposed) {
      return;
    }
    const read = this.#segmentId;
    const { id, parent } = this.#state ?? {};
    // Another run of this name has taken the place; one that was resumed goes on in further segments.
    const anew = read !== undefined && id !== undefined && id !== read && parent?.id !== read;
    const end = new Promise<void>((resolve) => {
      this.#ended = resolve;
    });
    const files = await Promise.all(
      segments.map(async (name) => ({ name, place: await this.place.file(name) })),
    );
    this.#reader.read(files, anew);
    await end;
    await this.#readBeside();
    this.#changed.emit();
  }

  /** What is not rows: media and checkpoints. */
  async #readBeside(): Promise<void> {
    if (this.#names.includes("media") && this.#run) {
      await this.#media.refresh();
      this.#run.setMedia(this.#media.records);
    }
    if (this.#names.includes("checkpoints")) {
      const names = (await this.place.list("checkpoints")) ?? [];
      this.#checkpoints = names
        .flatMap((name) => /^(?:step-?)?0*(\d+)$/.exec(name)?.[1] ?? [])
        .map(Number)
        .sort((a, b) => a - b);
    }
    this.#describe();
  }

  async #readState(): Promise<void> {
    try {
      const text = await readText(this.place, "run.json");
      this.#state = (text === undefined ? undefined : parseRunState(text)) ?? this.#state;
      this.#describe();
    } catch {
      // Damaged, or being replaced: what was known stays.
    }
  }

  #take(event: ReaderEvent): void {
    if (this.#isDisposed) {
      return;
    }
    switch (event.type) {
      case "reset":
        // What was read stays on display until the first of the new rows.
        this.#isVoid = true;
        this.#segmentId = undefined;
        return;
      case "segment":
        this.#segment = event.run;
        this.#segmentId = event.run.id;
        if (this.#isVoid) {
          this.#isVoid = false;
          this.#run = undefined;
        }
        this.#run ??= new Run(this.#infoOf());
        this.#run.truncate(event.firstRow);
        this.#run.reserve(event.columns, event.firstRow + event.rows);
        this.#problem = undefined;
        this.#describe();
        break;
      case "rows":
        for (const { rowCount, columns } of event.batches) {
          const run = this.#run!;
          run.append({ rowCount, columns: new Map(columns) }, run.end);
        }
        break;
      case "progress":
        this.#progress = event.total > 0 ? event.read / event.total : undefined;
        break;
      case "end":
        this.#progress = undefined;
        this.#damage = event.damage;
        this.#ended();
        break;
      case "failed":
        this.#progress = undefined;
        this.#fail(`${this.file ?? this.place.name}: ${event.problem}`);
        this.#ended();
        return;
    }
    this.#changed.emit();
  }

  #fail(problem: string): void {
    this.#problem = problem;
    this.#changed.emit();
  }

  /** Brings what is known of the run together: its file's schema, its `run.json`, what lies beside. */
  #describe(): void {
    this.#run?.update(this.#infoOf());
  }

  #infoOf(): RunInfo {
    const { id, name, startedAt, totalSteps, config } = this.#segment;
    const state = this.#state && (id === undefined || this.#state.id === id) ? this.#state : undefined;
    const isSilent =
      state?.status === "running" &&
      state.updatedAt !== undefined &&
      Date.now() - state.updatedAt > Math.max(SILENCE_MS, 10_000 * (this.#run?.last("step_seconds") || 0));
    return {
      id: id ?? state?.id ?? this.place.name,
      name: state?.name ?? name ?? this.place.name,
      startedAt: state?.startedAt ?? startedAt ?? 0,
      totalSteps: state?.totalSteps ?? totalSteps,
      status: state?.status,
      message: state?.message,
      config: state?.config ?? (config as RunInfo["config"]),
      parent: state?.parent,
      checkpoints: this.#checkpoints,
      isStale: state?.status === "running" && (this.staleByKernel ?? isSilent),
    };
  }

  /** What a kernel told of the run's process; undefined where none did. */
  staleByKernel: boolean | undefined;

  #run: Run | undefined;
  #segment: SegmentRun = {};
  #segmentId: string | undefined;
  #state: RunState | undefined;
  #names: readonly string[] = [];
  #checkpoints: readonly number[] = [];
  #problem: string | undefined;
  #damage: string | undefined;
  #progress: number | undefined;
  #isDisposed = false;
  #isVoid = false;
  #ended: () => void = () => undefined;
  readonly #reader: RunFilesReader;
  readonly #media: MediaIndex;
  readonly #changed = new Signal<this, void>(this);
}

/** The segments among the names in a run's folder, in their order. */
export function segmentsIn(names: readonly string[]): string[] {
  const number = (name: string) => Number(/^metrics\.(\d+)\.arrow$/.exec(name)?.[1] ?? 0);
  return names.filter((name) => SEGMENT_NAME.test(name)).sort((a, b) => number(a) - number(b));
}
