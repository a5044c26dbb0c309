import type { CellSyntax, DeclarationKind } from "../language/syntax.js";

/** Cells in one chapter at most. */
const LENGTH = 200;

/**
 * Cells that ran, joined into one module of the checker: a module for each would make the program larger with every
 * cell, and each question slower. A cell goes into the last chapter unless its names would mean something else there.
 */
export class Chapter {
  readonly declared = new Set<string>();
  /** Names that the cells use and earlier chapters declare. */
  readonly wanted = new Set<string>();
  readonly #mutable = new Set<string>();
  readonly #used = new Set<string>();
  readonly #cells: string[] = [];

  constructor(readonly name: string) {}

  /**
   * Whether a cell may join: it must not redeclare a name, nor give a new meaning to one that an earlier cell used; nor
   * use a variable of the chapter, for whose type the compiler would then trust the assignment above it.
   */
  accepts(cell: CellSyntax): boolean {
    if (this.#cells.length >= LENGTH) return false;
    for (const { name } of cell.declarations)
      if (this.declared.has(name) || this.#used.has(name)) return false;
    for (const name of this.#mutable) if (cell.identifiers.has(name)) return false;
    return true;
  }

  add(cell: CellSyntax, text: string): void {
    for (const name of cell.identifiers) {
      this.#used.add(name);
      if (!this.declared.has(name)) this.wanted.add(name);
    }
    for (const { name, kind } of cell.declarations) {
      this.declared.add(name);
      this.wanted.delete(name);
      if (kind === "variable") this.#mutable.add(name);
    }
    this.#cells.push(text);
  }

  text(header: string): string {
    return header + this.#cells.map((cell) => `${cell}\n;\n`).join("");
  }
}

/** Where a name of the notebook was declared last. */
export interface Known {
  chapter: number;
  kind: DeclarationKind;
}

/**
 * The line in front of a module that brings earlier names into scope. It names every chapter, in order, so that the
 * program's structure, which is slow to change, stays the same from cell to cell.
 */
export function headerLine(
  chapters: readonly Chapter[],
  known: ReadonlyMap<string, Known>,
  wanted: Iterable<string>,
  declares: ReadonlySet<string>,
  exported: ReadonlySet<string>,
): string {
  const parts = chapters.map(({ name }, index) => `import * as __${index} from "./${name}.ts";`);
  for (const name of wanted) {
    const from = known.get(name);
    if (!from || from.chapter >= chapters.length || declares.has(name)) continue;
    // An alias cannot be assigned to; an ambient variable of the same type can. A constant stays an alias, for only so
    // does its literal type widen where it is copied into a variable.
    if (from.kind === "variable") parts.push(`declare let ${name}: typeof __${from.chapter}.${name};`);
    else parts.push(`import ${name} = __${from.chapter}.${name};`);
  }
  parts.push(exported.size > 0 ? `export { ${[...exported].join(", ")} };` : "export {};");
  return `${parts.join(" ")}\n`;
}
