import { Session } from "node:inspector";
import { Shared, type ToMain } from "../link.js";
import { interruptChildren } from "./child-processes.js";

/** How long the main thread may be silent before its code is stopped by force, in ms. */
const GRACE = 25;
/** The same while a framework call observes the signal: tracing and compiling are long synchronous stretches. */
const OBSERVED_GRACE = 3_000;
/** How long to wait for an answer after stopping it, at first: a second time may be needed, and may hit the wrong code. */
const RETRY = 60;
const LAST_RETRY = 1_000;
/** A wait, in ms, after which the thread must stand in a call that is not JavaScript, and may wait for a process. */
const IN_A_CALL = 200;

/**
 * Stops the running cell. The main thread is asked first: if its event loop answers, it aborts the cell's signal and
 * abandons the pending await by itself, and no code is stopped anywhere. Only a main thread that does not answer is
 * terminated, through an inspector session of this thread; doing that to an idle one would hit the kernel's own code.
 */
export class Interrupter {
  #session: Session | undefined;
  #running: Promise<void> | undefined;

  constructor(
    private readonly shared: Int32Array,
    private readonly tell: (message: ToMain) => void,
    /** Stops code that stands in a loop with names of its own, after giving those back; whether there was any. */
    private readonly stopInLoop: () => Promise<boolean>,
  ) {}

  /** Resolves when the main thread has seen the interrupt. */
  interrupt(): Promise<void> {
    const second = this.#running !== undefined;
    const seen = Atomics.load(this.shared, Shared.interruptsSeen);
    this.tell({ type: "interrupt", second });
    if (second) this.#impatient = true;
    this.#running ??= this.#insist(seen).finally(() => {
      this.#running = undefined;
      this.#impatient = false;
    });
    return this.#running;
  }

  #impatient = false;

  async #insist(seen: number): Promise<void> {
    const started = performance.now();
    const answered = () => Atomics.load(this.shared, Shared.interruptsSeen) !== seen;
    const patience = () =>
      !this.#impatient && Atomics.load(this.shared, Shared.observers) > 0 ? OBSERVED_GRACE : GRACE;
    while (!answered() && performance.now() - started < patience()) await sleep(2);
    if (!answered()) Atomics.store(this.shared, Shared.terminated, 1);
    let stopped = !answered() && (await this.stopInLoop());
    for (let retry = RETRY; !answered(); retry = Math.min(2 * retry, LAST_RETRY)) {
      if (!stopped) this.#terminate();
      stopped = false;
      const until = performance.now() + retry;
      while (performance.now() < until && !answered()) await sleep(5);
      if (!answered() && retry >= IN_A_CALL) interruptChildren();
      // The first may have reached a handler that was stopped.
      if (!answered()) this.tell({ type: "interrupt", second: false });
    }
  }

  /** A session that is still connected would keep the process from exiting. */
  close(): void {
    this.#session?.disconnect();
    this.#session = undefined;
  }

  #terminate(): void {
    if (!this.#session) {
      this.#session = new Session();
      this.#session.connectToMainThread();
    }
    Atomics.store(this.shared, Shared.terminated, 1);
    // Fails where an earlier termination is still under way: then there is nothing to do.
    this.#session.post("Runtime.terminateExecution", () => {});
  }
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
