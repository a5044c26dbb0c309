import { SourceMap } from "node:module";
import { applyEdits } from "../language/compile.js";
import type { CompiledCell, Edit } from "../link.js";

export interface CellPosition {
  /** Counts from 1. */
  line: number;
  /** Counts from 1. */
  column: number;
}

/** The cells that ran, and the generated local modules, by the name of their script: finds the user's lines from V8's positions. */
export class CellSources {
  readonly #cells = new Map<string, { source: string; renamed: string; cell: CompiledCell }>();
  /** Of scripts whose code was generated, cells and local modules. */
  readonly #maps = new Map<string, SourceMap>();

  add(fileName: string, source: string, cell: CompiledCell): void {
    this.#cells.set(fileName, { source, renamed: applyEdits(source, cell.renames), cell });
    if (cell.generated) this.addMap(fileName, cell.generated.map);
  }

  /** Takes the source map (JSON) of a script. */
  addMap(fileName: string, map: string): void {
    this.#maps.set(fileName, new SourceMap(JSON.parse(map)));
  }

  lines(fileName: string): string[] | undefined {
    return this.#cells.get(fileName)?.source.split("\n");
  }

  /** From a position in the script that ran to the one in the cell or file. */
  original(fileName: string, line: number, column: number): CellPosition {
    const entry = this.#cells.get(fileName);
    let position = { line, column };
    if (entry) position = undo(entry.cell.generated?.source ?? entry.renamed, entry.cell.edits, position);
    const found = this.#maps.get(fileName)?.findEntry(position.line - 1, position.column - 1);
    if (found && "originalLine" in found)
      position = { line: found.originalLine + 1, column: found.originalColumn + 1 };
    return entry ? undo(entry.source, entry.cell.renames, position) : position;
  }

  /** The line of the script that ran which stands for a line of the cell, or for the next one that has code. */
  generatedLine(fileName: string, line: number): number {
    const map = this.#maps.get(fileName);
    const lines = this.#cells.get(fileName)?.cell.generated?.source.split("\n");
    if (!map || !lines) return line;
    let best = { generated: lines.length, original: Number.POSITIVE_INFINITY };
    for (const [index, text] of lines.entries()) {
      const found = map.findEntry(index, text.search(/\S|$/));
      if (!("originalLine" in found) || found.originalLine + 1 < line) continue;
      if (found.originalLine < best.original) best = { generated: index + 1, original: found.originalLine };
    }
    return best.generated;
  }
}

/** From a position behind edits, which keep the lines, to the one in the source before them. */
function undo(source: string, edits: Edit[], { line, column }: CellPosition): CellPosition {
  // Only those of the same line move the column.
  const lineStart = nthLineStart(source, line);
  let shift = 0;
  for (const edit of edits) {
    if (edit.start < lineStart) continue;
    const newText = edit.text.split("\n")[0]!;
    if (edit.start - lineStart + shift >= column - 1) break;
    const after = edit.start - lineStart + shift + newText.length;
    if (after >= column) return { line, column: edit.start - lineStart + 1 };
    shift += newText.length - (edit.end - edit.start);
  }
  return { line, column: Math.max(1, column - shift) };
}

function nthLineStart(source: string, line: number): number {
  let start = 0;
  for (let at = 1; at < line; at += 1) {
    const next = source.indexOf("\n", start);
    if (next < 0) return start;
    start = next + 1;
  }
  return start;
}
