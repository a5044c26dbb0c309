/** What of a function's text does not come along when it is sent to a worker thread: the names that it takes from around it. */
import { runInNewContext } from "node:vm";
import type { Node } from "acorn";
import { DataError } from "../errors.js";

/** Beside the language's own globals, what Node gives to a module in a worker thread. */
export const nodeGlobals: ReadonlySet<string> = new Set(
  (
    "AbortController AbortSignal Blob BroadcastChannel Buffer ByteLengthQueuingStrategy CloseEvent CompressionStream CountQueuingStrategy " +
    "Crypto CryptoKey CustomEvent DOMException DecompressionStream Event EventTarget File FormData Headers MessageChannel MessageEvent " +
    "MessagePort Navigator Performance PerformanceEntry PerformanceMark PerformanceMeasure PerformanceObserver " +
    "PerformanceObserverEntryList PerformanceResourceTiming ReadableByteStreamController ReadableStream ReadableStreamBYOBReader " +
    "ReadableStreamBYOBRequest ReadableStreamDefaultController ReadableStreamDefaultReader Request Response SubtleCrypto TextDecoder " +
    "TextDecoderStream TextEncoder TextEncoderStream TransformStream TransformStreamDefaultController URL URLPattern URLSearchParams " +
    "WebAssembly WebSocket WritableStream WritableStreamDefaultController WritableStreamDefaultWriter atob btoa clearImmediate " +
    "clearInterval clearTimeout console crypto fetch global navigator performance process queueMicrotask setImmediate setInterval " +
    "setTimeout structuredClone"
  ).split(" "),
);

let languageGlobals: ReadonlySet<string> | undefined;

/** Of a fresh realm: a notebook's own variables may be globals here. */
function isGlobal(name: string): boolean {
  languageGlobals ??= new Set(runInNewContext("Object.getOwnPropertyNames(globalThis)") as string[]);
  return languageGlobals.has(name) || nodeGlobals.has(name);
}

/** What tools put in place of `import()` where they compile it, and around functions to keep their names. */
const importHelpers = ["__aronnax_import__", "__vite_ssr_dynamic_import__"];
const nameHelper = "__name";

/** The name under which a sent function finds `import()`, resolved from the user's file. */
export const importName = "__aronnax_worker_import__";

/** A function's text as an expression that is true in another thread. */
export interface PortableFunction {
  /** Uses `importName` for `import()`. */
  readonly text: string;
}

/**
 * The text of a self-contained function.
 *
 * @throws DataError for native and bound functions, and for one that uses names from around it, each by its name
 */
export async function portable(f: (...values: never[]) => unknown, what: string): Promise<PortableFunction> {
  const source = Function.prototype.toString.call(f);
  const remedy =
    "pass constants in `context`, load modules inside of it with `await import(...)`, or name a module's export, " +
    '`decode: { module: import.meta.url, export: "name" }`; `workers: 0` calls the function as it is';
  if (/\{\s*\[native code\]\s*\}$/.test(source)) {
    throw new DataError(
      `${what} is a native or bound function, which has no text to send to a worker.`,
      remedy,
    );
  }
  const [acorn, { analyze }] = await Promise.all([import("acorn"), import("eslint-scope")]);
  const parse = (text: string) => acorn.parse(text, { ecmaVersion: "latest", ranges: true });
  let text = `(${source})`;
  let program: ReturnType<typeof parse>;
  try {
    program = parse(text);
  } catch {
    // A method's text is no expression by itself.
    text = `Object.values({ ${source} })[0]`;
    try {
      program = parse(text);
    } catch (error) {
      throw new DataError(
        `${what} cannot be sent to a worker: ${(error as Error).message} in ${excerpt(source)}`,
        remedy,
        { cause: error },
      );
    }
  }
  const scopes = analyze(program as never, { ecmaVersion: 2022, sourceType: "script" });
  const edits: { start: number; end: number; text: string }[] = [];
  const captured = new Set<string>();
  for (const { identifier } of scopes.globalScope!.through) {
    const { name, range } = identifier as { name: string; range?: [number, number] };
    if (importHelpers.includes(name)) edits.push({ start: range![0], end: range![1], text: importName });
    else if (name === nameHelper) edits.push({ start: range![0], end: range![1], text: "((f) => f)" });
    else if (!isGlobal(name)) captured.add(name);
  }
  visit(program, false, (node, own) => {
    if (node.type === "ImportExpression")
      edits.push({ start: node.start, end: node.start + "import".length, text: importName });
    if (node.type === "ThisExpression" && !own) captured.add("this");
    if (node.type === "Super" && !own) captured.add("super");
  });
  if (captured.size > 0) {
    const names = [...captured];
    throw new DataError(
      `${what} takes ${names.map((name) => `\`${name}\``).join(", ")} from around it, which ${names.length === 1 ? "does" : "do"} not exist in a worker thread.`,
      remedy,
    );
  }
  edits.sort((a, b) => b.start - a.start);
  for (const { start, end, text: put } of edits) text = text.slice(0, start) + put + text.slice(end);
  return { text };
}

/** Walks a tree; `own` says whether `this` is that of a function inside. */
function visit(node: Node, own: boolean, each: (node: Node, own: boolean) => void): void {
  each(node, own);
  const inside = own || ["FunctionExpression", "FunctionDeclaration", "ClassBody"].includes(node.type);
  for (const child of Object.values(node)) {
    for (const one of Array.isArray(child) ? child : [child]) {
      if (typeof one === "object" && one !== null && typeof one.type === "string") visit(one, inside, each);
    }
  }
}

function excerpt(source: string): string {
  const line = source.replaceAll(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 57)}...` : line;
}
