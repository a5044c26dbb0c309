/** What a user of the array language can do wrong, each with what to do about it. */

import { inheritedSite, locate } from "./site.js";

/** The base of the framework's errors: `message` says what was wrong and with which value, `fix` what to do. */
export class AronnaxError extends Error {
  /** One sentence: what to change. */
  readonly fix: string | undefined;
  /** The user's line, `file:line:column`, where known. */
  readonly at: string | undefined;
  constructor(message: string, fix?: string) {
    // The user's frame may lie below many of ours.
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = Math.max(limit, 40);
    super(message);
    Error.stackTraceLimit = limit;
    this.name = new.target.name;
    this.fix = fix;
    // What fails while a derivative is built belongs to the line of what is differentiated.
    const at = inheritedSite()?.location ?? locate(this.stack);
    this.at = at && `${at.file}:${at.line}:${at.column}`;
  }
}

/** Shapes that do not fit an operation. */
export class ShapeError extends AronnaxError {}

/** An element type that an operation does not take. */
export class DTypeError extends AronnaxError {}

/** A value of a trace used outside it, or a traced value asked for its data. */
export class TraceError extends AronnaxError {}

/** An argument out of its range. */
export class ArgumentError extends AronnaxError {}
