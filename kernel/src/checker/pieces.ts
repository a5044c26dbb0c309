import type * as t from "@babel/types";
import {
  boundNames,
  type CellSyntax,
  CellSyntaxError,
  type Declaration,
  declare,
  parseCell,
  visit,
} from "../language/syntax.js";
import type { Piece } from "./chapters.js";
import { withoutExports } from "./workspace.js";

export function pieceOf(cell: CellSyntax): Piece {
  return { ...cell, text: withoutExports(cell), assigned: assignedIn(cell), augments: augmentsOf(cell) };
}

/** Whatever a cell changes for all modules: by an import for its effects, `declare global` or `declare module "x"`. */
function augmentsOf({ program }: CellSyntax): string[] {
  return program.body.flatMap((statement) => {
    if (statement.type === "ImportDeclaration" && statement.specifiers.length === 0)
      return [`import ${statement.source.value}`];
    if (statement.type !== "TSModuleDeclaration") return [];
    const { id, global, body } = statement;
    if (!global && id.type !== "StringLiteral") return [];
    const inside: Declaration[] = [];
    if (body.type === "TSModuleBlock") for (const one of body.body) declare(one, inside, "");
    return [`${global ? "global" : (id as t.StringLiteral).value} ${inside.map(({ name }) => name).sort()}`];
  });
}

function assignedIn({ program }: CellSyntax): Set<string> {
  const names = new Set<string>();
  visit(program, (node) => {
    const target =
      node.type === "AssignmentExpression"
        ? node.left
        : node.type === "UpdateExpression"
          ? node.argument
          : undefined;
    if (target) for (const name of boundNames(target)) names.add(name);
    return true;
  });
  return names;
}

/** Unfinished code as a piece: what it uses and declares is found from whatever words stand in it, for it need not parse. */
export function loosePiece(source: string, cursor: number): Piece {
  let piece: Piece = {
    text: source,
    identifiers: new Set(),
    declarations: [],
    isObject: false,
    dialect: /<\/|\/>/.test(source) ? "jsx" : undefined,
    pragma: "",
    augments: [],
    assigned: new Set(),
  };
  try {
    piece = { ...pieceOf(parseCell(source)), isObject: false };
  } catch (error) {
    if (!(error instanceof CellSyntaxError)) throw error;
    const declarations: Piece["declarations"][number][] = [];
    for (const [, name] of source.matchAll(DECLARED)) {
      const statement = { type: "EmptyStatement" } as const;
      declarations.push({ name: name!, kind: "constant", form: "constant", statement });
    }
    piece = { ...piece, declarations };
  }
  const identifiers = new Set<string>();
  for (const match of source.matchAll(/[\p{ID_Start}$_][\p{ID_Continue}$]*/gu))
    if (match.index + match[0].length !== cursor) identifiers.add(match[0]);
  return { ...piece, identifiers };
}

const DECLARED =
  /^(?:export\s+)?(?:const|let|var|function\*?|class|enum|interface|type|import)\s+([\p{ID_Start}$_][\p{ID_Continue}$]*)/gmu;

/** Names that a cell makes global: `globalThis.x = 1`, `Object.assign(globalThis, { x })`. */
export function globalsIn({ program, identifiers }: CellSyntax): Set<string> {
  const names = new Set<string>();
  if (!identifiers.has("globalThis") && !identifiers.has("global")) return names;
  const isGlobal = (node: t.Node) =>
    node.type === "Identifier" && (node.name === "globalThis" || node.name === "global");
  visit(program, (node) => {
    if (node.type === "AssignmentExpression" && node.left.type === "MemberExpression") {
      const { property } = node.left;
      const object = withoutTypes(node.left.object);
      if (isGlobal(object) && property.type === "Identifier" && !node.left.computed) names.add(property.name);
      if (isGlobal(object) && property.type === "StringLiteral") names.add(property.value);
    }
    if (node.type === "CallExpression" && node.arguments[0] && isGlobal(withoutTypes(node.arguments[0]))) {
      const named = node.arguments.flatMap((one) =>
        one.type === "StringLiteral" ? [one.value] : one.type === "ObjectExpression" ? keysOf(one) : [],
      );
      for (const name of named) names.add(name);
    }
    return true;
  });
  return names;
}

/** `(globalThis as any)` is `globalThis`. */
function withoutTypes(node: t.Node): t.Node {
  return /^TS(As|Satisfies|NonNull)Expression$|^TSTypeAssertion$/.test(node.type) && "expression" in node
    ? withoutTypes(node.expression as t.Node)
    : node;
}

function keysOf({ properties }: t.ObjectExpression): string[] {
  return properties.flatMap((one) =>
    "key" in one && one.key.type === "Identifier" && !one.computed ? [one.key.name] : [],
  );
}
