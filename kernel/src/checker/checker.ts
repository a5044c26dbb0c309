import type { CellSyntax } from "../language/syntax.js";

/** One finding of the checker. Lines count from 0, characters are UTF-16 units, both within the cell. */
export interface Diagnostic {
  code: number;
  message: string;
  line: number;
  character: number;
  endLine: number;
  endCharacter: number;
}

export interface Completion {
  name: string;
  /** Jupyter's experimental type names: function, instance, class, module, keyword, property, ... */
  type: string;
  signature: string;
}

export interface Completions {
  items: Completion[];
  /** UTF-16 offsets of the text that an item replaces. */
  start: number;
  end: number;
}

/**
 * What the kernel asks of a type checker. It sees a notebook as a row of cells: `check` looks at a new one in the
 * light of those that were `declare`d before. Offsets are UTF-16 units.
 */
export interface Checker {
  /** The errors of a cell; an empty list lets it run. */
  check(cell: CellSyntax): Promise<Diagnostic[]>;
  /** Makes the declarations of a cell known to those that follow. */
  declare(cell: CellSyntax): void;
  complete(source: string, offset: number): Promise<Completions>;
  /** Markdown with signature and documentation, or undefined where nothing is known. */
  inspect(source: string, offset: number): Promise<string | undefined>;
  close(): void;
}
