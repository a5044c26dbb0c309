/**
 * Where in the user's program an operation was written.
 *
 * Capturing looks at V8's structured frames and finds the innermost one outside the array language; each such place has one Site, made
 * when it is met first, with the text of its stack. Its location is looked up in the text only when it is printed or an error raised.
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

const sites = new Map<string, Site>();
const manySites = 50_000;

export function captureSite(): Site | undefined {
  if (inherited !== undefined) return inherited.site;
  const frame = userFrame(10) ?? userFrame(60);
  if (frame === undefined) return undefined;
  const key = `${frame.getFileName()}:${frame.getPosition()}`;
  let site = sites.get(key);
  if (site === undefined) {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 60;
    site = new Site();
    Error.captureStackTrace(site, captureSite);
    Error.stackTraceLimit = limit;
    // Until its text is made a stack holds what its functions were called on: here the arrays of a whole model.
    void site.stack;
    // Cells are edited and run again: their old places must not stay for ever.
    if (sites.size >= manySites) sites.clear();
    sites.set(key, site);
  }
  return site;
}

/** `NodeJS.CallSite` with what its type lacks. */
type Frame = NodeJS.CallSite & { getPosition(): number };

const frames = (_: Error, list: NodeJS.CallSite[]): NodeJS.CallSite[] => list;

/** The innermost of the last `depth` frames that is not of the array language. */
function userFrame(depth: number): Frame | undefined {
  const { stackTraceLimit, prepareStackTrace } = Error;
  Error.stackTraceLimit = depth;
  Error.prepareStackTrace = frames;
  const holder: { stack?: unknown } = {};
  Error.captureStackTrace(holder, captureSite);
  const list = holder.stack as Frame[];
  Error.prepareStackTrace = prepareStackTrace;
  Error.stackTraceLimit = stackTraceLimit;
  for (const frame of list) {
    const file = frame.getFileName();
    if (typeof file === "string" && isUsers(file)) return frame;
  }
  return undefined;
}

const filesOfUsers = new Map<string, boolean>();

function isUsers(file: string): boolean {
  let users = filesOfUsers.get(file);
  if (users === undefined) {
    users = /^(?:file:\/\/|cell:\/\/|\/|[A-Za-z]:)/.test(file) && !internal.test(file);
    filesOfUsers.set(file, users);
  }
  return users;
}

/** Folders of this package whose frames are the language itself, not its use. */
const internal = /\/(?:core\/(?:src|dist)|aronnax\/dist)\/(?:array|graph|runtime|sharding|transform)\//;

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
