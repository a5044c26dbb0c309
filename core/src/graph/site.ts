/**
 * Where in the user's program an operation was written.
 *
 * Capturing keeps V8's structured frames (about a microsecond); the text is formatted only when a location is printed or an error
 * raised, which for most operations is never.
 */

export interface SourceLocation {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly function: string;
}

export class Site {
  declare readonly stack: string | undefined;
  #location: SourceLocation | undefined | null = null;

  /** The innermost frame outside the array language: a cell, a script, or a model's file. */
  get location(): SourceLocation | undefined {
    if (this.#location === null) this.#location = locate(this.stack);
    return this.#location;
  }

  toString(): string {
    const at = this.location;
    return at === undefined ? "" : `${at.file}:${at.line}:${at.column}`;
  }
}

const depth = 16;
let enabled = true;

/** Turns the capture of locations off (and on again): a measured tracing benchmark without them, say. */
export function captureSites(on: boolean): void {
  enabled = on;
}

let inherited: { site: Site | undefined } | undefined;

/** Runs `f`, giving what it creates the location `site`: derivatives belong to the line of what they are derivatives of. */
export function withSite<R>(site: Site | undefined, f: () => R): R {
  const outer = inherited;
  inherited = { site };
  try {
    return f();
  } finally {
    inherited = outer;
  }
}

/** The location that `withSite` gives now. */
export function inheritedSite(): Site | undefined {
  return inherited?.site;
}

export function captureSite(): Site | undefined {
  if (inherited !== undefined) return inherited.site;
  if (!enabled) return undefined;
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = depth;
  const site = new Site();
  Error.captureStackTrace(site, captureSite);
  Error.stackTraceLimit = limit;
  return site;
}

/** Folders of this package whose frames are the language itself, not its use. */
const internal = /\/(?:core\/(?:src|dist)|aronnax\/dist)\/(?:array|graph|transform)\//;

/** The innermost frame of a stack trace outside the array language. */
export function locate(stack: string | undefined): SourceLocation | undefined {
  if (stack === undefined) return undefined;
  for (const line of stack.split("\n")) {
    const match =
      /^\s+at (?:(?:async )?(.*?) \()?((?:file|cell):\/\/[^)]*?|\/[^)]*?|[A-Za-z]:[^)]*?):(\d+):(\d+)\)?$/.exec(
        line,
      );
    if (match === null) continue;
    const [, name, file, row, column] = match;
    if (file === undefined || internal.test(file)) continue;
    return {
      file: file.startsWith("file://") ? decodeURIComponent(file.slice(7)) : file,
      line: Number(row),
      column: Number(column),
      function: name ?? "",
    };
  }
  return undefined;
}
