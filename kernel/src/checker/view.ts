import { type Declaration, type DeclarationForm, type DeclarationKind, visit } from "../language/syntax.js";
import { type Carried, Chapter, header, nowOf, type Piece, stays } from "./chapters.js";

/** From this many chapters that follow from each other on, a name comes in with less than its full type. */
const DEPTH = 24;

/** Where a name of the notebook was declared last, and how: by one statement, or by several that merge. */
interface Known {
  chapter: Chapter;
  /** The chapter that used it last, at whose end it may have a narrower type. */
  now: Chapter | undefined;
  kind: DeclarationKind;
  parts: Map<DeclarationForm, Part>;
  evolves: Declaration["evolves"];
  fixed: boolean;
  /** The text of the cell. */
  source: string;
}

interface Part {
  text: string;
  parameters: Declaration["parameters"];
  statement: Declaration["statement"];
}

/** A module to ask the checker about. */
export interface Question {
  text: string;
  /** Lines in front of the piece. */
  before: number;
  isJsx: boolean;
  /** Chapters that it names, and those that they do. */
  needs: Set<Chapter>;
}

/**
 * The notebook as modules of the checker: cells that ran are its chapters, and a question about the next is one module
 * more. A header in front of each brings the names of earlier chapters into scope.
 *
 * There are two views. In one the notebook is a single program in the order in which its cells ran: types become narrower,
 * and evolve, from cell to cell. In the other a variable may have been assigned meanwhile by anyone, and has its declared type.
 */
export class NotebookView {
  readonly #known = new Map<string, Known>();
  #chapters: Chapter[] = [];
  #count = 0;

  /**
   * @param prefix - of the names of its modules.
   * @param flows - whether it is the first of the two.
   */
  constructor(
    readonly prefix: string,
    private readonly flows: boolean,
  ) {}

  /** Names declared by cells so far, newest declaration. */
  get names(): ReadonlyMap<string, { kind: DeclarationKind }> {
    return this.#known;
  }

  /** The module that asks about a piece; a statement behind it tells whether its end is reached. */
  question(piece: Piece): Question {
    const open = this.#chapters.at(-1);
    const joined = this.flows && open?.accepts(piece) ? open : undefined;
    const { brought, carried, uses } = this.#bring(piece, joined);
    for (const chapter of joined?.uses ?? []) uses.add(chapter);
    const lines = [
      ...(joined?.carried ?? []),
      ...carried.map(({ text }) => text),
      ...(joined?.brought.values() ?? []),
      ...brought.values(),
    ];
    const pragma = piece.pragma || joined?.pragma || "";
    const front = `${header(pragma, uses, lines)}\n${joined?.body ?? ""}${piece.isObject ? "(" : ""}\n`;
    const needs = new Set<Chapter>();
    for (const chapter of uses) reach(chapter, needs);
    return {
      text: `${front}${piece.text}${piece.isObject ? "\n)" : ""}\n;void 0;\n`,
      before: front.split("\n").length - 1,
      isJsx: piece.dialect === "jsx" || joined?.isJsx === true,
      needs,
    };
  }

  /**
   * Adds a cell that is about to run. Returns chapters that nothing needs any more.
   *
   * @param ends - whether the cell comes to its end; where it does not, what follows must not be seen as unreachable.
   */
  add(piece: Piece, ends: boolean): Chapter[] {
    if (this.#isKnown(piece) || this.#isSame(piece)) return [];
    let chapter = this.#chapters.at(-1);
    if (!chapter?.accepts(piece) || !ends) {
      chapter = new Chapter(this.#count, this.prefix, this.flows);
      this.#count += 1;
      this.#chapters.push(chapter);
    }
    const { brought, carried, uses } = this.#bring(piece, chapter);
    for (const [name, line] of brought) chapter.brought.set(name, line);
    for (const part of carried) chapter.carry(part);
    for (const used of uses) {
      chapter.uses.add(used);
      chapter.depth = Math.max(chapter.depth, used.depth + 1);
    }
    chapter.add(piece);
    if (!ends) chapter.closed = true;
    this.#learn(piece, chapter);
    if (this.flows) this.#follow(piece, chapter, ends);
    return this.#forget();
  }

  /** Whether it is the cell that declared all its names, run again, at the end of a long chain of such. */
  #isKnown({ text, declarations }: Piece): boolean {
    if (declarations.length === 0) return false;
    return declarations.every(({ name }) => {
      const known = this.#known.get(name);
      return known?.source === text && known.chapter.depth > DEPTH / 3;
    });
  }

  /** Whether it is a cell of the last chapter, run again, that can only declare once more what it declared there. */
  #isSame({ text, declarations, identifiers }: Piece): boolean {
    const open = this.#chapters.at(-1);
    if (declarations.length === 0) return false;
    const own = new Set(declarations.map(({ name }) => name));
    for (const name of own) {
      const known = this.#known.get(name);
      if (known?.source !== text || known.chapter !== open || known.kind === "variable") return false;
    }
    // What may have another type by now may give it to what is declared.
    for (const name of identifiers) {
      const known = own.has(name) ? undefined : this.#known.get(name);
      if (known?.kind === "variable" || (known?.kind === "constant" && !known.fixed)) return false;
    }
    return true;
  }

  #learn(piece: Piece, chapter: Chapter): void {
    const seen = new Set<string>();
    for (const declaration of piece.declarations) {
      const { name, kind, form, statement, parameters, evolves, fixed } = declaration;
      const before = this.#known.get(name);
      const parts = new Map(before?.parts);
      if (!seen.has(name)) for (const one of parts.keys()) if (!stays(one, form)) parts.delete(one);
      // A function may have several signatures.
      const above = seen.has(`${name} ${form}`) ? `${parts.get(form)?.text}\n` : "";
      seen.add(name).add(`${name} ${form}`);
      parts.set(form, { text: above + textOf(piece, declaration), parameters, statement });
      const isValue = kind !== "type" || !before || parts.size === 1;
      this.#known.set(name, {
        chapter,
        now: undefined,
        kind: isValue ? kind : before.kind,
        parts,
        evolves: isValue ? evolves : before.evolves,
        fixed: isValue ? fixed === true : before.fixed,
        source: piece.text,
      });
    }
  }

  /** Notes where the types of variables that it uses can be had from. */
  #follow({ identifiers, assigned }: Piece, chapter: Chapter, ends: boolean): void {
    for (const name of identifiers) {
      const known = this.#known.get(name);
      if (!known || known.fixed || (known.kind !== "variable" && known.kind !== "constant")) continue;
      if (ends) {
        known.now = chapter;
        chapter.flowing.add(name);
      } else if (assigned.has(name)) known.now = undefined;
    }
  }

  /** Lets go of chapters whose names were all declared again, so that no cell is the slower for what ran before. */
  #forget(): Chapter[] {
    const live = new Set<Chapter>();
    for (const { chapter, now } of this.#known.values()) {
      reach(chapter, live);
      if (now) reach(now, live);
    }
    const augmented = new Set<string>();
    for (const [index, chapter] of [...this.#chapters.entries()].reverse()) {
      const isOpen = index === this.#chapters.length - 1;
      const isNew = [...chapter.augments].some((one) => !augmented.has(one));
      if (isOpen || isNew) reach(chapter, live);
      for (const one of chapter.augments) augmented.add(one);
    }
    const gone = this.#chapters.filter((chapter) => !live.has(chapter));
    this.#chapters = this.#chapters.filter((chapter) => live.has(chapter));
    return gone;
  }

  /** The lines that give a piece what it uses of earlier chapters; of `joined` it has everything by standing in it. */
  #bring(piece: Piece, joined: Chapter | undefined) {
    const brought = new Map<string, string>();
    const carried: Carried[] = [];
    const uses = new Set<Chapter>();
    for (const chapter of this.#chapters)
      if (chapter.augments.size > 0 && chapter !== joined) uses.add(chapter);
    const forms = new Map<string, DeclarationForm[]>();
    for (const { name, form } of piece.declarations) forms.set(name, [...(forms.get(name) ?? []), form]);
    const wanted = new Set(piece.identifiers);
    for (const [name, own] of forms) {
      const known = this.#known.get(name);
      if (!known || known.chapter === joined) continue;
      for (const [form, part] of known.parts) {
        if (!own.every((one) => stays(form, one))) continue;
        const line = this.#carry(name, known, form, part, own);
        carried.push({ name, form, text: line.text });
        if (line.isCopy) for (const used of namesIn(part.statement)) wanted.add(used);
        else uses.add(known.chapter);
      }
    }
    for (const name of wanted) {
      if (forms.has(name) || joined?.declared.has(name) || joined?.brought.has(name)) continue;
      const known = this.#known.get(name);
      if (!known || known.chapter === joined) continue;
      const now = this.flows && known.now && known.now.depth <= DEPTH ? known.now : undefined;
      if (known.chapter.depth > 2 * DEPTH && known.kind !== "type") {
        brought.set(name, `declare let ${name}: any;`);
        continue;
      }
      brought.set(name, lineFor(name, known, now));
      uses.add(known.chapter);
      if (now) uses.add(now);
    }
    return { brought, carried, uses };
  }

  /** What keeps an earlier part of a name beside the one that a piece declares. */
  #carry(name: string, { chapter }: Known, form: DeclarationForm, part: Part, own: DeclarationForm[]) {
    const from = `__${chapter.id}.${name}`;
    const copy = { text: part.text, isCopy: true };
    switch (form) {
      case "variable":
        return { text: `declare let ${name}: typeof ${from};`, isCopy: false };
      case "function":
        if (own.includes("namespace")) return copy;
        return { text: `declare const ${name}: typeof ${from};`, isCopy: false };
      case "constant":
        return { text: `declare const ${name}: typeof ${from};`, isCopy: false };
      case "interface":
      case "alias":
        if (own.includes("class")) return copy;
        return { text: aliasOf(name, from, part), isCopy: false };
      default:
        return copy;
    }
  }
}

function lineFor(
  name: string,
  { chapter, kind, parts, evolves, fixed }: Known,
  now: Chapter | undefined,
): string {
  const from = `__${chapter.id}.${name}`;
  const last = now && `__${now.id}.${nowOf(name)}`;
  const type = parts.get("interface") ?? parts.get("alias");
  const more = type ? ` ${aliasOf(name, from, type)}` : "";
  const seed = last && `${name}.push(null! as (typeof ${last})[number]);`;
  // An alias cannot be assigned to; a variable of the same type can. A constant stays an alias where it can, for only so
  // does its literal type widen where it is copied into a variable.
  if (kind === "variable") {
    if (!last) return `declare let ${name}: typeof ${from};${more}`;
    if (evolves === "variable") return `let ${name}; ${name} = ${last};${more}`;
    if (evolves === "array") return `let ${name} = []; ${seed}${more}`;
    return `let ${name}: typeof ${from} = ${last};${more}`;
  }
  if (kind === "constant" && last && !fixed && !type)
    return evolves === "array" ? `const ${name} = []; ${seed}` : `const ${name}: typeof ${from} = ${last};`;
  return `import ${name} = ${from};`;
}

function aliasOf(name: string, from: string, { parameters }: Part): string {
  if (!parameters) return `type ${name} = ${from};`;
  return `type ${name}${parameters.text} = ${from}<${parameters.names.join(", ")}>;`;
}

function reach(chapter: Chapter, into: Set<Chapter>): void {
  if (into.has(chapter)) return;
  into.add(chapter);
  for (const used of chapter.uses) reach(used, into);
}

function textOf({ text }: Piece, { statement }: Declaration): string {
  return text.slice(statement.start!, statement.end!);
}

function namesIn(statement: Declaration["statement"]): Set<string> {
  const names = new Set<string>();
  visit(statement, (node) => {
    if (node.type === "Identifier") names.add(node.name);
    return true;
  });
  return names;
}
