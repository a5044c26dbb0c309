import { readFileSync } from "node:fs";
import { createRequire, stripTypeScriptTypes } from "node:module";
import type * as t from "@babel/types";
import { emitOptions } from "../language/emit.js";
import {
  type CellSyntax,
  CellSyntaxError,
  isUnsupportedByStrip,
  parseCell,
  valueNames,
} from "../language/syntax.js";
import type { NotebookSettings } from "../notebook-settings.js";
import { isExportedType, isTypeIn } from "./type-exports.js";

/**
 * The JavaScript of a local TypeScript file: its types are removed in place where that is enough, and otherwise (enums,
 * decorators, parameter properties, ...) esbuild makes it, with a source map. Throws a `SyntaxError` that says where.
 */
export function toJavaScript(path: string, settings: NotebookSettings): { code: string; map?: string } {
  const syntax = parseFile(readFileSync(path, "utf8"), path);
  const source = withoutTypeNames(syntax, path);
  if (!syntax.needsEmit) {
    try {
      return { code: stripTypeScriptTypes(source) };
    } catch (error) {
      if (!isUnsupportedByStrip(error)) throw error;
    }
  }
  const { transformSync } = createRequire(import.meta.url)("esbuild") as typeof import("esbuild");
  const { code, map } = transformSync(source, {
    ...emitOptions(
      {
        dialect: syntax.dialect ?? (/x$/.test(path) ? "jsx" : undefined),
        pragma: settings.options.jsx ? "" : pragmaOf(syntax),
      },
      settings,
    ),
    format: "esm",
    target: "esnext",
    sourcefile: path,
    sourcemap: "external",
  });
  return { code, map };
}

/** A file that imports React by that name means the classic way, unless a setting or comment says otherwise. */
function pragmaOf(syntax: CellSyntax): string {
  return syntax.declarations.some(({ name }) => name === "React") ? "@jsxRuntime classic" : "";
}

function parseFile(source: string, path: string): CellSyntax {
  try {
    return parseCell(source);
  } catch (error) {
    if (!(error instanceof CellSyntaxError)) throw error;
    throw new SyntaxError(`${error.message} (${path}:${error.line}:${error.column + 1})`);
  }
}

/**
 * As the compiler does, leaves out the names of types where it imports and exports them as if they were values: modules have
 * values only. Lines stay.
 */
function withoutTypeNames(syntax: CellSyntax, path: string): string {
  const { source, program } = syntax;
  const values = valueNames(program);
  // Its JSX may be calls of a factory that no name in it shows.
  if (syntax.dialect === "jsx") for (const { name } of syntax.declarations) values.add(name);
  let text = source;
  // From the end, for an import is needed where a list behind it exports a value.
  for (const statement of program.body.toReversed()) {
    let specifiers: (ImportSpecifier | ExportSpecifier)[];
    let kept: (ImportSpecifier | ExportSpecifier)[];
    if (statement.type === "ImportDeclaration" && statement.importKind !== "type") {
      specifiers = statement.specifiers;
      kept = statement.specifiers.filter((one) => !isMarked(one) && values.has(one.local.name));
    } else if (statement.type === "ExportNamedDeclaration" && statement.exportKind !== "type") {
      const from = statement.source?.value;
      specifiers = statement.specifiers;
      kept = statement.specifiers.filter((one) => {
        if (one.type !== "ExportSpecifier") return true;
        const { name } = one.local;
        const isType = from === undefined ? isTypeIn(syntax, path, name) : isExportedType(path, from, name);
        return !isMarked(one) && !isType;
      });
      if (from === undefined) for (const one of kept) if ("local" in one) values.add(one.local.name);
    } else continue;
    if (kept.length === specifiers.length) continue;
    const start = statement.start!;
    const end = statement.end!;
    const lines = source.slice(start, end).replace(/[^\n]/g, "");
    text = text.slice(0, start) + clauseOf(statement, kept, source) + lines + text.slice(end);
  }
  return text;
}

type ImportSpecifier = t.ImportDeclaration["specifiers"][number];
type ExportSpecifier = t.ExportNamedDeclaration["specifiers"][number];

/** Whether it has a `type` of its own. */
function isMarked(specifier: ImportSpecifier | ExportSpecifier): boolean {
  return (
    ("importKind" in specifier && specifier.importKind === "type") ||
    ("exportKind" in specifier && specifier.exportKind === "type")
  );
}

/** The statement with these specifiers only. */
function clauseOf(
  statement: t.ImportDeclaration | t.ExportNamedDeclaration,
  specifiers: (ImportSpecifier | ExportSpecifier)[],
  source: string,
): string {
  const textOf = ({ start, end }: t.Node) => source.slice(start!, end!).replaceAll("\n", " ");
  const isNamed = ({ type }: t.Node) => type === "ImportSpecifier" || type === "ExportSpecifier";
  const named = specifiers.filter(isNamed).map(textOf);
  const others = specifiers.filter((specifier) => !isNamed(specifier)).map(textOf);
  const from = statement.source ? ` from ${textOf({ ...statement.source, end: statement.end! })}` : "";
  if (specifiers.length === 0) return ";";
  const list = [...others, ...(named.length > 0 ? [`{ ${named.join(", ")} }`] : [])].join(", ");
  return `${statement.type === "ImportDeclaration" ? "import" : "export"} ${list}${from};`;
}
