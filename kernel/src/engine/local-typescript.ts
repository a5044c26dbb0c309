import { readFileSync } from "node:fs";
import { createRequire, stripTypeScriptTypes } from "node:module";
import type * as t from "@babel/types";
import {
  type CellSyntax,
  CellSyntaxError,
  isUnsupportedByStrip,
  parseCell,
  valueNames,
} from "../language/syntax.js";

/**
 * The JavaScript of a local TypeScript file: its types are removed in place where that is enough, and otherwise (enums,
 * decorators, parameter properties, ...) esbuild makes it, with a source map. Throws a `SyntaxError` that says where.
 */
export function toJavaScript(path: string): { code: string; map?: string } {
  const source = readFileSync(path, "utf8");
  const syntax = parseFile(source, path);
  if (!syntax.needsEmit) {
    try {
      return { code: stripTypeScriptTypes(withoutTypeImports(syntax)) };
    } catch (error) {
      if (!isUnsupportedByStrip(error)) throw error;
    }
  }
  const { transformSync } = createRequire(import.meta.url)("esbuild") as typeof import("esbuild");
  const { code, map } = transformSync(source, {
    loader: "ts",
    format: "esm",
    target: "esnext",
    supported: { decorators: false },
    sourcefile: path,
    sourcemap: "external",
  });
  return { code, map };
}

function parseFile(source: string, path: string): CellSyntax {
  try {
    return parseCell(source);
  } catch (error) {
    if (!(error instanceof CellSyntaxError)) throw error;
    throw new SyntaxError(`${error.message} (${path}:${error.line}:${error.column + 1})`);
  }
}

/** As the compiler does, leaves out imports of names that no value needs: they are types, and modules do not export those. */
function withoutTypeImports({ source, program }: CellSyntax): string {
  const values = valueNames(program);
  let text = source;
  for (const statement of program.body.toReversed()) {
    if (statement.type !== "ImportDeclaration" || statement.importKind === "type") continue;
    const kept = statement.specifiers.filter(
      (specifier) =>
        values.has(specifier.local.name) && !("importKind" in specifier && specifier.importKind === "type"),
    );
    if (kept.length === statement.specifiers.length) continue;
    const start = statement.start!;
    const end = statement.end!;
    const clause =
      kept.length === 0
        ? ""
        : `import ${clauseOf(kept, source)} from ${source.slice(statement.source.start!, end)}`;
    const lines = source.slice(start, statement.source.start!).replace(/[^\n]/g, "");
    text = text.slice(0, start) + lines + clause + text.slice(end);
  }
  return text;
}

function clauseOf(specifiers: t.ImportDeclaration["specifiers"], source: string): string {
  const textOf = ({ start, end }: t.Node) => source.slice(start!, end!);
  const named = specifiers.filter(({ type }) => type === "ImportSpecifier").map(textOf);
  const others = specifiers.filter(({ type }) => type !== "ImportSpecifier").map(textOf);
  return [...others, ...(named.length > 0 ? [`{ ${named.join(", ")} }`] : [])].join(", ");
}
