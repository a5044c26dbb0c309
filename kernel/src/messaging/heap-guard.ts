import { setTimeout as sleep } from "node:timers/promises";
import { InspectorClient } from "../debugger/inspector-client.js";
import { HEAP_LOOK, Shared } from "../link.js";

/** How often the heap is looked at while a cell runs, in ms, and how long a cell may run before the first look. */
const INTERVAL = 50;
const DELAY = 200;
/** What must be left of the limit, as a share of it and in megabytes at most: it has to last until the next look. */
const LEFT = { share: 0.2, most: 400 };

/**
 * Stops a cell before it exhausts the heap: there V8 ends the process, and the notebook would lose everything without a
 * word. The messaging thread has the main thread look at its heap, also while a cell never yields: the inspector's
 * requests are served in the midst of running code, its answers are not, so the figure comes back in shared memory. A
 * single call that takes more than is left still ends the process; Jupyter then starts a new kernel, and the log says why.
 */
export class HeapGuard {
  #inspector: InspectorClient | undefined;
  #watch: AbortController | undefined;

  /**
   * @param limit - megabytes that the main thread's heap may have.
   * @param exhausted - called with the megabytes in use, at most once a cell.
   */
  constructor(
    private readonly shared: Int32Array,
    private readonly limit: number,
    private readonly exhausted: (used: number) => void,
  ) {}

  /** A cell starts. */
  start(): void {
    this.stop();
    this.#watch = new AbortController();
    this.#run(this.#watch.signal).catch(() => {
      // The cell has ended.
    });
  }

  /** It has ended. */
  stop(): void {
    this.#watch?.abort();
  }

  /** A session that is still connected would keep the process from exiting. */
  close(): void {
    this.stop();
    this.#inspector?.close();
    this.#inspector = undefined;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const full = this.limit - Math.min(LEFT.share * this.limit, LEFT.most);
    await sleep(DELAY, undefined, { signal });
    for (;;) {
      let used = await this.#look(signal);
      if (used > full) {
        // Most of it may be garbage.
        this.#post("HeapProfiler.collectGarbage");
        used = await this.#look(signal);
      }
      if (used > full) {
        this.exhausted(used);
        return;
      }
      await sleep(INTERVAL, undefined, { signal });
    }
  }

  async #look(signal: AbortSignal): Promise<number> {
    const looks = Atomics.load(this.shared, Shared.heapLooks);
    this.#post("Runtime.evaluate", { expression: `globalThis[Symbol.for("${HEAP_LOOK}")]()`, silent: true });
    while (Atomics.load(this.shared, Shared.heapLooks) === looks) await sleep(5, undefined, { signal });
    return Atomics.load(this.shared, Shared.heapUsed);
  }

  /** The answer would come when the cell yields; it is of no interest. */
  #post(method: string, parameters?: object): void {
    this.#inspector ??= new InspectorClient();
    this.#inspector.post(method, parameters).catch(() => {});
  }
}
