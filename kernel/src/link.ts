import type { Json } from "./protocol/wire.js";

/**
 * What the two threads of the kernel tell each other. The messaging thread owns sockets, checker, history and metrics;
 * the main thread runs cells and nothing else.
 */
export type ToMain =
  | { type: "execute"; run: CellRun }
  | { type: "interrupt"; second: boolean }
  | { type: "comm"; kind: "open" | "msg" | "close"; content: Json; metadata: Json; buffers: Uint8Array[] }
  | { type: "telemetry"; wanted: boolean }
  /** The pipes of a run are being read. */
  | { type: "piped"; run: number }
  | { type: "exit"; code: number };

/** One cell, ready to run. */
export interface CellRun {
  /** A number that grows by one with each execution of this process, independent of `execution_count`. */
  id: number;
  count: number;
  /** The source as the user wrote it. */
  source: string;
  cell: CompiledCell;
  silent: boolean;
  /** Whether a debugger wants to stop where it throws. */
  stopsAtErrors: boolean;
  allowInput: boolean;
  expressions: Record<string, CompiledCell | { error: string }>;
}

/** JavaScript of a cell and how to find the user's columns again. */
export interface CompiledCell {
  code: string;
  /** Replacements in order, in UTF-16 offsets of the source; lines are kept, columns may move. */
  edits: Edit[];
  /** The names that each of its loops has taken to itself (language/loops.ts). */
  loops: string[][];
  /** What was replaced first, before all that follows: names of globals (language/shadowing.ts). */
  renames: Edit[];
  /** Where the code was generated anew: what the edits were made in, in place of the source, and its source map (JSON). */
  generated?: { source: string; map: string };
  /** Whether the value of the last statement is the result of the cell. */
  showsResult: boolean;
}

export interface Edit {
  start: number;
  end: number;
  text: string;
}

/** The function that a loop of a cell may run as, and the parameter by which it gives names their values (language/loops.ts). */
export const LOOP_NAME = /^__aronnax_loop_(\d+)__$/;
export const LOOP_SETTER = "__aronnax_set__";

export interface Bundle {
  data: Json;
  metadata: Json;
}

export interface FormattedError {
  ename: string;
  evalue: string;
  traceback: string[];
}

export type RunOutcome = { status: "ok"; expressions: Json } | ({ status: "error" } & FormattedError);

/**
 * What the main thread says; `size` is what it counts among the output that is not yet sent, `run` the run of the cell
 * whose output it is.
 */
export type ToMessaging = { size?: number; run?: number } & ToMessagingBody;

type ToMessagingBody =
  | { type: "ready" }
  | { type: "stream"; name: "stdout" | "stderr"; text: string }
  | { type: "display"; bundle: Bundle; displayId?: string; update: boolean; buffers?: Uint8Array[] }
  | { type: "clear"; wait: boolean }
  | { type: "result"; id: number; bundle: Bundle }
  /** Child processes of a run write to these pipes. */
  | { type: "pipes"; run: number; paths: { stdout: string; stderr: string } }
  /** What follows is to wait until this mark has come out of both pipes of a run. */
  | { type: "fence"; run: number; number: number }
  | { type: "done"; id: number; outcome: RunOutcome }
  | { type: "input"; prompt: string; password: boolean }
  | { type: "comm"; kind: "open" | "msg" | "close"; content: Json; metadata: Json; buffers: Uint8Array[] }
  | { type: "targets"; names: string[] }
  | { type: "metrics"; event: unknown }
  | { type: "telemetry"; event: unknown }
  | { type: "broadcast"; messageType: string; content: Json; metadata: Json; buffers: Uint8Array[] }
  | { type: "exit"; code: number };

/** Slots of the Int32Array that both threads share. */
export const Shared = {
  /** Interrupts that the main thread's event loop has seen. */
  interruptsSeen: 0,
  /** How many callers now observe the interrupt signal of the running cell. */
  observers: 1,
  /** What the messaging thread has not yet sent of the output, about in bytes (engine/outbox.ts). */
  outputPending: 2,
  /** Set to 1 by the messaging thread when an input reply waits on the input port, or when all sockets are closed. */
  wake: 3,
  /** Set to 1 by the messaging thread when it stopped the main thread's code by force. */
  terminated: 4,
  /** Megabytes of the main thread's heap in use, at the last look, and how many looks there were. */
  heapUsed: 5,
  heapLooks: 6,
  length: 7,
} as const;

/** Calling it on the main thread notes how much of the heap is in use; the messaging thread does so in the midst of a cell. */
export const HEAP_LOOK = "aronnax.heap";

export interface WorkerSetup {
  connectionFile: string;
  shared: SharedArrayBuffer;
  input: MessagePort;
  /** Megabytes that the main thread's heap may have. */
  heapLimit: number;
}
type MessagePort = import("node:worker_threads").MessagePort;

/** What stands in a pipe for a fence. */
export function fenceOf(number: number): string {
  return `\0aronnax ${number}\0`;
}
