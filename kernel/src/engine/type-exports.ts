import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type * as t from "@babel/types";
import { type CellSyntax, parseCell } from "../language/syntax.js";
import { findLocalFile, isRelative } from "../local-files.js";

/** Whether a name of a local TypeScript file is that of a type, there or where it is imported from, and of no value. */
export function isTypeIn(
  { declarations, program }: CellSyntax,
  path: string,
  name: string,
  seen = new Set<string>(),
): boolean {
  const kinds = declarations.filter((declaration) => declaration.name === name).map(({ kind }) => kind);
  if (kinds.length === 0) return false;
  if (kinds.every((kind) => kind === "type")) return true;
  if (kinds.some((kind) => kind !== "type" && kind !== "import")) return false;
  for (const statement of program.body) {
    if (statement.type !== "ImportDeclaration") continue;
    const specifier = statement.specifiers.find(({ local }) => local.name === name);
    if (specifier?.type !== "ImportSpecifier") continue;
    if (statement.importKind === "type" || specifier.importKind === "type") return true;
    return isExportedType(path, statement.source.value, nameOf(specifier.imported), seen);
  }
  return false;
}

/** Whether a module, as a file at `path` names it, is a local TypeScript file that exports `name` as a type. */
export function isExportedType(
  path: string,
  specifier: string,
  name: string,
  seen = new Set<string>(),
): boolean {
  const file = isRelative(specifier) ? findLocalFile(resolve(dirname(path), specifier)) : undefined;
  if (!file || !/\.m?tsx?$/.test(file) || seen.has(`${file} ${name}`)) return false;
  seen.add(`${file} ${name}`);
  let syntax: CellSyntax;
  try {
    syntax = parseCell(readFileSync(file, "utf8"));
  } catch {
    // Its own import will tell what is wrong with it.
    return false;
  }
  for (const statement of syntax.program.body) {
    if (statement.type !== "ExportNamedDeclaration") continue;
    for (const specifier of statement.specifiers) {
      if (specifier.type !== "ExportSpecifier" || nameOf(specifier.exported) !== name) continue;
      if (statement.exportKind === "type" || specifier.exportKind === "type") return true;
      const { source } = statement;
      return source
        ? isExportedType(file, source.value, nameOf(specifier.local), seen)
        : isTypeIn(syntax, file, nameOf(specifier.local), seen);
    }
  }
  if (syntax.declarations.some((declaration) => declaration.name === name))
    return isTypeIn(syntax, file, name, seen);
  return syntax.program.body.some(
    (statement) =>
      statement.type === "ExportAllDeclaration" && isExportedType(file, statement.source.value, name, seen),
  );
}

function nameOf(name: t.Identifier | t.StringLiteral): string {
  return name.type === "Identifier" ? name.name : name.value;
}
