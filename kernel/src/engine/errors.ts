import { fileURLToPath } from "node:url";
import { inspect } from "node:util";
import { type FormattedError, LOOP_NAME } from "../link.js";
import { excerpt, paint } from "../paint.js";
import type { CellSources } from "./cells.js";

interface Frame {
  call: string;
  file: string;
  line: number;
  column: number;
}

const FRAME = /^\s*at (?:(.*?) \()?((?:cell|file):\/\/.*?|cell \S+?):(\d+):(\d+)\)?$/;

/** An interrupted cell. */
export class Interrupted extends Error {
  override name = "Interrupted";
  constructor() {
    super("the cell was interrupted; what it had assigned so far is kept");
  }
}

/** Turns whatever a cell threw into a Jupyter error: message, fix, the user's line with a caret, and user frames. */
export function formatError(thrown: unknown, cells: CellSources): FormattedError {
  try {
    return format(thrown, cells);
  } catch (error) {
    // A hostile `message` or `toString` must not hide that something was thrown.
    const evalue = `a thrown value could not be shown: ${error instanceof Error ? error.name : typeof error}`;
    return { ename: "Error", evalue, traceback: [evalue] };
  }
}

function format(thrown: unknown, cells: CellSources): FormattedError {
  if (!isError(thrown)) {
    const evalue = typeof thrown === "string" ? thrown : inspect(thrown, { depth: 2 });
    const ename =
      thrown === null || thrown === undefined ? String(thrown) : (thrown.constructor?.name ?? "Object");
    return { ename, evalue, traceback: [`${paint.error(`Thrown ${ename}`)}: ${evalue}`] };
  }
  const ename = nameOf(thrown);
  const traceback = describe(thrown, cells);
  const seen = new Set<unknown>([thrown]);
  const follow = (error: Error, label: string) => {
    if (seen.has(error)) return;
    seen.add(error);
    const [head, ...rest] = describe(error, cells);
    traceback.push(`${paint.dim(label)} ${head}`, ...rest);
    chain(error);
  };
  const chain = (error: Error) => {
    if (error instanceof AggregateError) {
      for (const [index, inner] of error.errors.entries())
        if (isError(inner)) follow(inner, `Error ${index + 1} of ${error.errors.length}:`);
    }
    if (isError(error.cause)) follow(error.cause, "Caused by");
    else if (error.cause !== undefined) traceback.push(`${paint.dim("Caused by")} ${inspect(error.cause)}`);
  };
  chain(thrown);
  return { ename, evalue: String(thrown.message), traceback };
}

function describe(error: Error, cells: CellSources): string[] {
  const { fix } = error as { fix?: unknown };
  const frames = userFrames(error, cells);
  const parts = [`${paint.error(nameOf(error))}: ${error.message}`];
  if (typeof fix === "string" && fix !== "") parts.push(paint.fix(`Fix: ${fix}`));
  const inCell = frames.find((frame) => cells.lines(frame.file));
  if (inCell) {
    const lines = cells.lines(inCell.file)!;
    const text = lines[inCell.line - 1] ?? "";
    const word = /^[\p{ID_Continue}$]*/u.exec(text.slice(inCell.column - 1))?.[0].length ?? 1;
    parts.push(excerpt(lines, inCell.line - 1, inCell.column - 1, inCell.column - 1 + Math.max(word, 1)));
  }
  for (const { call, file, line, column } of frames) {
    parts.push(`    at ${call ? `${call} ` : ""}${paint.place(`${shownFile(file)}:${line}:${column}`)}`);
  }
  return parts;
}

/** Frames of cells and of the user's own files; those of the kernel, of Node and of packages are left out. */
function userFrames(error: Error, cells: CellSources): Frame[] {
  const frames: Frame[] = [];
  let isCallOfLoop = false;
  const stack = String(error.stack ?? "");
  const isTranslated = translated.has(error);
  for (const text of stack.split("\n")) {
    const match = FRAME.exec(text);
    if (!match) continue;
    const [, call = "", place, line, column] = match as unknown as [
      string,
      string | undefined,
      string,
      string,
      string,
    ];
    const file = place.replace(/^cell /, "cell://");
    if (!isUserFile(file) || isCallOfLoop) {
      isCallOfLoop = false;
      continue;
    }
    isCallOfLoop = LOOP_NAME.test(call);
    const position = isTranslated
      ? { line: Number(line), column: Number(column) }
      : cells.original(file, Number(line), Number(column));
    frames.push({ call: isCallOfLoop ? "" : call.replace(/__hoisted\b/, ""), file, ...position });
  }
  return frames;
}

const KERNEL = new URL("../..", import.meta.url).href;
const REPOSITORY = new URL("../../..", import.meta.url).href;

function isUserFile(file: string): boolean {
  if (file.startsWith("cell://")) return true;
  if (file.includes("/node_modules/") || file.startsWith(KERNEL)) return false;
  return !file.startsWith(`${REPOSITORY}core/`);
}

/** Errors whose stack shows the user's lines and columns already. */
const translated = new WeakSet<object>();

/**
 * Has every stack show the user's lines, and no frames of the kernel: an error that a cell prints or shows as a value ends
 * where the cell began. Stacks of errors from within the kernel stay whole.
 */
export function translateStacks(cells: CellSources): void {
  Error.prepareStackTrace = (error, frames) => {
    translated.add(error);
    const last = frames.findLastIndex((frame) => !/^node:|^$/.test(fileOf(frame)) && !isOfKernel(frame));
    const shown = last < 0 ? frames : frames.slice(0, last + 1).filter((frame) => !isOfKernel(frame));
    const lines: string[] = [];
    for (let at = 0; at < shown.length; at += 1) {
      const frame = shown[at]!;
      const file = fileOf(frame);
      const { line, column } = cells.original(file, frame.getLineNumber() ?? 1, frame.getColumnNumber() ?? 1);
      if (LOOP_NAME.test(frame.getFunctionName() ?? "")) {
        // A loop of a cell that runs as a function: it and its call are one frame of the user's.
        lines.push(`${nameOfCell(file)}:${line}:${column}`);
        at += 1;
      } else lines.push(nameOfCell(String(frame).replace(/:\d+:\d+(\)?)$/, `:${line}:${column}$1`)));
    }
    return [Error.prototype.toString.call(error), ...lines.map((line) => `    at ${line}`)].join("\n");
  };
}

function fileOf(frame: NodeJS.CallSite): string {
  return String(frame.getScriptNameOrSourceURL() ?? "");
}

function isOfKernel(frame: NodeJS.CallSite): boolean {
  return fileOf(frame).startsWith(KERNEL);
}

/** A cell has one name wherever it is shown: `cell` and its execution count. */
function nameOfCell(text: string): string {
  return text.replaceAll("cell://", "cell ");
}

function shownFile(file: string): string {
  if (file.startsWith("cell://")) return nameOfCell(file);
  const path = fileURLToPath(file.replace(/\?.*$/, ""));
  const here = `${process.cwd()}/`;
  return path.startsWith(here) ? path.slice(here.length) : path;
}

function isError(value: unknown): value is Error {
  return (
    value instanceof Error ||
    (typeof value === "object" &&
      value !== null &&
      Object.prototype.toString.call(value) === "[object Error]")
  );
}

function nameOf(error: Error): string {
  return error.name && error.name !== "Error" ? error.name : (error.constructor?.name ?? "Error");
}
