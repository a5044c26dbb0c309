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

const WORD_BEFORE = /[\p{ID_Start}$_#][\p{ID_Continue}$]*$/u;

/** Turns the server's list, which is not filtered, into what fits the word before the cursor. */
export function toCompletion(
  items: LspCompletion[],
  source: string,
  offset: number,
  names: ReadonlyMap<string, { kind: string }>,
): Completions {
  const prefix = WORD_BEFORE.exec(source.slice(0, offset))?.[0] ?? "";
  const start = offset - prefix.length;
  const member = source[start - 1] === ".";
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
  const after = /^[\p{ID_Continue}$]*/u.exec(source.slice(offset))![0];
  return {
    items: sorted.map(({ name, type, signature }) => ({ name, type, signature })),
    start,
    end: offset + after.length,
  };
}

export function hoverMarkdown(hover: LspHover | null): string | undefined {
  const text = typeof hover?.contents === "string" ? hover.contents : hover?.contents.value;
  return text?.trim() ? text : undefined;
}
