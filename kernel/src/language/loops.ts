import type * as t from "@babel/types";
import { LOOP_SETTER } from "../link.js";
import { boundNames, type CellSyntax, isFunctionLike, visit } from "./syntax.js";

/**
 * V8 keeps what a REPL script declares at the top level in slots of its script context, and a loop that assigns to such a
 * name reads and writes memory in every turn: about half the speed of the same loop in a function. Where no other code can
 * tell the difference, a loop of a cell runs as a function whose parameters stand for those names:
 *
 *     (function __aronnax_loop_0__(set, total) { try { LOOP } finally { set(total); } })((v) => { total = v; }, total);
 *
 * No other code can tell where no function of the notebook names them, for then nobody but the loop reads or writes them
 * until it ends. An interrupt, which runs no `finally`, calls `set` in the stopped function first (LoopRescue).
 */
export interface Loop {
  statement: t.Statement;
  /** Top-level names that it assigns to. */
  variables: string[];
}

/** The names that functions of the notebook mention: those may be read or written while a loop runs. */
export class CapturedNames {
  readonly #names = new Set<string>();
  /** Code that is not in cells may see everything: it is made from text, or comes from the notebook's folder. */
  #unknown = false;

  /** Takes in a cell before it is compiled. */
  add({ program, identifiers, specifiers }: CellSyntax): void {
    if (identifiers.has("eval") || identifiers.has("Function") || identifiers.has("require"))
      this.#unknown = true;
    if (specifiers.some((name) => /^(\.|\/|file:)|^(node:)?(vm|inspector|repl)\b/.test(name)))
      this.#unknown = true;
    visit(program, (node) => {
      if (!isFunctionLike(node)) return true;
      visit(node, (inner) => {
        if (inner.type === "Identifier") this.#names.add(inner.name);
        return true;
      });
      return false;
    });
  }

  has(name: string): boolean {
    return this.#unknown || this.#names.has(name);
  }
}

/**
 * A top-level statement as a loop that may run as a function, or undefined.
 *
 * @param isVariable - whether a name is a top-level `let` by now.
 */
export function asLoop(
  statement: t.Statement,
  captured: CapturedNames,
  isVariable: (name: string) => boolean,
): Loop | undefined {
  const inner = statement.type === "LabeledStatement" ? statement.body : statement;
  if (!/^(For|While|DoWhile|ForIn|ForOf)Statement$/.test(inner.type)) return undefined;
  const assigned = new Set<string>();
  const own = new Set<string>();
  let fits = true;
  const assign = (target: t.Node) => {
    // Of an assignment through type syntax, `(x as T) = y`, the target would have to be found first.
    if (target.type.startsWith("TS")) fits = false;
    for (const name of boundNames(target)) assigned.add(name);
  };
  visit(statement, (node) => {
    if (isFunctionLike(node) || KEPT_OUT.has(node.type)) fits = false;
    if (node.type === "Identifier" && node.name === "arguments") fits = false;
    switch (node.type) {
      case "VariableDeclaration":
        if (node.kind !== "let" && node.kind !== "const") fits = false;
        for (const { id } of node.declarations) for (const name of boundNames(id as t.Node)) own.add(name);
        break;
      case "CatchClause":
        if (node.param) for (const name of boundNames(node.param)) own.add(name);
        break;
      case "AssignmentExpression":
        assign(node.left);
        break;
      case "UpdateExpression":
        assign(node.argument);
        break;
      case "ForOfStatement":
      case "ForInStatement":
        if (node.type === "ForOfStatement" && node.await) fits = false;
        if (node.left.type !== "VariableDeclaration") assign(node.left);
        break;
    }
    return fits;
  });
  if (!fits) return undefined;
  // A name that the loop also declares stays as it is wherever it stands: that is slower, and never wrong.
  const variables = [...assigned].filter((name) => !own.has(name) && isVariable(name) && !captured.has(name));
  return variables.length > 0 ? { statement, variables } : undefined;
}

/** What means something else inside a function, or must stay visible to a debugger. */
const KEPT_OUT = new Set([
  "AwaitExpression",
  "YieldExpression",
  "ThisExpression",
  "MetaProperty",
  "Import",
  "DebuggerStatement",
  "TSEnumDeclaration",
]);

/** The text before and after a loop that makes it a function. */
export function loopText({ variables }: Loop, index: number): { before: string; after: string } {
  const list = variables.join(", ");
  const values = variables.map((_, at) => `__aronnax_${at}__`);
  const assignments = variables.map((name, at) => `${name} = ${values[at]};`).join(" ");
  return {
    before: `;(function __aronnax_loop_${index}__(${LOOP_SETTER}, ${list}) { try { `,
    after: ` } finally { ${LOOP_SETTER}(${list}); } })((${values.join(", ")}) => { ${assignments} }, ${list});`,
  };
}
