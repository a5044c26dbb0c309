import { CellSyntaxError, parseCell } from "./syntax.js";

/** Answers an is_complete_request. */
export function isComplete(source: string): {
  status: "complete" | "incomplete" | "invalid";
  indent?: string;
} {
  try {
    parseCell(source);
    return { status: "complete" };
  } catch (error) {
    if (!(error instanceof CellSyntaxError)) throw error;
    if (!error.incomplete) return { status: "invalid" };
    return { status: "incomplete", indent: nextIndent(source) };
  }
}

/** The indentation of the last line, one step deeper after an opening bracket. */
function nextIndent(source: string): string {
  const last = source.trimEnd().split("\n").at(-1) ?? "";
  const indent = /^\s*/.exec(last)![0];
  return /[{([]$/.test(last.trimEnd()) || /=>$/.test(last.trimEnd()) ? `${indent}  ` : indent;
}
