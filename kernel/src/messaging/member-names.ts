import type { Completions } from "../checker/checker.js";
import { InspectorClient } from "../debugger/inspector-client.js";

/** How long the main thread may take to tell, in ms: a cell that runs keeps it. */
const PATIENCE = 400;
const MOST = 1_000;

const NAME = "[\\p{ID_Start}$_][\\p{ID_Continue}$]*";
/** A path of names and literal keys before the cursor, behind its last dot the beginning of a name. */
const PATH = new RegExp(
  `(?<![\\p{ID_Continue}$.\\])])(${NAME})((?:\\??\\.${NAME}|(?:\\?\\.)?\\[(?:\\d+|"[^"\\\\]*"|'[^'\\\\]*')\\])*)\\??\\.(#?[\\p{ID_Continue}$]*)$`,
  "u",
);
const WHOLE_NAME = new RegExp(`^${NAME}$`, "u");

/**
 * Completes a member of a value whose type does not tell what it has, by the names that the value itself has. It is only
 * looked at: an expression that would run a getter, or change anything, is given up.
 *
 * @param nameAtRun - the name that a name of the notebook has at run time.
 */
export async function completeByValue(
  source: string,
  offset: number,
  nameAtRun: (name: string) => string,
): Promise<Completions | undefined> {
  const found = PATH.exec(source.slice(0, offset));
  if (!found) return undefined;
  const [, root, path, prefix] = found as unknown as [string, string, string, string];
  const expression = `(${namesOf})(${nameAtRun(root)}${path})`;
  const inspector = new InspectorClient();
  let names: [string, string][];
  try {
    const answer = inspector.post<{ result: { value?: [string, string][] }; exceptionDetails?: object }>(
      "Runtime.evaluate",
      { expression, silent: true, returnByValue: true, throwOnSideEffect: true, timeout: PATIENCE },
    );
    const late = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), PATIENCE).unref());
    const given = await Promise.race([answer, late]);
    if (!given || given.exceptionDetails || !given.result.value) return undefined;
    names = given.result.value;
  } catch {
    return undefined;
  } finally {
    inspector.close();
  }
  const lower = prefix.toLowerCase();
  const items = names
    .filter(([name]) => WHOLE_NAME.test(name) && name.toLowerCase().startsWith(lower))
    .slice(0, MOST)
    .map(([name, type]) => ({ name, type, signature: "" }));
  if (items.length === 0) return undefined;
  const after = /^[\p{ID_Continue}$]*/u.exec(source.slice(offset))?.[0] ?? "";
  return { items, start: offset - prefix.length, end: offset + after.length };
}

/** Runs on the main thread, as text: names of an object and of what it inherits, and what they are. */
const namesOf = String(function names(value: unknown) {
  const found: [string, string][] = [];
  const seen: Record<string, true> = Object.create(null);
  if (value === null || value === undefined) return found;
  for (
    let at = Object(value) as object | null;
    at && at !== Object.prototype;
    at = Object.getPrototypeOf(at) as object | null
  ) {
    for (const name of Object.getOwnPropertyNames(at)) {
      if (seen[name] || name === "constructor") continue;
      seen[name] = true;
      const it = Object.getOwnPropertyDescriptor(at, name);
      found[found.length] = [name, typeof it?.value === "function" ? "function" : "property"];
      if (found.length >= 5_000) return found;
    }
  }
  return found;
});
