import { PathExt } from "@jupyterlab/coreutils";
import type { IDisposable } from "@lumino/disposable";
import { type ISignal, Signal } from "@lumino/signaling";
import { fileAccess } from "./fileSource.js";
import type { KernelFeed } from "./kernelFeed.js";
import type { Run } from "./run.js";
import { type RunPlace, readText, ServerPlace } from "./runFiles/runPlace.js";
import { entryOfState, parseRunState, type RunState } from "./runFiles/runState.js";
import type { RunPlaces } from "./runPlaces.js";
import {
  entryOf,
  type Remark,
  type RunEntry,
  type RunFileAccess,
  type RunSet,
  type RunSource,
  type SourceProgress,
  type SourceState,
} from "./source.js";
import { StoredRun } from "./storedRun.js";

/** A run in the folder. */
interface Listed {
  readonly state: RunState;
  readonly entry: RunEntry;
  readonly place: RunPlace;
}

/** Descriptions that are asked for at a time. */
const AT_ONCE = 8;
const TELL_MS = 200;
/** A kernel that is being connected is waited for this long. */
const CONNECT_MS = 4_000;
/** A folder is gone over again after so many times as long as that took. */
const PATIENCE = 10;
const EARLIER = "earlier";

/**
 * The runs of a folder, whoever wrote them, and of a kernel: what a kernel has told comes from it, everything else from the files. Rows
 * are read of the runs that are shown.
 */
export class RunCatalog implements RunSource, IDisposable {
  /**
   * @param root - the folder with the runs, in the contents.
   * @param folder - the same folder as the kernel is asked for it, relative to its own.
   */
  constructor(
    private readonly places: RunPlaces,
    readonly root: string,
    private readonly feed: KernelFeed | null = null,
    private readonly folder = "runs",
  ) {
    feed?.store.changed.connect(this.#onFeed, this);
    feed?.stateChanged.connect(this.#onFeedState, this);
    const owner = this;
    this.store = {
      changed: this.#changed,
      get runs() {
        return owner.#runs();
      },
      get: (id) => owner.#run(id),
    };
    if (feed) {
      this.interrupt = feed.interrupt;
    }
    void this.refresh();
  }

  readonly store: RunSet;
  readonly interrupt?: () => Promise<void>;

  get state(): SourceState {
    const state = this.feed?.state ?? "stored";
    return this.entries.length > 0 && (state === "idle" || state === "unsupported" || state === "failed")
      ? "stored"
      : state;
  }

  /** Of the kernel's feed; what is wrong with a run's files is `remarkOn`'s. */
  get problem(): string | undefined {
    return this.feed?.problem;
  }

  get stateChanged(): ISignal<RunSource, void> {
    return this.#stateChanged;
  }

  get progress(): SourceProgress {
    const rows = [...this.#stored.values()].flatMap(({ progress }) => progress ?? []);
    const most = rows.length === 0 ? this.feed?.progress.rows : rows.reduce((a, b) => a + b, 0) / rows.length;
    return {
      ...(most !== undefined && { rows: most }),
      ...(this.#reading && { runs: this.#reading }),
    };
  }

  /** Newest first. */
  get entries(): readonly RunEntry[] {
    if (this.#entries === undefined) {
      const live = this.feed?.store.runs ?? [];
      const known = new Set(live.map(({ id }) => id));
      this.#entries = [
        ...live.map(entryOf),
        ...[...this.#listed.values()].filter(({ entry }) => !known.has(entry.id)).map(({ entry }) => entry),
      ].sort((a, b) => b.startedAt - a.startedAt);
    }
    return this.#entries;
  }

  remarkOn(id: string): Remark | undefined {
    return this.#stored.get(id)?.remark ?? this.feed?.remarkOn(id);
  }

  filesOf(id: string): RunFileAccess | undefined {
    const listed = this.#listed.get(id);
    if (listed) {
      return fileAccess(listed.place);
    }
    const run = this.feed?.store.get(id);
    const { feed } = this;
    return run && feed ? { urlOf: async (file) => fileAccess(await feed.place(run)).urlOf(file) } : undefined;
  }

  show(ids: readonly string[]): void {
    const wanted = new Set(ids);
    for (const [id, stored] of this.#stored) {
      if (!wanted.has(id)) {
        stored.dispose();
        this.#stored.delete(id);
      }
    }
    for (const id of ids) {
      const listed = this.#listed.get(id);
      if (listed && !this.#stored.has(id) && !this.feed?.store.get(id)) {
        const stored = new StoredRun(listed.place);
        stored.staleByKernel = listed.state.stale;
        this.#stored.set(id, stored);
        stored.changed.connect(this.#emit, this);
        void stored.refresh().then(() => this.#listEarlier(stored));
      }
    }
  }

  /** Looks for new runs, and reads on those that are shown and still written. */
  async refresh(): Promise<void> {
    if (this.#refreshing) {
      return this.#refreshing;
    }
    this.#refreshing = this.#refresh().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  dispose(): void {
    if (this.#isDisposed) {
      return;
    }
    this.#isDisposed = true;
    for (const stored of this.#stored.values()) {
      stored.dispose();
    }
    this.feed?.store.changed.disconnect(this.#onFeed, this);
    this.feed?.stateChanged.disconnect(this.#onFeedState, this);
    Signal.clearData(this);
  }

  async #refresh(): Promise<void> {
    await this.#feedIsReady();
    const start = performance.now();
    // A large folder is gone over less often.
    if (!this.#isListed || start - this.#listedAt > PATIENCE * this.#listingTook) {
      const isListed =
        this.feed?.state === "live" && (await this.#listByKernel(this.feed).catch(() => false));
      if (!isListed && !(await this.#listByServer()) && this.feed) {
        await this.#listByKernel(this.feed).catch(() => false);
      }
      this.#listedAt = performance.now();
      this.#listingTook = this.#listedAt - start;
    }
    for (const stored of this.#stored.values()) {
      if (stored.run?.info.status === "running" || stored.problem !== undefined) {
        await stored.refresh();
      }
    }
    this.#reading = undefined;
    this.#isListed = true;
    this.#emit();
  }

  #isKernelThere(): boolean {
    return this.feed?.state === "live";
  }

  /** Waits a little for a kernel that is being connected: it lists a folder in few messages, the server in two requests a run. */
  async #feedIsReady(): Promise<void> {
    const { feed } = this;
    if (feed?.state !== "connecting") {
      return;
    }
    await new Promise<void>((resolve) => {
      const done = () => {
        if (feed.state !== "connecting" || this.#isDisposed) {
          feed.stateChanged.disconnect(done);
          clearTimeout(timer);
          resolve();
        }
      };
      const timer = setTimeout(() => {
        feed.stateChanged.disconnect(done);
        resolve();
      }, CONNECT_MS);
      feed.stateChanged.connect(done);
    });
  }

  /** Whether the folder was read once: before, that there are no runs is not known. */
  get isListed(): boolean {
    return this.#isListed;
  }

  async #listByKernel(feed: KernelFeed): Promise<true> {
    const found = new Map<string, Listed>();
    const served = new Set(await this.places.names(this.root));
    for (let from: number | null = 0; from !== null && !this.#isDisposed; ) {
      const page = await feed.list(this.folder, from);
      for (const { state, folder } of page.runs) {
        const name = PathExt.basename(folder);
        const place = served.has(name)
          ? new ServerPlace(this.places.contents, this.places.settings, PathExt.join(this.root, name))
          : feed.kernelPlace(state.id, state.name);
        found.set(state.id, { state, entry: entryOfState(state), place });
      }
      from = page.next;
      this.#tell(found.size, from === null ? found.size : undefined);
    }
    this.#take(found);
    return true;
  }

  /** Asks the server for the names, and for the description of each that is new or may have changed. @returns false where a kernel has come that can do it better. */
  async #listByServer(): Promise<boolean> {
    const couldAsk = this.#isKernelThere();
    const names = await this.places.names(this.root);
    const known = new Map(
      [...this.#listed.values()].flatMap((listed) =>
        listed.place instanceof ServerPlace ? [[listed.place.path, listed] as const] : [],
      ),
    );
    const found = new Map<string, Listed>();
    const waiting: string[] = [];
    for (const name of names ?? []) {
      const path = PathExt.join(this.root, name);
      const before = known.get(path);
      if (before && before.state.status !== "running" && this.#isListed) {
        found.set(before.entry.id, before);
      } else if (!name.startsWith(".")) {
        waiting.push(path);
      }
    }
    const total = waiting.length;
    const isBeaten = () => !couldAsk && this.#isKernelThere() && waiting.length > AT_ONCE;
    const work = async () => {
      for (
        let path = waiting.shift();
        path !== undefined && !this.#isDisposed && !isBeaten();
        path = waiting.shift()
      ) {
        const listed = await this.#read(path);
        if (listed) {
          found.set(listed.entry.id, listed);
        }
        this.#tell(total - waiting.length, total);
        if (!this.#isListed && performance.now() - this.#toldAt > TELL_MS) {
          this.#take(new Map(found));
          this.#emit();
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    if (isBeaten()) {
      return false;
    }
    this.#take(found);
    return true;
  }

  async #read(path: string): Promise<Listed | undefined> {
    const place = new ServerPlace(this.places.contents, this.places.settings, path);
    // A listing first: what is not there must not be asked for.
    const names = await place.list("");
    if (!names?.some((name) => name === "run.json" || name.endsWith(".arrow"))) {
      return undefined;
    }
    let state: RunState | undefined;
    if (names.includes("run.json")) {
      try {
        state = parseRunState((await readText(place, "run.json")) ?? "null");
      } catch {
        // Damaged: its rows may be read all the same.
      }
    }
    state ??= {
      id: path,
      name: PathExt.basename(path),
      startedAt: 0,
      segments: [],
      summary: { step: Number.NaN, seconds: Number.NaN, rows: 0, columns: new Map() },
    };
    return { state, entry: entryOfState(state), place };
  }

  /** Earlier runs of the same name lie inside the folder of the newest. */
  async #listEarlier(stored: StoredRun): Promise<void> {
    const { place } = stored;
    if (!stored.names.includes(EARLIER) || !(place instanceof ServerPlace) || this.#isDisposed) {
      return;
    }
    for (const name of (await place.list(EARLIER)) ?? []) {
      const listed = await this.#read(PathExt.join(place.path, EARLIER, name));
      if (listed) {
        this.#earlier.set(listed.entry.id, listed);
        this.#listed.set(listed.entry.id, listed);
      }
    }
    this.#emit();
  }

  #take(found: ReadonlyMap<string, Listed>): void {
    this.#listed.clear();
    const seen = new Map<string, number>();
    for (const listed of [...found.values(), ...this.#earlier.values()]) {
      // A copied folder has the id of the first: it is another run for all that.
      const count = seen.get(listed.state.id) ?? 0;
      seen.set(listed.state.id, count + 1);
      const id = count === 0 ? listed.state.id : `${listed.state.id} (${count + 1})`;
      this.#listed.set(id, id === listed.entry.id ? listed : { ...listed, entry: { ...listed.entry, id } });
    }
    for (const [id, stored] of this.#stored) {
      stored.staleByKernel = this.#listed.get(id)?.state.stale ?? stored.staleByKernel;
    }
  }

  #tell(read: number, total: number | undefined): void {
    if (total !== undefined && total <= AT_ONCE) {
      return;
    }
    this.#reading = { read, total: total ?? read };
    if (performance.now() - this.#toldAt > TELL_MS) {
      this.#toldAt = performance.now();
      this.#stateChanged.emit();
    }
  }

  #runs(): readonly Run[] {
    const live = this.feed?.store.runs ?? [];
    const others = [...this.#stored.values()].flatMap(({ run }) =>
      run && !live.some(({ id }) => id === run.id) ? [run] : [],
    );
    return [...live, ...others].sort((a, b) => b.info.startedAt - a.info.startedAt);
  }

  #run(id: string): Run | undefined {
    return this.feed?.store.get(id) ?? this.#stored.get(id)?.run;
  }

  #onFeed(): void {
    this.#emit();
  }

  #onFeedState(): void {
    if (this.feed?.state === "live" && this.#lastFeedState !== "live") {
      void this.refresh(); // the kernel tells of runs that the server cannot, and which of them are stale
    }
    this.#lastFeedState = this.feed?.state;
    this.#entries = undefined;
    this.#stateChanged.emit();
  }

  #emit(): void {
    this.#entries = undefined;
    if (!this.#isDisposed) {
      this.#changed.emit();
    }
  }

  #entries: readonly RunEntry[] | undefined;
  #reading: { read: number; total: number } | undefined;
  #refreshing: Promise<void> | undefined;
  #lastFeedState: SourceState | undefined;
  #isListed = false;
  #isDisposed = false;
  #toldAt = 0;
  #listedAt = 0;
  #listingTook = 0;
  readonly #listed = new Map<string, Listed>();
  readonly #earlier = new Map<string, Listed>();
  readonly #stored = new Map<string, StoredRun>();
  readonly #changed = new Signal<RunSet, void>({} as RunSet);
  readonly #stateChanged = new Signal<RunSource, void>(this);
}
