import { type ParserOptions, parse, parseExpression } from "@babel/parser";
import type * as t from "@babel/types";

/** How the checker carries a top-level name from one cell to the next. */
export type DeclarationKind = "variable" | "constant" | "function" | "class" | "import" | "type";

/** What stands in the source, where that is finer. */
export type DeclarationForm = Exclude<DeclarationKind, "type"> | "enum" | "namespace" | "interface" | "alias";

export interface Declaration {
  name: string;
  kind: DeclarationKind;
  form: DeclarationForm;
  statement: t.Statement;
  /** Of a generic type, its parameters as they stand in the source, and their names. */
  parameters?: { text: string; names: string[] };
  /** Whether the compiler follows its type from one assignment or `push` to the next: `let x`, `let x = null`, `const x = []`. */
  evolves?: "variable" | "array";
  /** Whether its type cannot become narrower later: a constant that is a literal, a function, an object, ... */
  fixed?: boolean;
}

/** What the kernel needs to know of a cell, found in one parse. */
export interface CellSyntax {
  source: string;
  program: t.Program;
  declarations: Declaration[];
  /** Every identifier in the cell, wherever it stands: those of earlier cells among them are brought into scope. */
  identifiers: Set<string>;
  /** Module specifiers of static imports and of `import()` with a literal. */
  specifiers: string[];
  dynamicImports: t.Node[];
  importMetas: t.Node[];
  /** Whether there is any type syntax to remove. */
  hasTypes: boolean;
  /** Whether removing types is not enough: enums, namespaces, decorators, parameter properties, JSX. */
  needsEmit: boolean;
  /** Whether it can only be read with JSX, or only without: type assertions in angle brackets look like elements. */
  dialect: "jsx" | "angle" | undefined;
  /** Whether it is an object literal, `{ a: 1 }`, which as a statement would be a block with a label. */
  isObject: boolean;
  /** Comments that say what its JSX becomes, also those of earlier cells (language/jsx.ts). */
  pragma: string;
}

/** A cell that is not TypeScript. `line` counts from 1, `column` from 0, in UTF-16 units. */
export class CellSyntaxError extends Error {
  override name = "SyntaxError";
  constructor(
    message: string,
    readonly line: number,
    readonly column: number,
    /** Whether more input could complete the cell. */
    readonly incomplete: boolean,
  ) {
    super(message);
  }
}

const OPTIONS: ParserOptions = {
  sourceType: "module",
  allowAwaitOutsideFunction: true,
  allowUndeclaredExports: true,
  plugins: [
    "typescript",
    ["decorators", { allowCallParenthesized: true }],
    "decoratorAutoAccessors",
    "explicitResourceManagement",
  ],
};

const JSX_OPTIONS: ParserOptions = { ...OPTIONS, plugins: [...OPTIONS.plugins!, "jsx"] };

/** Parses one cell, or a file. Throws a `CellSyntaxError`. */
export function parseCell(source: string): CellSyntax {
  const object = asObject(source);
  let program: t.Program;
  let isJsx = false;
  try {
    program = object ?? (parse(source, OPTIONS) as t.File).program;
  } catch (error) {
    // Only what looks like an element or a fragment is worth a second look.
    if (!/<([\p{ID_Start}$_>])/u.test(source)) throw asCellError(error, source);
    try {
      program = (parse(source, JSX_OPTIONS) as t.File).program;
      isJsx = true;
    } catch (second) {
      throw asCellError(/<\/|\/>/.test(source) ? second : error, source);
    }
  }
  const syntax: CellSyntax = {
    source,
    program,
    declarations: [],
    identifiers: new Set(),
    specifiers: [],
    dynamicImports: [],
    importMetas: [],
    hasTypes: false,
    needsEmit: isJsx,
    dialect: isJsx ? "jsx" : undefined,
    isObject: object !== undefined,
    pragma: "",
  };
  for (const statement of program.body) declare(statement, syntax.declarations, source);
  visit(program, (node) => examine(node, syntax));
  return syntax;
}

/** Reads code that begins with a brace as an object literal where it is one, as consoles do. */
function asObject(source: string): t.Program | undefined {
  if (!/^\s*\{/.test(source) || !/\}\s*$/.test(source)) return undefined;
  try {
    const expression = parseExpression(source, OPTIONS) as t.Expression;
    if (expression.type !== "ObjectExpression") return undefined;
    const { start, end } = expression;
    const statement = { type: "ExpressionStatement", expression, start, end };
    return {
      type: "Program",
      body: [statement],
      directives: [],
      start: 0,
      end: source.length,
    } as unknown as t.Program;
  } catch {
    return undefined;
  }
}

function asCellError(error: unknown, source: string): CellSyntaxError {
  const { message, loc, pos } = error as {
    message: string;
    loc?: { line: number; column: number };
    pos?: number;
  };
  const end = source.trimEnd().length;
  const text = String(message).replace(/\s*\(\d+:\d+\)$/, "");
  const incomplete =
    (pos !== undefined && pos >= end) || /^Unterminated (template|comment|regular)/.test(text);
  return new CellSyntaxError(text, loc?.line ?? 1, loc?.column ?? 0, incomplete);
}

/** Adds the names that a top-level statement declares. */
export function declare(statement: t.Statement, into: Declaration[], source: string): void {
  const add = (name: string, kind: DeclarationKind, more: Partial<Declaration> = {}) =>
    into.push({ name, kind, form: kind as DeclarationForm, statement, ...more });
  switch (statement.type) {
    case "ImportDeclaration":
      for (const specifier of statement.specifiers) add(specifier.local.name, "import");
      return;
    case "TSImportEqualsDeclaration":
      add(statement.id.name, "import");
      return;
    case "ExportNamedDeclaration":
    case "ExportDefaultDeclaration":
      if (statement.declaration && isStatement(statement.declaration))
        declare(statement.declaration, into, source);
      return;
    case "VariableDeclaration": {
      const kind = statement.kind === "let" || statement.kind === "var" ? "variable" : "constant";
      for (const declarator of statement.declarations) {
        const how = waysOf(declarator, kind);
        for (const name of boundNames(declarator.id as t.Node)) add(name, kind, how);
      }
      return;
    }
    case "FunctionDeclaration":
    case "TSDeclareFunction":
      if (statement.id) add(statement.id.name, "function");
      return;
    case "ClassDeclaration":
      if (statement.id) add(statement.id.name, "class");
      return;
    case "TSEnumDeclaration":
      add(statement.id.name, "class", { form: "enum" });
      return;
    case "TSModuleDeclaration":
      if (statement.id.type === "Identifier" && !statement.global)
        add(statement.id.name, "class", { form: "namespace" });
      return;
    case "TSInterfaceDeclaration":
    case "TSTypeAliasDeclaration": {
      const form = statement.type === "TSInterfaceDeclaration" ? "interface" : "alias";
      const { typeParameters: list } = statement;
      const parameters = list && {
        text: source.slice(list.start!, list.end!).replaceAll("\n", " "),
        names: list.params.map(({ name }) => (typeof name === "string" ? name : (name as t.Identifier).name)),
      };
      add(statement.id.name, "type", { form, ...(parameters ? { parameters } : {}) });
      return;
    }
    default:
      for (const { declarations } of hoistedVariables(statement)) {
        for (const { id } of declarations) for (const name of boundNames(id as t.Node)) add(name, "variable");
      }
  }
}

function waysOf({ id, init }: t.VariableDeclarator, kind: DeclarationKind): Partial<Declaration> {
  if (id.type !== "Identifier" || id.typeAnnotation) return {};
  if (kind === "variable") {
    const isNothing =
      !init || init.type === "NullLiteral" || (init.type === "Identifier" && init.name === "undefined");
    if (isNothing) return { evolves: "variable" };
  }
  if (init?.type === "ArrayExpression" && init.elements.length === 0) return { evolves: "array" };
  return init && FIXED.test(init.type) ? { fixed: true } : {};
}

const FIXED = /Literal$|^(Object|Array|ArrowFunction|Function|Class|New|Template|Binary|Update)Expression$/;

export function isStatement(node: t.Node): node is t.Statement {
  return node.type.endsWith("Declaration") || node.type === "TSDeclareFunction";
}

/** `var` declarations that a nested statement (a loop, a block) lifts to the top level. */
export function hoistedVariables(statement: t.Node): t.VariableDeclaration[] {
  const found: t.VariableDeclaration[] = [];
  visit(statement, (node) => {
    if (node.type === "VariableDeclaration" && node.kind === "var") found.push(node);
    return !isFunctionLike(node);
  });
  return found;
}

export function isFunctionLike(node: t.Node): boolean {
  return /Function|Method|^Class|^TSModule/.test(node.type);
}

export function boundNames(pattern: t.Node): string[] {
  switch (pattern.type) {
    case "Identifier":
      return [pattern.name];
    case "ObjectPattern":
      return pattern.properties.flatMap((property) =>
        boundNames(property.type === "RestElement" ? property.argument : property.value),
      );
    case "ArrayPattern":
      return pattern.elements.flatMap((element) => (element ? boundNames(element) : []));
    case "AssignmentPattern":
      return boundNames(pattern.left);
    case "RestElement":
      return boundNames(pattern.argument);
    default:
      return [];
  }
}

function examine(node: t.Node, syntax: CellSyntax): boolean {
  if (node.type.startsWith("TS")) syntax.hasTypes = true;
  switch (node.type) {
    case "JSXIdentifier":
      syntax.identifiers.add(node.name);
      break;
    case "ArrowFunctionExpression":
      if (node.typeParameters) syntax.dialect ??= "angle";
      break;
    case "TSTypeAssertion":
      syntax.dialect = "angle";
      break;
    case "Identifier":
      syntax.identifiers.add(node.name);
      if (node.optional) syntax.hasTypes = true;
      break;
    case "ImportDeclaration":
      if (node.importKind === "type") syntax.hasTypes = true;
      syntax.specifiers.push(node.source.value);
      break;
    case "ExportAllDeclaration":
    case "ExportNamedDeclaration":
      if (node.exportKind === "type") syntax.hasTypes = true;
      if (node.source) syntax.specifiers.push(node.source.value);
      break;
    case "CallExpression":
      if (node.callee.type === "Import") {
        syntax.dynamicImports.push(node.callee);
        const [argument] = node.arguments;
        if (argument?.type === "StringLiteral") syntax.specifiers.push(argument.value);
      }
      break;
    case "MetaProperty":
      if (node.meta.name === "import") syntax.importMetas.push(node);
      break;
    case "ClassDeclaration":
    case "ClassExpression":
      if (
        node.implements?.length ||
        ("abstract" in node && node.abstract) ||
        ("declare" in node && node.declare)
      )
        syntax.hasTypes = true;
      break;
    case "ClassProperty":
    case "ClassMethod":
    case "ClassPrivateProperty":
    case "ClassAccessorProperty": {
      const member = node as { accessibility?: unknown; readonly?: unknown; override?: unknown };
      const optional = node as {
        optional?: unknown;
        definite?: unknown;
        declare?: unknown;
        abstract?: unknown;
      };
      if (member.accessibility || member.readonly || member.override) syntax.hasTypes = true;
      if (optional.optional || optional.definite || optional.declare || optional.abstract)
        syntax.hasTypes = true;
      if (node.type === "ClassAccessorProperty") syntax.needsEmit = true;
      break;
    }
    case "VariableDeclarator":
      if (node.definite) syntax.hasTypes = true;
      break;
    case "VariableDeclaration":
      if (node.declare) syntax.hasTypes = true;
      break;
    case "TSEnumDeclaration":
      if (!node.declare) syntax.needsEmit = true;
      break;
    case "TSModuleDeclaration":
      if (!node.declare) syntax.needsEmit = true;
      break;
    case "Decorator":
    case "TSParameterProperty":
    case "TSExportAssignment":
      syntax.needsEmit = true;
      break;
  }
  return true;
}

/** Walks the tree in source order; `enter` returning false skips the children. */
export function visit(node: t.Node, enter: (node: t.Node) => boolean): void {
  if (enter(node)) for (const child of childrenOf(node)) visit(child, enter);
}

function childrenOf(node: t.Node): t.Node[] {
  const children: t.Node[] = [];
  for (const [key, value] of Object.entries(node)) {
    if (key === "loc" || key === "extra" || key.endsWith("Comments")) continue;
    if (Array.isArray(value)) children.push(...value.filter(isNode));
    else if (isNode(value)) children.push(value);
  }
  return children;
}

function isNode(value: unknown): value is t.Node {
  return typeof value === "object" && value !== null && typeof (value as t.Node).type === "string";
}

/** What wraps an expression in type syntax. */
const TYPED = /^TS(As|Satisfies|NonNull|Instantiation)Expression$|^TSTypeAssertion$|^TSParameterProperty$/;
/** Declarations in type syntax that hold values. */
const VALUED = /^TS(Enum|Module|Export|ImportEquals|External|QualifiedName)/;

/** Names that the program uses as values, beside those that it exports by a list; what else it imports is types only. */
export function valueNames(program: t.Node): Set<string> {
  const names = new Set<string>();
  visitValues(program, (node) => {
    if (node.type === "Identifier" || node.type === "JSXIdentifier") names.add(node.name);
    return node.type !== "ImportDeclaration" && node.type !== "ExportSpecifier";
  });
  return names;
}

/** Walks through what is left without types, and without the names of members and properties; `enter` as in `visit`. */
export function visitValues(node: t.Node, enter: (node: t.Node) => boolean): void {
  if (node.type.startsWith("TS") && !TYPED.test(node.type) && !VALUED.test(node.type)) return;
  if (!enter(node)) return;
  let name: unknown;
  if ("computed" in node && node.computed === false)
    name = "property" in node ? node.property : "key" in node ? node.key : undefined;
  else if (node.type === "TSEnumMember") name = node.id;
  for (const child of childrenOf(node)) if (child !== name) visitValues(child, enter);
}

/** Whether Node's removal of types refused syntax that is more than types. */
export function isUnsupportedByStrip(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX";
}

/** Whether the cell ends in an expression whose value is worth showing (an assignment is not). */
export function endsInValue(program: t.Program): boolean {
  // A cell that is nothing but a string is a directive to the parser.
  if (program.body.length === 0) return program.directives.some(({ value }) => value.value !== "use strict");
  const last = program.body.at(-1);
  return last?.type === "ExpressionStatement" && last.expression.type !== "AssignmentExpression";
}
