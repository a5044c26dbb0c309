import { type ISignal, Signal } from "@lumino/signaling";
import type { MetricsMessage } from "./protocol.js";
import { type ColumnBatch, Run } from "./run.js";
import type { RunSet } from "./source.js";

/** The runs of one kernel or one file. */
export class RunStore implements RunSet {
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

  /** Tells that a run changed otherwise than by a message. */
  touch(): void {
    this.#changed.emit();
  }

  /** The kernel of these runs is gone: what says that it is running, is not. */
  markStale(): void {
    for (const run of this.#runs.values()) {
      if (run.info.status === "running" && !run.info.isStale) {
        run.update({ ...run.info, isStale: true });
      }
    }
    this.#changed.emit();
  }

  clear(): void {
    this.#runs.clear();
    this.#changed.emit();
  }

  /**
   * Applies a message whose Arrow streams are decoded. A snapshot says which runs there are; rows that are here already
   * stay, also those that the source no longer has.
   *
   * @param batches - the rows, by the index that `RunUpdate.buffer` names.
   * @returns false when rows are missing between what is here and what came.
   */
  apply(message: MetricsMessage, batches: ReadonlyMap<number, ColumnBatch>): boolean {
    const isSnapshot = message.type === "snapshot";
    if (isSnapshot) {
      const ids = new Set(message.runs.map((run) => run.id));
      for (const id of this.#runs.keys()) {
        if (!ids.has(id)) {
          this.#runs.delete(id);
        }
      }
    }
    let complete = true;
    for (const update of message.runs) {
      const { firstRow } = update;
      let run = this.#runs.get(update.id);
      // A snapshot may begin after what is here, when the source has forgotten the rows between: then it starts over.
      if (!run || (isSnapshot && firstRow > run.end)) {
        run = new Run(update, isSnapshot ? firstRow : 0);
        this.#runs.set(update.id, run);
      } else {
        run.update(update);
      }
      run.addMedia(update.media ?? [], update.firstMedia ?? 0);
      const batch = update.buffer === null ? undefined : batches.get(update.buffer);
      if (batch && !run.append(batch, firstRow)) {
        complete = false;
      }
    }
    this.#changed.emit();
    return complete;
  }

  readonly #runs = new Map<string, Run>();
  readonly #changed = new Signal<this, void>(this);
}
