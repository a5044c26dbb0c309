import { contextAt } from "../language/text-context.js";
import type { Completion, Completions } from "./checker.js";

export interface LspCompletion {
  label: string;
  kind?: number;
  sortText?: string;
  filterText?: string;
  insertText?: string;
  detail?: string;
  labelDetails?: { detail?: string; description?: string };
}

export interface LspHover {
  contents: { kind: string; value: string } | string;
}

/** CompletionItemKind of the Language Server Protocol, in the words that JupyterLab shows. */
const KINDS: Record<number, string> = {
  2: "method",
  3: "function",
  4: "class",
  5: "property",
  6: "instance",
  7: "class",
  8: "interface",
  9: "module",
  10: "property",
  13: "enum",
  14: "keyword",
  17: "path",
  19: "path",
  20: "enum member",
  21: "constant",
  22: "class",
  25: "type",
};

/** The checker's own files, which stand where the notebook's do for it. */
const OWN_FILE = /^((flow|declared)(-\d+)?|prelude\.d)(\.tsx?)?$/;

const WORD_BEFORE = /[\p{ID_Start}$_#][\p{ID_Continue}$]*$/u;

/** Turns the server's list, which is not filtered, into what fits the word before the cursor. */
export function toCompletion(
  items: LspCompletion[],
  source: string,
  offset: number,
  names: ReadonlyMap<string, { kind: string }>,
): Completions {
  const context = contextAt(source, offset);
  const before = source.slice(0, offset);
  // In a string the names of properties and of modules are completed, these by their part behind the last slash.
  const inString = context.kind === "string";
  const start = inString
    ? Math.max(context.start, before.lastIndexOf("/") + 1)
    : offset - (WORD_BEFORE.exec(before)?.[0].length ?? 0);
  const prefix = source.slice(start, offset);
  const member = inString || context.kind === "comment" || source[start - 1] === ".";
  const found = new Map<string, Completion & { rank: string }>();
  if (!member) {
    const declared: Record<string, string> = {
      variable: "instance",
      constant: "instance",
      type: "interface",
    };
    for (const [name, { kind }] of names) {
      if (name.startsWith(prefix))
        found.set(name, { name, type: declared[kind] ?? kind, signature: "", rank: "0" });
    }
  }
  const lower = prefix.toLowerCase();
  for (const item of items) {
    const name = item.insertText?.startsWith(item.label) ? item.insertText : item.label.replace(/\?$/, "");
    if (!name.toLowerCase().startsWith(lower) || found.has(name)) continue;
    if (inString && OWN_FILE.test(name)) continue;
    found.set(name, {
      name,
      type: KINDS[item.kind ?? 0] ?? "",
      signature: item.detail ?? item.labelDetails?.detail ?? "",
      rank: (name.startsWith(prefix) ? "1" : "2") + (item.sortText ?? ""),
    });
  }
  const sorted = [...found.values()].sort(
    (a, b) => a.rank.localeCompare(b.rank) || a.name.localeCompare(b.name, "en"),
  );
  const word = inString
    ? new RegExp(`^[^${context.quote}/\\n]*(?=[${context.quote}/])`)
    : /^[\p{ID_Continue}$]*/u;
  const after = word.exec(source.slice(offset))?.[0] ?? "";
  return {
    items: sorted.map(({ name, type, signature }) => ({ name, type, signature })),
    start,
    end: offset + after.length,
  };
}

export function hoverMarkdown(hover: LspHover | null): string | undefined {
  const text = typeof hover?.contents === "string" ? hover.contents : hover?.contents.value;
  // Of a name that is not there it says `any`.
  return text?.trim() && !/^```\w*\s*any\s*```\s*$/.test(text) ? text : undefined;
}
