import { type ISignal, Signal } from "@lumino/signaling";
import type { MetricsMessage } from "./protocol.js";
import { type ColumnBatch, Run } from "./run.js";

/** The runs of one kernel or one file. */
export class RunStore {
  /** Something changed: a run, its rows, its status, or all of it. */
  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  /** Newest first. */
  get runs(): readonly Run[] {
    return [...this.#runs.values()].sort((a, b) => b.info.startedAt - a.info.startedAt);
  }

  get(id: string): Run | undefined {
    return this.#runs.get(id);
  }

  clear(): void {
    this.#runs.clear();
    this.#changed.emit();
  }

  /**
   * Applies a message whose Arrow streams are decoded.
   *
   * @param batches - the rows, by the index that `RunUpdate.buffer` names.
   * @returns false when rows are missing between what is here and what came.
   */
  apply(message: MetricsMessage, batches: ReadonlyMap<number, ColumnBatch>): boolean {
    if (message.type === "snapshot") {
      this.#runs.clear();
    }
    let complete = true;
    for (const update of message.runs) {
      let run = this.#runs.get(update.id);
      if (run) {
        run.update(update);
      } else {
        run = new Run(update);
        this.#runs.set(update.id, run);
      }
      const batch = update.buffer === null ? undefined : batches.get(update.buffer);
      if (batch && !run.append(batch, update.firstRow)) {
        complete = false;
      }
    }
    this.#changed.emit();
    return complete;
  }

  readonly #runs = new Map<string, Run>();
  readonly #changed = new Signal<this, void>(this);
}
