import type { Diagnostic } from "../checker/checker.js";
import type { CellSyntaxError } from "../language/syntax.js";
import type { FormattedError } from "../link.js";
import { excerpt, paint } from "../paint.js";

const SHOWN = 10;

/** Type errors of a cell as one Jupyter error: for each the line, a caret under it, and the message. */
export function formatDiagnostics(diagnostics: Diagnostic[], source: string, count: number): FormattedError {
  const lines = source.split("\n");
  const traceback = diagnostics.slice(0, SHOWN).map((diagnostic) => {
    const { line, character, message, code } = diagnostic;
    const end =
      diagnostic.endLine === line ? diagnostic.endCharacter : (lines[line]?.length ?? character + 1);
    const place = paint.dim(`cell ${count}, line ${line + 1}, column ${character + 1}`);
    const fix = fixFor(message);
    return [
      `${paint.error("Type error")} ${paint.dim(`TS${code}`)}: ${message}`,
      ...(fix ? [paint.fix(`Fix: ${fix}`)] : []),
      place,
      excerpt(lines, line, character, end),
    ].join("\n");
  });
  if (diagnostics.length > SHOWN) traceback.push(`... and ${diagnostics.length - SHOWN} more type errors`);
  traceback.push(
    paint.dim("The cell did not run. Put // @ts-nocheck on its first line to run it unchecked."),
  );
  const [first] = diagnostics;
  return {
    ename: "TypeCheckError",
    evalue: `line ${first!.line + 1}: ${first!.message}`,
    traceback,
  };
}

/** The command that installs a missing package. */
function fixFor(message: string): string | undefined {
  const name = /^Cannot find module '((?:@[\w.-]+\/)?[\w-][\w.-]*)/.exec(message)?.[1];
  return name && `npm install ${name}   (in ${process.cwd()})`;
}

export function formatSyntaxError(error: CellSyntaxError, source: string, count: number): FormattedError {
  const lines = source.split("\n");
  const line = error.line - 1;
  return {
    ename: "SyntaxError",
    evalue: `${error.message} (line ${error.line}, column ${error.column + 1})`,
    traceback: [
      `${paint.error("SyntaxError")}: ${error.message}\n${paint.dim(`cell ${count}, line ${error.line}, column ${error.column + 1}`)}\n${excerpt(lines, line, error.column, error.column + 1)}`,
    ],
  };
}
