import type * as t from "@babel/types";
import type { Edit } from "../link.js";
import { type CellSyntax, visitValues } from "./syntax.js";

/** Names that all code of the process, the kernel's and that of packages too, takes for what Node made them. */
const GLOBALS = new Set([
  ...Object.getOwnPropertyNames(globalThis),
  // By these packages tell where they run: after `const window = 512` they would believe to be in a browser.
  ...["window", "document", "self", "location", "importScripts", "WorkerGlobalScope", "Deno", "Bun"],
  ...["module", "exports", "require", "define", "__dirname", "__filename"],
  // The compiler brings these in where a cell has JSX.
  ...["jsx", "jsxs", "jsxDEV", "Fragment", "createElement"],
]);

/** A joiner of no width: it may stand in an identifier, and messages that name one look as they should. */
const MARK = "\u200d";

/**
 * A top-level name of a REPL script is in scope in every script and module of the process: after `const performance = 5` the
 * kernel, the framework and packages would find a number in the place of Node's. Cells that declare the name of a global, and
 * those that use it afterwards, get another name for it.
 */
export class Shadowing {
  readonly #names = new Set<string>();

  /** The name that a name of the notebook has at run time. */
  nameOf(name: string): string {
    return this.#names.has(name) ? name + MARK : name;
  }

  /** Takes in what a cell declares, and returns the edits that give it the other names. */
  rename({ declarations, identifiers, program }: CellSyntax): Edit[] {
    for (const { name, kind } of declarations)
      if (kind !== "type" && GLOBALS.has(name)) this.#names.add(name);
    const edits: Edit[] = [];
    if (![...this.#names].some((name) => identifiers.has(name))) return edits;
    const mark = ({ start, name }: t.Identifier | t.JSXIdentifier, between = "") => {
      const end = start! + name.length;
      if (this.#names.has(name)) edits.push({ start: end, end, text: `${between && between + name}${MARK}` });
    };
    const enter = (node: t.Node): boolean => {
      if (node.type === "ExportSpecifier") return false;
      if (node.type === "ImportDeclaration") {
        for (const specifier of node.specifiers) {
          const isShort = "imported" in specifier && specifier.imported.start === specifier.local.start;
          mark(specifier.local, isShort ? " as " : "");
        }
        return false;
      }
      if (node.type === "ObjectProperty" && node.shorthand) {
        const value = node.value.type === "AssignmentPattern" ? node.value.left : node.value;
        mark(value as t.Identifier, ": ");
        if (node.value.type === "AssignmentPattern") visitValues(node.value.right, enter);
        return false;
      }
      // An element of a lower-case name is one of the page, and attributes are properties.
      if (node.type === "JSXAttribute") {
        if (node.value) visitValues(node.value, enter);
        return false;
      }
      if (node.type === "Identifier" || (node.type === "JSXIdentifier" && /^[^a-z]/.test(node.name)))
        mark(node);
      return true;
    };
    visitValues(program, enter);
    return edits.sort((a, b) => a.start - b.start);
  }
}
