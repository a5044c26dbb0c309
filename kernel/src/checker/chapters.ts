import type { CellSyntax, Declaration, DeclarationForm } from "../language/syntax.js";

/** Cells in one chapter at most, and their characters. */
const LENGTH = 60;
const SIZE = 30_000;

/** What a chapter, or a question, is made of: a cell, or unfinished code. */
export interface Piece {
  text: string;
  /** Names that it may use. */
  identifiers: ReadonlySet<string>;
  declarations: readonly Declaration[];
  /** Whether its text is an object literal, which a statement cannot begin with. */
  isObject: boolean;
  /** Whether it can only be read as JSX, or, having type assertions in angle brackets, never; and by which pragmas. */
  dialect: CellSyntax["dialect"];
  pragma: string;
  /** What it changes for all modules. */
  augments: readonly string[];
  /** Names that it assigns to. */
  assigned: ReadonlySet<string>;
}

/** An earlier part of a name that a later one merges with. */
export interface Carried {
  name: string;
  form: DeclarationForm;
  text: string;
}

/** Forms that may share a name, as TypeScript merges them: here in two cells. */
const MERGING: readonly (readonly [DeclarationForm, DeclarationForm])[] = [
  ...(["variable", "constant", "function", "namespace"] as const).flatMap(
    (value) =>
      [
        [value, "interface"],
        [value, "alias"],
      ] as const,
  ),
  ["class", "interface"],
  ["class", "namespace"],
  ["function", "namespace"],
  ["enum", "namespace"],
];

function merges(one: DeclarationForm, other: DeclarationForm): boolean {
  return MERGING.some(([a, b]) => (a === one && b === other) || (a === other && b === one));
}

/** Whether a part of a name stays when a later cell declares another. A namespace completes what stands before it. */
export function stays(earlier: DeclarationForm, later: DeclarationForm): boolean {
  const isBegunAnew = earlier === "namespace" && later !== "interface" && later !== "alias";
  return !isBegunAnew && merges(earlier, later);
}

/**
 * Cells that ran, joined into one module of the checker: a module for each would make the program larger with every
 * cell, and each question slower. A cell goes into the last chapter unless its names would mean something else there.
 */
export class Chapter {
  readonly declared = new Map<string, Set<DeclarationForm>>();
  /** The lines that bring in what it uses of earlier chapters, and what of theirs it completes. */
  readonly brought = new Map<string, string>();
  readonly carried: string[] = [];
  /** The chapters that those lines name. */
  readonly uses = new Set<Chapter>();
  /** Variables whose type at its end is of interest. */
  readonly flowing = new Set<string>();
  /** How many chapters follow from each other up to this one. */
  depth = 1;
  /** Whether it takes no more cells. */
  closed = false;
  readonly augments = new Set<string>();
  /** Whether its file is as it is. */
  written = false;
  readonly #mutable = new Set<string>();
  readonly #used = new Set<string>();
  readonly #cells: string[] = [];
  #size = 0;
  #dialect: Piece["dialect"];
  pragma = "";

  constructor(
    readonly id: number,
    private readonly prefix: string,
    private readonly flows: boolean,
  ) {}

  get name(): string {
    return `${this.prefix}${this.id}.ts${this.isJsx ? "x" : ""}`;
  }

  get isJsx(): boolean {
    return this.#dialect === "jsx";
  }

  /**
   * Whether a cell may join: it must not redeclare a name, nor give a new meaning to one that an earlier cell used; nor,
   * where assignments are not followed, use a variable of the chapter.
   */
  accepts(piece: Piece): boolean {
    if (this.closed || this.#cells.length >= LENGTH || this.#size >= SIZE) return false;
    if (this.#dialect && piece.dialect && this.#dialect !== piece.dialect) return false;
    if (piece.pragma && this.pragma && piece.pragma !== this.pragma) return false;
    for (const { name, form } of piece.declarations) {
      const forms = this.declared.get(name);
      if (forms ? ![...forms].every((one) => stays(one, form)) : this.#used.has(name)) return false;
    }
    if (!this.flows) for (const name of this.#mutable) if (piece.identifiers.has(name)) return false;
    return true;
  }

  carry({ name, form, text }: Carried): void {
    this.carried.push(text);
    this.declared.set(name, (this.declared.get(name) ?? new Set()).add(form));
  }

  add(piece: Piece): void {
    for (const name of piece.identifiers) this.#used.add(name);
    for (const { name, form, kind } of piece.declarations) {
      const forms = this.declared.get(name) ?? new Set();
      this.declared.set(name, forms.add(form));
      if (kind === "variable") this.#mutable.add(name);
    }
    this.#dialect ??= piece.dialect;
    this.pragma ||= piece.pragma;
    for (const one of piece.augments) this.augments.add(one);
    const text = piece.isObject ? `(${piece.text}\n)` : piece.text;
    // A third time in a row the same text teaches nothing.
    if (this.#cells.at(-1) !== text || this.#cells.at(-2) !== text) {
      this.#cells.push(text);
      this.#size += text.length;
    }
    this.written = false;
  }

  get body(): string {
    return this.#cells.map((cell) => `${cell}\n;\n`).join("");
  }

  text(): string {
    const names = [...this.declared.keys()];
    const now = [...this.flowing];
    const exported = [...names, ...now.map((name) => nowOf(name))];
    const ends = now.map((name) => `const ${nowOf(name)} = ${name};`).join(" ");
    return `${header(this.pragma, this.uses, [...this.carried, ...this.brought.values()], exported)}\n${this.body}${ends}\n`;
  }
}

/** The name by which a chapter exports a variable as it is at the end. */
export function nowOf(name: string): string {
  return `__now_${name}`;
}

/** What stands in front of a module, without the end of its last line. */
export function header(
  pragma: string,
  uses: Iterable<Chapter>,
  lines: readonly string[],
  exported: readonly string[] = [],
): string {
  const imports = [...uses]
    .sort((a, b) => a.id - b.id)
    .map((chapter) => `import * as __${chapter.id} from "./${chapter.name}";`);
  const exports = exported.length > 0 ? `export { ${exported.join(", ")} };` : "export {};";
  return [...(pragma ? [pragma] : []), ...imports, ...lines, exports].join("\n");
}
