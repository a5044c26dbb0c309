import type { Header, Json, Message } from "../protocol/wire.js";

export const CELLS_TARGET = "aronnax.cells";
/** What answers are sent as, beside the outputs whose order they share: every page has one, and no view of it is a comm's. */
export const CELLS_MESSAGE = "aronnax_cells";

/** What is kept of the output of one cell, and of all of them, about in bytes. */
const OF_A_CELL = 16 << 20;
const OF_ALL = 64 << 20;
/** About the length of one message with outputs. */
const PART = 1 << 20;
/** Neighbouring stream messages are joined up to this length. */
const JOINED = 64 << 10;
/** What a message counts at least. */
const LEAST = 200;

const OUTPUTS = new Set([
  "stream",
  "display_data",
  "execute_result",
  "error",
  "clear_output",
  "update_display_data",
]);

interface Output {
  type: string;
  content: Json;
  metadata: Json;
  buffers: Uint8Array[];
  size: number;
}

/** One execution of a cell. */
interface Execution {
  cell: string;
  /** The id of its request. */
  request: string;
  /** Of the client that asked for it. */
  session: string;
  count: number | null;
  running: boolean;
  /** Whether the notebook's file has all of it. */
  saved: boolean;
  outputs: Output[];
  size: number;
  /** Messages that were too many, and are not kept. */
  dropped: number;
  /** Whether the next output takes the place of all. */
  clears: boolean;
}

type Send = (commId: string, data: Json, buffers: Uint8Array[]) => void;

/**
 * Keeps what cells have put out, by the id that the notebook gives a cell, and gives it to pages that did not ask for the execution: one that
 * was reloaded meanwhile, or a second one (docs/contracts.md §4). What comes after an answer comes after it on the same channel: a page misses
 * nothing and has nothing twice.
 */
export class CellOutputs {
  /** By request; the last of each cell. The oldest first. */
  readonly #executions = new Map<string, Execution>();
  readonly #ofCell = new Map<string, string>();
  /** The sessions of the pages that listen, by comm. */
  readonly #pages = new Map<string, string>();
  #size = 0;

  constructor(private readonly send: Send) {}

  open(commId: string, _data: Json, session: string): void {
    this.#pages.set(commId, session);
    const cells = [...this.#executions.values()].map((execution) => this.#describe(execution));
    this.send(commId, { version: 1, type: "cells", cells }, []);
  }

  message(commId: string, data: Json): void {
    if (!this.#pages.has(commId)) return;
    if (data.type === "read") this.#answer(commId, String(data.cell));
    else if (data.type === "saved") {
      for (const request of Array.isArray(data.requests) ? data.requests : []) {
        const execution = this.#executions.get(String(request));
        if (execution && !execution.running) execution.saved = true;
      }
    }
  }

  close(commId: string): void {
    this.#pages.delete(commId);
  }

  /** An execution begins, in the place of an earlier one of its cell. */
  begin({ header, metadata }: Message, count: number | null): void {
    const { cellId } = metadata as { cellId?: unknown };
    if (typeof cellId !== "string") return;
    this.#forget(this.#ofCell.get(cellId));
    const execution: Execution = {
      cell: cellId,
      request: header.msg_id,
      session: header.session,
      count,
      running: true,
      saved: false,
      outputs: [],
      size: 0,
      dropped: 0,
      clears: false,
    };
    this.#executions.set(execution.request, execution);
    this.#ofCell.set(cellId, execution.request);
    this.#tell(execution, "begun");
  }

  end({ header }: Message): void {
    const execution = this.#executions.get(header.msg_id);
    if (!execution) return;
    execution.running = false;
    this.#tell(execution, "ended");
  }

  /** Takes what is published of an execution. */
  note(
    type: string,
    parent: Partial<Header>,
    content: Json,
    metadata: Json = {},
    buffers: Uint8Array[] = [],
  ): void {
    if (!OUTPUTS.has(type)) return;
    if (type === "update_display_data") {
      this.#update(content, metadata, buffers);
      return;
    }
    const execution = this.#executions.get(parent.msg_id ?? "");
    if (!execution) return;
    if (!execution.running) execution.saved = false;
    if (type === "clear_output") {
      execution.clears = true;
      if (content.wait !== true) this.#clear(execution);
      return;
    }
    if (execution.clears) this.#clear(execution);
    this.#add(execution, { type, content, metadata, buffers, size: sizeOf(content, buffers) });
  }

  #add(execution: Execution, output: Output): void {
    const { outputs } = execution;
    const last = outputs.at(-1);
    if (
      isStream(output) &&
      last &&
      isStream(last) &&
      last.content.name === output.content.name &&
      last.size < JOINED
    ) {
      last.content = { ...last.content, text: `${last.content.text}${output.content.text}` };
      last.size += output.size - LEAST;
      this.#grow(execution, output.size - LEAST);
    } else {
      outputs.push(output);
      this.#grow(execution, output.size);
    }
    while (execution.size > OF_A_CELL && outputs.length > 1) {
      execution.dropped += 1;
      this.#grow(execution, -outputs.shift()!.size);
    }
    for (const other of this.#executions.values()) {
      if (this.#size <= OF_ALL) break;
      if (other !== execution && !other.running) this.#forget(other.request);
    }
  }

  /** Displays are kept as they are now: what changes ten times a second for hours stays one. */
  #update(content: Json, metadata: Json, buffers: Uint8Array[]): void {
    const id = displayId(content);
    if (id === undefined) return;
    for (const execution of this.#executions.values()) {
      for (const output of execution.outputs) {
        if (output.type !== "display_data" || displayId(output.content) !== id) continue;
        const size = sizeOf(content, buffers);
        this.#grow(execution, size - output.size);
        Object.assign(output, { content, metadata, buffers, size });
        if (!execution.running) execution.saved = false;
      }
    }
  }

  #clear(execution: Execution): void {
    this.#grow(execution, -execution.size);
    execution.outputs = [];
    execution.dropped = 0;
    execution.clears = false;
  }

  #grow(execution: Execution, by: number): void {
    execution.size += by;
    this.#size += by;
  }

  #forget(request: string | undefined): void {
    const execution = this.#executions.get(request ?? "");
    if (!execution) return;
    this.#size -= execution.size;
    this.#executions.delete(execution.request);
    if (this.#ofCell.get(execution.cell) === execution.request) this.#ofCell.delete(execution.cell);
  }

  #describe({ cell, request, session, count, running, saved }: Execution): Json {
    // Whether the page that asked for it is there, and shows it itself.
    const owned = [...this.#pages.values()].includes(session);
    return { cell, request, session, count, running, saved, owned };
  }

  #tell(execution: Execution, type: "begun" | "ended"): void {
    for (const commId of this.#pages.keys())
      this.send(commId, { version: 1, type, ...this.#describe(execution) }, []);
  }

  /** All at once, so that nothing comes between its parts. */
  #answer(commId: string, cell: string): void {
    const execution = this.#executions.get(this.#ofCell.get(cell) ?? "");
    if (!execution) {
      this.send(commId, { version: 1, type: "outputs", cell, request: null, last: true, outputs: [] }, []);
      return;
    }
    const { outputs, dropped, clears } = execution;
    const about = { version: 1, type: "outputs", ...this.#describe(execution), dropped, clears };
    let first = 0;
    do {
      let [size, end] = [0, first];
      while (end < outputs.length && (end === first || size + outputs[end]!.size <= PART)) {
        size += outputs[end]!.size;
        end += 1;
      }
      const part = outputs.slice(first, end);
      const listed = part.map(({ type, content, metadata, buffers }) => ({
        type,
        content,
        metadata,
        buffers: buffers.length,
      }));
      this.send(
        commId,
        { ...about, first, last: end >= outputs.length, outputs: listed },
        part.flatMap(({ buffers }) => buffers),
      );
      first = end;
    } while (first < outputs.length);
  }
}

function isStream({ type }: Output): boolean {
  return type === "stream";
}

function displayId({ transient }: Json): string | undefined {
  const id = (transient as Json | undefined)?.display_id;
  return typeof id === "string" ? id : undefined;
}

function sizeOf(content: Json, buffers: Uint8Array[]): number {
  let size = LEAST;
  const texts = [content.text, content.traceback, ...Object.values((content.data ?? {}) as Json)];
  for (const text of texts) {
    if (typeof text === "string") size += text.length;
    else if (text !== undefined && text !== null) size += JSON.stringify(text).length;
  }
  for (const { byteLength } of buffers) size += byteLength;
  return size;
}
