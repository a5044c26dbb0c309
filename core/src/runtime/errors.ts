/**
 * Errors of the runtime, each saying what was wrong, with which value, and (in `fix`) what to do about it.
 * They are thrown at the call where the client itself can see the fault, else by the next `await` on a buffer it poisoned.
 */

import { AronnaxError } from "../graph/errors.js";

export interface RuntimeErrorOptions extends ErrorOptions {
  /** What the user can do about it; one or two sentences. */
  fix?: string;
}

/** The base of every error that comes from the runtime or its client. */
export class RuntimeError extends AronnaxError {
  override readonly name: string = "RuntimeError";

  constructor(message: string, options: RuntimeErrorOptions = {}) {
    super(message, options.fix);
    if ("cause" in options) this.cause = options.cause;
  }
}

/** OpenXLA rejected the text of a program. */
export class CompileError extends RuntimeError {
  override readonly name = "CompileError";
  /** Where, as MLIR names it: `model.ts:42:7` or, for an operation without `loc`, `<program>:line:column`. */
  readonly location?: string;
  /** XLA's own words. */
  readonly diagnostics: string;

  constructor(
    message: string,
    options: RuntimeErrorOptions & { location?: string; diagnostics?: string } = {},
  ) {
    super(message, options);
    if (options.location !== undefined) this.location = options.location;
    this.diagnostics = options.diagnostics ?? message;
  }
}

/** What one tag and name holds, in bytes over all devices. */
export interface MemoryEntry {
  tag: string;
  name: string;
  buffers: number;
  bytes: number;
}

/** A device, or the host on the CPU platform, has no room for a buffer or for the temporaries of a program. */
export class OutOfDeviceMemory extends RuntimeError {
  override readonly name = "OutOfDeviceMemory";
  /** Bytes that were asked for, where known. */
  readonly requested?: number;
  /** What holds the memory, largest first. */
  readonly table: readonly MemoryEntry[];

  constructor(
    message: string,
    options: RuntimeErrorOptions & { requested?: number; table?: readonly MemoryEntry[] } = {},
  ) {
    super(message, options);
    if (options.requested !== undefined) this.requested = options.requested;
    this.table = options.table ?? [];
  }
}

/** A buffer was used after it was freed, or after it was donated to a program. */
export class BufferDeleted extends RuntimeError {
  override readonly name = "BufferDeleted";
}

/** An argument does not fit: shape, dtype, sharding, device, name, file. */
export class InvalidArgument extends RuntimeError {
  override readonly name = "InvalidArgument";
}

/** A program failed while it ran. */
export class ExecutionError extends RuntimeError {
  override readonly name = "ExecutionError";
}

/** Reading or writing a file failed in the runtime: missing, no permission, disk full. */
export class StorageError extends RuntimeError {
  override readonly name = "StorageError";
}

/** The runtime process is gone, or could not be started. Its buffers are lost; named files are not. */
export class RuntimeLost extends RuntimeError {
  override readonly name = "RuntimeLost";
  /** How it ended, e.g. `killed by SIGKILL`. */
  readonly exit: string;
  /** The last lines of its log. */
  readonly log: readonly string[];

  constructor(
    message: string,
    options: RuntimeErrorOptions & { exit?: string; log?: readonly string[] } = {},
  ) {
    super(message, options);
    this.exit = options.exit ?? "unknown";
    this.log = options.log ?? [];
  }
}

/** Client and runtime do not understand each other: other protocol versions, or damaged frames. */
export class ProtocolError extends RuntimeError {
  override readonly name = "ProtocolError";
}

/** An error as it stands in a reply (runtime/PROTOCOL.md). */
export interface WireError {
  kind: string;
  message: string;
  fix?: string;
  location?: string;
  diagnostics?: string;
  requested?: number;
  table?: MemoryEntry[];
  /** Runs, by the handles of their first outputs, that failed before they took an input by donation, and its handle. */
  kept?: [run: number, input: number][];
}

/** The class that a reply's error stands for. */
export function errorFromWire(wire: WireError): RuntimeError {
  const { kind, message, kept: _, ...options } = wire;
  switch (kind) {
    case "CompileError":
      return new CompileError(message, options);
    case "OutOfDeviceMemory":
      return new OutOfDeviceMemory(message, options);
    case "BufferDeleted":
      return new BufferDeleted(message, options);
    case "InvalidArgument":
      return new InvalidArgument(message, options);
    case "ExecutionError":
      return new ExecutionError(message, options);
    case "StorageError":
      return new StorageError(message, options);
    case "ProtocolError":
      return new ProtocolError(message, options);
    default:
      return new RuntimeError(message, options);
  }
}
