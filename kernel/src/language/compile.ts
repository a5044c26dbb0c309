import { stripTypeScriptTypes } from "node:module";
import type * as t from "@babel/types";
import type { CompiledCell, Edit } from "../link.js";
import { asLoop, CapturedNames, loopText } from "./loops.js";
import { Shadowing } from "./shadowing.js";
import {
  boundNames,
  type CellSyntax,
  endsInValue,
  hoistedVariables,
  isStatement,
  isUnsupportedByStrip,
  parseCell,
  valueNames,
  visit,
} from "./syntax.js";

/** Names of the helpers that the engine puts onto `globalThis`. */
export const IMPORT_HELPER = "__aronnax_import__";
export const META_HELPER = "__aronnax_meta__";
export const USING_HELPER = "__aronnax_using__";

/**
 * V8 lets a REPL script redeclare a name only in the way it was declared first: `let` as `let`, `var` and `function`
 * as `var`. The table remembers the way of each name, and later declarations follow it. A constant becomes a `let` too:
 * that nobody assigns to it is the checker's business.
 */
export class NameTable {
  readonly #ways = new Map<string, "let" | "var">();
  readonly captured = new CapturedNames();
  readonly shadowing = new Shadowing();

  /** Whether a name is known to be lexical by now. */
  isLexical(name: string): boolean {
    return this.#ways.get(name) === "let";
  }

  way(name: string, first: "let" | "var"): "let" | "var" {
    const known = this.#ways.get(name);
    if (known) return known;
    this.#ways.set(name, first);
    return first;
  }
}

/**
 * Turns a parsed cell into a script for V8's REPL mode. Lines stay; columns move only where `edits` say.
 *
 * @param fastLoops - whether loops may become functions, which a debugger would show.
 */
export async function compileCell(
  cell: CellSyntax,
  names: NameTable,
  fileName: string,
  fastLoops: boolean,
): Promise<CompiledCell> {
  const renames = names.shadowing.rename(cell);
  const syntax = renames.length > 0 ? parseCell(applyEdits(cell.source, renames)) : cell;
  return { renames, ...(await compileRenamed(syntax, names, fileName, fastLoops)) };
}

type Compiled = Omit<CompiledCell, "renames">;

async function compileRenamed(
  syntax: CellSyntax,
  names: NameTable,
  fileName: string,
  fastLoops: boolean,
): Promise<Compiled> {
  const showsResult = endsInValue(syntax.program);
  names.captured.add(syntax);
  if (syntax.needsEmit) return emitCell(syntax, names, fileName, showsResult, fastLoops);
  const { edits, loops } = editsOf(syntax, names, false, fastLoops);
  const edited = applyEdits(syntax.source, edits);
  try {
    const code = syntax.hasTypes ? stripTypeScriptTypes(edited) : edited;
    return { code, edits, loops, showsResult };
  } catch (error) {
    if (!isUnsupportedByStrip(error)) throw error;
    return emitCell(syntax, names, fileName, showsResult, fastLoops);
  }
}

/** Cells that need more than erasure go through esbuild, then through the same edits. */
async function emitCell(
  syntax: CellSyntax,
  names: NameTable,
  fileName: string,
  showsResult: boolean,
  fastLoops: boolean,
): Promise<Compiled> {
  const { transform } = await import("esbuild");
  const result = await transform(syntax.source, {
    loader: "ts",
    target: "esnext",
    supported: { decorators: false },
    sourcemap: "external",
    sourcefile: fileName,
    charset: "utf8",
    tsconfigRaw: { compilerOptions: { verbatimModuleSyntax: true, useDefineForClassFields: true } },
  });
  const emitted = parseCell(result.code);
  const { edits, loops } = editsOf(emitted, names, true, fastLoops);
  const generated = { source: result.code, map: result.map };
  return { code: applyEdits(result.code, edits), edits, loops, generated, showsResult };
}

export function applyEdits(source: string, edits: Edit[]): string {
  let at = 0;
  let out = "";
  for (const edit of edits) {
    out += source.slice(at, edit.start) + edit.text;
    at = edit.end;
  }
  return out + source.slice(at);
}

interface EditTarget {
  source: string;
  names: NameTable;
  edits: Edit[];
  /** Declarations to put in front of the script. */
  prologue: Set<string>;
  /** Names that `var` declares more than once. */
  repeated: ReadonlySet<string>;
  /** Names that are used as values. */
  values: ReadonlySet<string>;
  /** Whether the source is JavaScript that esbuild made of the cell. */
  emitted: boolean;
}

function editsOf(
  syntax: CellSyntax,
  names: NameTable,
  emitted: boolean,
  fastLoops: boolean,
): Pick<CompiledCell, "edits" | "loops"> {
  const edits: Edit[] = [];
  const prologue = new Set<string>();
  const loops: string[][] = [];
  const { source, program } = syntax;
  const repeated = repeatedVariables(program);
  const values = syntax.specifiers.length > 0 ? valueNames(program) : new Set<string>();
  const target: EditTarget = { source, names, edits, prologue, repeated, values, emitted };
  for (const statement of syntax.program.body) {
    const loop = fastLoops && asLoop(statement, names.captured, (name) => names.isLexical(name));
    if (loop) {
      const { before, after } = loopText(loop, loops.length);
      edits.push({ start: statement.start!, end: statement.start!, text: before });
      edits.push({ start: statement.end!, end: statement.end!, text: after });
      loops.push(loop.variables);
    } else editStatement(statement, target);
  }
  for (const node of syntax.dynamicImports) edits.push(replace(node, IMPORT_HELPER));
  for (const node of syntax.importMetas) edits.push(replace(node, META_HELPER));
  edits.unshift({ start: 0, end: 0, text: ['"use strict";', ...prologue].join(" ") });
  edits.sort((a, b) => a.start - b.start || a.end - b.end);
  return { edits, loops };
}

function replace(node: t.Node, text: string): Edit {
  return { start: node.start!, end: node.end!, text };
}

function editStatement(statement: t.Statement, target: EditTarget): void {
  const { source, names, edits, prologue } = target;
  const lines = (node: t.Node) => source.slice(node.start!, node.end!).replace(/[^\n]/g, "");
  switch (statement.type) {
    case "ImportDeclaration":
      if (statement.importKind !== "type")
        edits.push(replace(statement, importText(statement, target) + lines(statement)));
      return;
    case "TSImportEqualsDeclaration":
      if (statement.importKind !== "type" && statement.moduleReference.type === "TSExternalModuleReference") {
        const { name } = statement.id;
        const from = JSON.stringify(statement.moduleReference.expression.value);
        edits.push(replace(statement, `${names.way(name, "let")} ${name} = require(${from});`));
      }
      return;
    case "ExportAllDeclaration":
      if (statement.exportKind !== "type") {
        edits.push(replace(statement, `await ${IMPORT_HELPER}(${JSON.stringify(statement.source.value)});`));
      }
      return;
    case "ExportNamedDeclaration":
    case "ExportDefaultDeclaration": {
      const { declaration } = statement;
      if (!declaration) {
        edits.push(replace(statement, lines(statement)));
        return;
      }
      const head = source.slice(statement.start!, declaration.start!).replace(/[^\n]/g, " ");
      if (isStatement(declaration) && "id" in declaration && !declaration.id) {
        // `export default function () {}`: without a name it can only be an expression.
        edits.push({ start: statement.start!, end: declaration.start!, text: `${head.slice(5)}void(` });
        edits.push({ start: declaration.end!, end: declaration.end!, text: ");" });
        return;
      }
      edits.push({ start: statement.start!, end: declaration.start!, text: head });
      if (isStatement(declaration)) editStatement(declaration, target);
      return;
    }
    case "VariableDeclaration":
      if (!statement.declare) editVariables(statement, target);
      return;
    case "FunctionDeclaration":
      if (statement.id && !statement.declare && names.way(statement.id.name, "var") === "let") {
        // The name is lexical since an earlier cell: keep the hoisting, under another name, and give it its name back.
        const { name } = statement.id;
        const hidden = `${name}__hoisted`;
        edits.push(replace(statement.id, hidden));
        prologue.add(
          `let ${name} = Object.defineProperty(${hidden}, "name", { value: ${JSON.stringify(name)} });`,
        );
      }
      return;
    case "ClassDeclaration":
      if (statement.id && !statement.declare && names.way(statement.id.name, "let") === "var") {
        edits.push({
          start: statement.start!,
          end: statement.start!,
          text: `var ${statement.id.name} = `,
        });
        edits.push({ start: statement.end!, end: statement.end!, text: ";" });
      }
      return;
    default:
      editHoisted(statement, target);
  }
}

/** A `var` in a loop or block belongs to the top level; where its name is a `let` there, it becomes an assignment. */
function editHoisted(statement: t.Statement, target: EditTarget): void {
  const { names, prologue } = target;
  for (const node of hoistedVariables(statement)) {
    const bound = node.declarations.flatMap(({ id }) => boundNames(id as t.Node));
    if (!bound.some((name) => names.way(name, "var") === "let")) continue;
    for (const name of bound) if (!names.isLexical(name)) prologue.add(`var ${name};`);
    assignInstead(node, target, isHead(statement, node));
  }
}

/** Whether a declaration is the left side of a `for ... of` or `for ... in`. */
function isHead(statement: t.Statement, declaration: t.VariableDeclaration): boolean {
  let found = false;
  visit(statement, (node) => {
    if ((node.type === "ForOfStatement" || node.type === "ForInStatement") && node.left === declaration)
      found = true;
    return !found;
  });
  return found;
}

/** Leaves the assignments of a declaration whose names are declared elsewhere. */
function assignInstead(node: t.VariableDeclaration, { edits }: EditTarget, isHead: boolean): void {
  const start = node.start!;
  // `void` and not a parenthesis, which would make a call of the line before.
  edits.push({ start, end: start + node.kind.length, text: isHead ? "" : "void" });
  for (const { id, init, start, end } of node.declarations) {
    const { typeAnnotation } = id as t.Identifier;
    const nameEnd = id.type === "Identifier" ? id.start! + id.name.length : typeAnnotation?.start;
    if (typeAnnotation) edits.push({ start: nameEnd!, end: typeAnnotation.end!, text: "" });
    if (isHead) continue;
    edits.push({ start: start!, end: start!, text: init ? "(" : "(0," });
    edits.push({ start: end!, end: end!, text: ")" });
  }
}

function repeatedVariables(program: t.Program): Set<string> {
  const seen = new Set<string>();
  const repeated = new Set<string>();
  for (const statement of program.body) {
    for (const { declarations } of hoistedVariables(statement)) {
      for (const name of declarations.flatMap(({ id }) => boundNames(id as t.Node))) {
        if (seen.has(name)) repeated.add(name);
        seen.add(name);
      }
    }
  }
  return repeated;
}

function editVariables(statement: t.VariableDeclaration, target: EditTarget): void {
  const { names, edits, prologue, repeated, emitted } = target;
  if (statement.kind === "using" || statement.kind === "await using") {
    editUsing(statement, target);
    return;
  }
  const start = statement.start!;
  const bound = statement.declarations.flatMap((declarator) => boundNames(declarator.id as t.Node));
  const isVar = statement.kind === "var";
  const ways = new Map(
    bound.map((name) => [name, names.way(name, isVar && repeated.has(name) ? "var" : "let")]),
  );
  const kinds = new Set(ways.values());
  // An emitted enum reads its own name, `var E = (...)(E || {})`: the name must be there, and empty, before.
  const readsItself = emitted && isVar;
  const isTwice = isVar && bound.some((name) => repeated.has(name) && ways.get(name) === "let");
  if (kinds.size <= 1 && !readsItself && !isTwice) {
    const way = [...kinds][0] ?? "let";
    edits.push({
      start,
      end: start + statement.kind.length,
      text: way.padEnd(statement.kind.length),
    });
    return;
  }
  // Otherwise, and for names of both ways in one declaration: declare them in front, and assign here.
  for (const [name, way] of ways) prologue.add(`${way} ${name} = undefined;`);
  assignInstead(statement, target, false);
}

/** V8's REPL mode never disposes of what a script declares with `using`: the engine does. */
function editUsing(statement: t.VariableDeclaration, { names, edits, prologue }: EditTarget): void {
  const isAsync = statement.kind === "await using";
  const bound = statement.declarations.map(({ id }) => (id as t.Identifier).name);
  const isLexical = bound.map((name) => names.way(name, "let")).every((way) => way === "let");
  const [first] = statement.declarations;
  if (!isLexical) for (const name of bound) prologue.add(`${names.way(name, "let")} ${name} = undefined;`);
  edits.push({ start: statement.start!, end: first!.start!, text: isLexical ? "let " : "" });
  for (const { init } of statement.declarations) {
    edits.push({ start: init!.start!, end: init!.start!, text: `${USING_HELPER}(` });
    edits.push({ start: init!.end!, end: init!.end!, text: `, ${isAsync})` });
  }
}

function importText(statement: t.ImportDeclaration, { names, values }: EditTarget): string {
  const attributes = statement.attributes?.map((a) => `${attributeKey(a)}: ${JSON.stringify(a.value.value)}`);
  const options = attributes?.length ? `{ with: { ${attributes.join(", ")} } }` : "undefined";
  // Those that no value needs may be types, which are not there when the cell runs.
  const needed = statement.specifiers.filter(({ local }) => values.has(local.name)).flatMap(importedName);
  const load = `await ${IMPORT_HELPER}(${JSON.stringify(statement.source.value)}, ${options}, ${JSON.stringify(needed)})`;
  const parts: string[] = [];
  const fields = { let: [] as string[], var: [] as string[] };
  for (const specifier of statement.specifiers) {
    const local = specifier.local.name;
    if (specifier.type === "ImportNamespaceSpecifier") {
      parts.push(`${names.way(local, "let")} ${local} = ${load};`);
    } else if (specifier.type === "ImportDefaultSpecifier") {
      fields[names.way(local, "let")].push(`default: ${local}`);
    } else if (specifier.importKind !== "type") {
      const { imported } = specifier;
      const key = imported.type === "Identifier" ? imported.name : JSON.stringify(imported.value);
      fields[names.way(local, "let")].push(`${key}: ${local}`);
    }
  }
  for (const way of ["let", "var"] as const) {
    if (fields[way].length > 0) parts.push(`${way} { ${fields[way].join(", ")} } = ${load};`);
  }
  return parts.length > 0 ? parts.join(" ") : `${load};`;
}

function importedName(specifier: t.ImportDeclaration["specifiers"][number]): string[] {
  if (specifier.type === "ImportNamespaceSpecifier") return [];
  if (specifier.type === "ImportDefaultSpecifier") return ["default"];
  const { imported, importKind } = specifier;
  if (importKind === "type") return [];
  return [imported.type === "Identifier" ? imported.name : imported.value];
}

function attributeKey(attribute: t.ImportAttribute): string {
  return attribute.key.type === "Identifier" ? attribute.key.name : JSON.stringify(attribute.key.value);
}
