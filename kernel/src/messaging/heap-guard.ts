import { setTimeout as sleep } from "node:timers/promises";
import { InspectorClient } from "../debugger/inspector-client.js";
import { HEAP_LOOK, Shared } from "../link.js";

/** How often the heap is looked at while a cell runs, in ms, and how long a cell may run before the first look. */
const INTERVAL = 50;
const DELAY = 200;
/** The longest rest after a look that had to collect garbage, in ms. */
const LONGEST = 500;
/** How long a look that is under way may take to end, in ms. */
const LAST_LOOK = 2_000;
/**
 * What must be left of the limit, as a share of it and in megabytes at most: it has to last until the next look, and from
 * four fifths on V8 may give up by itself, when collecting garbage takes most of the time.
 */
const LEFT = { share: 0.25, most: 600 };

/**
 * Stops a cell before it exhausts the heap: there V8 ends the process, and the notebook would lose everything without a
 * word. The messaging thread has the main thread look at its heap, also while a cell never yields: the inspector's
 * requests are served in the midst of running code, its answers are not, so the figure comes back in shared memory. A
 * single call that takes more than is left still ends the process; Jupyter then starts a new kernel, and the log says why.
 */
export class HeapGuard {
  #inspector: InspectorClient | undefined;
  #watch: AbortController | undefined;
  /** How many looks there will have been after the one that is under way. */
  #expected = 0;

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

  /** Stops looking, and waits for a look that is under way: code that is paused in the midst of one takes no orders. */
  async rest(): Promise<void> {
    this.stop();
    const end = performance.now() + LAST_LOOK;
    while (Atomics.load(this.shared, Shared.heapLooks) < this.#expected && performance.now() < end)
      await sleep(2);
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
      const started = performance.now();
      const used = await this.#look(full, signal);
      if (used > full) {
        this.exhausted(used);
        return;
      }
      // A look that had to collect garbage took long: most of the time belongs to the cell.
      const rest = Math.min(Math.max(INTERVAL, performance.now() - started), LONGEST);
      await sleep(rest, undefined, { signal });
    }
  }

  async #look(full: number, signal: AbortSignal): Promise<number> {
    const looks = Atomics.load(this.shared, Shared.heapLooks);
    this.#expected = looks + 1;
    const expression = `globalThis[Symbol.for("${HEAP_LOOK}")](${full})`;
    this.#inspector ??= new InspectorClient();
    // The answer would come when the cell yields; it is of no interest.
    this.#inspector.post("Runtime.evaluate", { expression, silent: true }).catch(() => {});
    while (Atomics.load(this.shared, Shared.heapLooks) === looks) await sleep(5, undefined, { signal });
    return Atomics.load(this.shared, Shared.heapUsed);
  }
}
