import { stripTypeScriptTypes } from "node:module";
import type * as t from "@babel/types";
import type { CompiledCell, Edit } from "../link.js";
import { DEFAULTS, type NotebookSettings } from "../notebook-settings.js";
import { emitOptions } from "./emit.js";
import { asLoop, CapturedNames, loopText } from "./loops.js";
import { Shadowing } from "./shadowing.js";
import {
  boundNames,
  type CellSyntax,
  type Declaration,
  declare,
  endsInValue,
  hoistedVariables,
  isStatement,
  isUnsupportedByStrip,
  parseCell,
  valueNames,
  visit,
  visitValues,
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
  /** Names whose value is an enum, a class or a function, which a namespace of another cell may complete. */
  readonly completed = new Set<string>();

  constructor(readonly settings: NotebookSettings = DEFAULTS) {}

  /** Takes in what a cell has declared. */
  learn(declarations: readonly Declaration[]): void {
    for (const { name, kind, form } of declarations) {
      if (form === "class" || form === "enum" || form === "function") this.completed.add(name);
      else if (kind !== "type" && form !== "namespace") this.completed.delete(name);
    }
  }

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
  const renames = [...inParentheses(cell), ...names.shadowing.rename(cell)].sort((a, b) => a.start - b.start);
  const renamed = renames.length > 0 ? parseCell(applyEdits(cell.source, renames)) : cell;
  const syntax = { ...renamed, pragma: cell.pragma };
  const compiled = await compileRenamed(syntax, names, fileName, fastLoops);
  names.learn(syntax.declarations);
  return { renames, ...compiled };
}

/** An object literal as a statement. */
function inParentheses({ isObject, program }: CellSyntax): Edit[] {
  const [statement] = program.body;
  if (!isObject || !statement) return [];
  const { start, end } = statement as { start: number; end: number };
  return [
    { start, end: start, text: "(" },
    { start: end, end, text: ")" },
  ];
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
  const { edits, loops } = editsOf(syntax, names, undefined, fastLoops);
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
    ...emitOptions(syntax, names.settings),
    target: "esnext",
    sourcemap: "external",
    sourcefile: fileName,
    charset: "utf8",
  });
  const emitted = parseCell(result.code);
  const { edits, loops } = editsOf(emitted, names, syntax.program, fastLoops);
  const generated = { source: result.code, map: result.map };
  return { code: applyEdits(result.code, edits), edits, loops, generated, showsResult };
}

/**
 * The functions of the automatic JSX runtime get names that no cell has: they are the compiler's, not the notebook's. What
 * the notebook itself calls `jsx` and such has another name at run time (language/shadowing.ts).
 */
function ownJsxNames(emitted: t.Program, written: t.Program): Map<string, string> {
  const sources = (program: t.Program) =>
    program.body.filter((one): one is t.ImportDeclaration => one.type === "ImportDeclaration");
  const before = new Set(sources(written).map(({ source }) => source.value));
  const added = sources(emitted).filter(({ source }) => !before.has(source.value));
  return new Map(
    added.flatMap(({ source, specifiers }) =>
      specifiers.map(({ local }) => [
        local.name,
        `__aronnax_${source.value.replace(/\W/g, "_")}_${local.name}__`,
      ]),
    ),
  );
}

/** Namespaces that a cell declares, and nothing else of their names. */
function namespacesOf(program: t.Program): Set<string> {
  const names = new Map<string, boolean>();
  const declared: Declaration[] = [];
  for (const statement of program.body) declare(statement, declared, "");
  for (const { name, form, kind } of declared)
    if (kind !== "type") names.set(name, form === "namespace" && names.get(name) !== false);
  return new Set([...names].filter(([, isOnly]) => isOnly).map(([name]) => name));
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
  /** Namespaces that complete what an earlier cell declared, and are not to begin empty. */
  completing: ReadonlySet<string>;
  /** Names that imports get in place of their own. */
  renamed: ReadonlyMap<string, string>;
}

/** @param written - what the user wrote, where the source was generated of it. */
function editsOf(
  syntax: CellSyntax,
  names: NameTable,
  written: t.Program | undefined,
  fastLoops: boolean,
): Pick<CompiledCell, "edits" | "loops"> {
  const edits: Edit[] = [];
  const prologue = new Set<string>();
  const loops: string[][] = [];
  const { source, program } = syntax;
  const repeated = repeatedVariables(program);
  const values = syntax.specifiers.length > 0 ? valueNames(program) : new Set<string>();
  const completing = new Set(
    [...namespacesOf(written ?? program)].filter((name) => names.completed.has(name)),
  );
  const renamed = written ? ownJsxNames(program, written) : new Map<string, string>();
  const emitted = written !== undefined;
  const target: EditTarget = {
    source,
    names,
    edits,
    prologue,
    repeated,
    values,
    emitted,
    completing,
    renamed,
  };
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
  edits.push(...renamesIn(program, renamed), ...namesOfPlace(syntax));
  edits.unshift({ start: 0, end: 0, text: ['"use strict";', ...prologue].join(" ") });
  edits.sort((a, b) => a.start - b.start || a.end - b.end);
  return { edits, loops };
}

function renamesIn(program: t.Program, renamed: ReadonlyMap<string, string>): Edit[] {
  const edits: Edit[] = [];
  if (renamed.size === 0) return edits;
  visitValues(program, (node) => {
    if (node.type === "Identifier" && renamed.has(node.name))
      edits.push(replace(node, renamed.get(node.name)!));
    return node.type !== "ImportDeclaration";
  });
  return edits;
}

/** `__dirname` and `__filename` mean the notebook's folder; for all other code of the process there are none, as in modules. */
function namesOfPlace({ program, identifiers }: CellSyntax): Edit[] {
  const edits: Edit[] = [];
  if (!identifiers.has("__dirname") && !identifiers.has("__filename")) return edits;
  const bound = new Set<string>();
  visit(program, (node) => {
    if (node.type === "VariableDeclarator") for (const name of boundNames(node.id as t.Node)) bound.add(name);
    if ("params" in node && Array.isArray(node.params))
      for (const one of node.params) for (const name of boundNames(one as t.Node)) bound.add(name);
    return true;
  });
  const enter = (node: t.Node): boolean => {
    if (node.type === "ObjectProperty" && node.shorthand && node.value.type === "Identifier") {
      const { name, end } = node.value as { name: string; end: number };
      if (/^__(dir|file)name$/.test(name) && !bound.has(name))
        edits.push({ start: end, end, text: `: ${META_HELPER}.${name.slice(2)}` });
      return false;
    }
    if (node.type === "Identifier" && /^__(dir|file)name$/.test(node.name) && !bound.has(node.name))
      edits.push(replace(node, `${META_HELPER}.${node.name.slice(2)}`));
    return true;
  };
  visitValues(program, enter);
  return edits;
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
  const { names, edits, prologue, repeated, emitted, completing } = target;
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
  for (const [name, way] of ways) if (!completing.has(name)) prologue.add(`${way} ${name} = undefined;`);
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

function importText(statement: t.ImportDeclaration, { names, values, renamed }: EditTarget): string {
  const attributes = statement.attributes?.map((a) => `${attributeKey(a)}: ${JSON.stringify(a.value.value)}`);
  const options = attributes?.length ? `{ with: { ${attributes.join(", ")} } }` : "undefined";
  // Those that no value needs may be types, which are not there when the cell runs.
  const needed = statement.specifiers.filter(({ local }) => values.has(local.name)).flatMap(importedName);
  const load = `await ${IMPORT_HELPER}(${JSON.stringify(statement.source.value)}, ${options}, ${JSON.stringify(needed)})`;
  const parts: string[] = [];
  const fields = { let: [] as string[], var: [] as string[] };
  for (const specifier of statement.specifiers) {
    const local = renamed.get(specifier.local.name) ?? specifier.local.name;
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
