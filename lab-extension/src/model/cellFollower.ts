import { type ICodeCellModel, isCodeCellModel } from "@jupyterlab/cells";
import type { IOutput } from "@jupyterlab/nbformat";
import type { INotebookModel } from "@jupyterlab/notebook";
import { type IOutputAreaModel, OutputAreaModel } from "@jupyterlab/outputarea";
import type { KernelMessage } from "@jupyterlab/services";
import { JSONExt, type JSONObject, type PartialJSONObject } from "@lumino/coreutils";
import type { IDisposable } from "@lumino/disposable";
import { type CommMessage, KernelComm } from "./kernelComm.js";
import type { KernelHost } from "./kernelFeed.js";

/** An execution of a cell, as the kernel tells of it (docs/contracts.md §4). */
interface Execution {
  readonly cell: string;
  readonly request: string;
  readonly session: string;
  readonly count: number | null;
  readonly running: boolean;
  readonly saved: boolean;
  /** Whether the page that asked for it shows it itself. */
  readonly owned: boolean;
}

interface StoredOutput {
  readonly type: string;
  readonly content: PartialJSONObject;
}

/** A cell whose outputs are brought up to date from here. */
class Followed {
  constructor(
    readonly execution: Execution,
    private readonly cell: ICodeCellModel,
  ) {}

  get request(): string {
    return this.execution.request;
  }

  /** Displays that can be updated, by id, with their places among the outputs. */
  readonly displays = new Map<string, number[]>();

  /** Takes all outputs at once; false where they are there already. */
  replace(outputs: readonly StoredOutput[], clears: boolean): boolean {
    const built = new OutputAreaModel({ trusted: true });
    for (const output of outputs) {
      this.#put(built, output);
    }
    const same = JSONExt.deepEqual(built.toJSON() as never, this.cell.outputs.toJSON() as never);
    if (!same) {
      // The kernel has just said it: as after an execution in this page.
      this.cell.trusted = true;
      this.cell.outputs.fromJSON(built.toJSON());
    }
    if (clears) {
      this.cell.outputs.clear(true);
    }
    built.dispose();
    return !same;
  }

  add(output: StoredOutput): void {
    this.#put(this.cell.outputs, output);
  }

  #put(model: IOutputAreaModel, { type, content }: StoredOutput): void {
    const id = (content.transient as { display_id?: unknown } | undefined)?.display_id;
    switch (type) {
      case "clear_output":
        model.clear(content.wait === true);
        if (content.wait !== true) {
          this.displays.clear();
        }
        return;
      case "update_display_data":
        for (const index of this.displays.get(String(id)) ?? []) {
          if (index < model.length) {
            model.set(index, { ...content, output_type: "display_data" } as IOutput);
          }
        }
        return;
      default: {
        const length = model.add({ ...content, output_type: type } as IOutput);
        if (typeof id === "string") {
          this.displays.set(id, [...(this.displays.get(id) ?? []), length - 1]);
        }
      }
    }
  }
}

/**
 * Brings the outputs of a notebook's cells up to date with what the kernel has kept of executions that this page did not ask for: those that
 * began before the page was loaded, and those of another tab.
 */
export class CellFollower implements IDisposable {
  /**
   * @param host - the notebook's session.
   * @param notebook - the model, loaded.
   */
  constructor(
    private readonly host: KernelHost,
    private readonly notebook: INotebookModel,
  ) {
    this.#comm = new KernelComm(host, "aronnax.cells", { version: 1 });
    this.#comm.received.connect(this.#onComm, this);
    this.#comm.ended.connect(this.#onEnded, this);
    host.iopubMessage.connect(this.#onMessage, this);
  }

  get isDisposed(): boolean {
    return this.#comm.isDisposed;
  }

  close(): void {
    this.#comm.close();
  }

  /** What the notebook has of executions that have ended; to be asked for when it is written. */
  get complete(): string[] {
    return [...this.#complete];
  }

  /** The notebook's file has what `complete` said. */
  saved(requests: string[]): void {
    if (requests.length > 0) {
      this.#comm.send({ type: "saved", requests });
    }
  }

  dispose(): void {
    if (!this.isDisposed) {
      this.host.iopubMessage.disconnect(this.#onMessage, this);
      this.#comm.dispose();
    }
  }

  #onComm(_: unknown, { data }: CommMessage): void {
    switch (data.type) {
      case "cells":
        for (const execution of data.cells as unknown as Execution[]) {
          this.#consider(execution);
        }
        break;
      case "begun":
        this.#consider(data as unknown as Execution);
        break;
      case "ended":
        this.#onExecutionEnded(data as unknown as Execution);
        break;
      case "outputs":
        this.#onOutputs(data);
    }
  }

  #consider(execution: Execution): void {
    const { cell, request, session, running, saved } = execution;
    const isOwn = session === this.host.session?.kernel?.clientId;
    if (isOwn || this.#followed.get(cell)?.request === request) {
      // This page executed it, and JupyterLab shows it.
      if (isOwn) {
        this.#followed.delete(cell);
        if (!running) {
          this.#complete.add(request);
        }
      }
      return;
    }
    if ((running || !saved) && this.#cellModel(cell)) {
      this.#comm.send({ type: "read", cell });
    } else if (!running) {
      this.#complete.add(request);
    }
  }

  #onOutputs(data: JSONObject): void {
    const { cell, request, first, last, clears } = data as unknown as Execution & {
      first: number;
      last: boolean;
      clears: boolean;
    };
    const model = this.#cellModel(cell);
    if (request === null || !model) {
      return;
    }
    if (first === 0) {
      this.#parts.set(cell, []);
    }
    const parts = this.#parts.get(cell) ?? [];
    parts.push(...(data.outputs as unknown as StoredOutput[]));
    if (!last) {
      return;
    }
    this.#parts.delete(cell);
    const execution = data as unknown as Execution;
    this.#quietly(execution, () => {
      const followed = new Followed(execution, model);
      this.#followed.set(cell, followed);
      followed.replace(parts, clears);
      this.#showState(model, execution);
    });
  }

  #onExecutionEnded(execution: Execution): void {
    const { cell, request, session } = execution;
    const model = this.#cellModel(cell);
    if (session === this.host.session?.kernel?.clientId) {
      this.#complete.add(request);
    } else if (model && this.#followed.get(cell)?.request === request) {
      this.#quietly(execution, () => this.#showState(model, execution));
    }
  }

  #showState(model: ICodeCellModel, { running, count, request }: Execution): void {
    if (model.executionState !== (running ? "running" : "idle")) {
      model.executionState = running ? "running" : "idle";
    }
    const shown = running ? null : count;
    if (model.executionCount !== shown) {
      model.executionCount = shown;
    }
    if (!running) {
      this.#complete.add(request);
    }
  }

  #onMessage(_: unknown, message: KernelMessage.IMessage): void {
    const type = message.header.msg_type;
    if (!OUTPUTS.has(type)) {
      return;
    }
    const content = message.content as PartialJSONObject;
    const request = (message.parent_header as { msg_id?: string }).msg_id;
    if (type === "update_display_data") {
      const id = String((content.transient as { display_id?: unknown } | undefined)?.display_id);
      for (const followed of this.#followed.values()) {
        if (followed.displays.has(id)) {
          this.#quietly(followed.execution, () => followed.add({ type, content }));
        }
      }
      return;
    }
    for (const followed of this.#followed.values()) {
      if (followed.request === request) {
        this.#quietly(followed.execution, () => followed.add({ type, content }));
      }
    }
  }

  /** The kernel is gone: what it ran is over. */
  #onEnded(): void {
    for (const cell of this.#followed.keys()) {
      const model = this.#cellModel(cell);
      if (model?.executionState === "running") {
        model.executionState = "idle";
      }
    }
    this.#followed.clear();
    this.#parts.clear();
    this.#complete.clear();
  }

  /** What the page shows that asked for an execution, that page saves: here it is no change of the user's. */
  #quietly({ owned }: Execution, change: () => void): void {
    const { dirty } = this.notebook;
    change();
    if (owned && !dirty) {
      this.notebook.dirty = false;
    }
  }

  #cellModel(id: string): ICodeCellModel | undefined {
    for (const cell of this.notebook.cells) {
      if (cell.id === id && isCodeCellModel(cell)) {
        return cell;
      }
    }
    return undefined;
  }

  readonly #comm: KernelComm;
  /** By cell. */
  readonly #followed = new Map<string, Followed>();
  readonly #parts = new Map<string, StoredOutput[]>();
  readonly #complete = new Set<string>();
}

const OUTPUTS = new Set<string>([
  "stream",
  "display_data",
  "execute_result",
  "error",
  "clear_output",
  "update_display_data",
]);
