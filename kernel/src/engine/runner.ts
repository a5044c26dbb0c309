import { types } from "node:util";
import type { CellRun, CompiledCell, FormattedError, RunOutcome, ToMessaging } from "../link.js";
import type { Json } from "../protocol/wire.js";
import type { CellSources } from "./cells.js";
import type { ChildOutput } from "./child-output.js";
import { DisplayHandle, type Displays } from "./displays.js";
import { formatError, Interrupted } from "./errors.js";
import { evaluate } from "./evaluate.js";
import type { InterruptSource } from "./interrupt-source.js";
import { displayIdOf, toBundle } from "./mime.js";
import { native } from "./native-timers.js";
import { asRun } from "./owner.js";
import { race } from "./race.js";
import type { CellResources } from "./resources.js";
import { runtimeAfterInterrupt } from "./runtime-hub.js";
import type { OutputStreams } from "./streams.js";

export interface RunnerParts {
  cells: CellSources;
  children: ChildOutput;
  streams: OutputStreams;
  displays: Displays;
  interrupts: InterruptSource;
  resources: CellResources;
  tell(message: ToMessaging): void;
}

/** Runs cells on the main thread, one at a time. */
export class Runner {
  constructor(private readonly parts: RunnerParts) {}

  async run(run: CellRun): Promise<void> {
    const { streams, tell, interrupts, cells } = this.parts;
    const abandoned = interrupts.begin(() =>
      tell({
        type: "done",
        id: run.id,
        outcome: { status: "error", ...formatError(new Interrupted(), cells) },
      }),
    );
    const dispose = this.parts.resources.begin();
    let outcome: RunOutcome;
    try {
      this.parts.children.begin(run.id);
      outcome = await asRun(run.id, () => this.#run(run, abandoned, dispose));
    } catch (error) {
      outcome = { status: "error", ...(await this.#describe(error, abandoned)) };
    }
    interrupts.end();
    if (outcome.status === "error" && outcome.ename === "Interrupted") {
      const held = await asRun(run.id, runtimeAfterInterrupt);
      if (held !== undefined) asRun(run.id, () => streams.write("stderr", `${held}\n`));
    }
    streams.flush();
    this.parts.children.end(run.id);
    tell({ type: "done", id: run.id, outcome });
  }

  /** What was thrown, as an error to show; finding that out may run the user's code too. */
  async #describe(error: unknown, abandoned: Promise<never>): Promise<FormattedError> {
    try {
      return await race(
        apart(async () => formatError(error, this.parts.cells)),
        abandoned,
      );
    } catch (interrupted) {
      return formatError(interrupted, this.parts.cells);
    }
  }

  /** Runs the cell, shows its value, and disposes of what it declared with `using`, however it ended. */
  async #run(
    run: CellRun,
    abandoned: Promise<never>,
    dispose: ReturnType<CellResources["begin"]>,
  ): Promise<RunOutcome> {
    let expressions: Json;
    try {
      const value = await this.#evaluate(
        run.silent ? `cell://silent-${run.id}` : `cell://${run.count}`,
        run.source,
        run.cell,
        abandoned,
        run.stopsAtErrors,
      );
      if (!run.silent)
        await race<unknown>(
          apart(() => this.#show(run, value)),
          abandoned,
        );
      await race(this.parts.displays.settled(), abandoned);
      expressions = await race(
        apart(() => this.#expressions(run, abandoned)),
        abandoned,
      );
    } catch (error) {
      await race(
        apart(() => dispose(true, error)),
        abandoned,
      );
      throw error;
    }
    await race(
      apart(() => dispose(false)),
      abandoned,
    );
    return { status: "ok", expressions };
  }

  async #evaluate(
    fileName: string,
    source: string,
    cell: CompiledCell,
    abandoned: Promise<never>,
    stopsAtErrors = false,
  ): Promise<unknown> {
    this.parts.cells.add(fileName, source, cell);
    const evaluation = evaluate(cell.code, fileName, stopsAtErrors);
    try {
      // Stopped before its first await: the interrupt that did it is in this thread's queue, or was lost with a race.
      if (evaluation.terminated) throw new Interrupted();
      const value = await race(evaluation.result, abandoned);
      if (!cell.showsResult) return undefined;
      return types.isPromise(value) ? await race(value, abandoned) : value;
    } finally {
      // An unhandled rejection of the same turn is reported before the cell ends.
      await new Promise<void>((resolve) => native.setImmediate(resolve));
      evaluation.release();
    }
  }

  async #show(run: CellRun, value: unknown): Promise<void> {
    if (value === undefined || value instanceof DisplayHandle) return;
    if (displayIdOf(value) !== undefined) {
      // A result cannot be updated later; what wants that is a display.
      this.parts.displays.display(value);
      await this.parts.displays.settled();
      return;
    }
    const bundle = await toBundle(value);
    await this.parts.displays.settled();
    this.parts.streams.flush();
    this.parts.tell({ type: "result", id: run.id, bundle });
  }

  async #expressions(run: CellRun, abandoned: Promise<never>): Promise<Json> {
    const results: Json = {};
    for (const [name, expression] of Object.entries(run.expressions)) {
      if ("error" in expression) {
        results[name] = {
          status: "error",
          ename: "Error",
          evalue: expression.error,
          traceback: [expression.error],
        };
        continue;
      }
      try {
        const value = await this.#evaluate(`cell://expression-${run.id}-${name}`, "", expression, abandoned);
        results[name] = { status: "ok", ...(await toBundle(value)) };
      } catch (error) {
        results[name] = { status: "error", ...formatError(error, this.parts.cells) };
      }
    }
    return results;
  }
}

/**
 * Calls what runs the user's code, such as how a value shows itself, in a turn of its own: an interrupt that stops it by force
 * stops all that called it, which must not be the runner.
 */
async function apart<T>(work: () => Promise<T>): Promise<T> {
  await undefined;
  // Awaited here, for a cell may have replaced the `then` by which a returned promise is followed.
  return await work();
}
