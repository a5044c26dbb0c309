import type { Tokenizer } from "../text/tokenizer.js";
import { type ChatRow, supervisedTokens } from "./types.js";

/** Tokens whose text is whole characters. */
interface Piece {
  readonly text: string;
  readonly ids: readonly number[];
  readonly isLearned: boolean;
  readonly isSpecial: boolean;
}

/** Rows as they are learned: in a cell with what is learned in colour, as text between ⟦ and ⟧. */
export class ChatPreview {
  constructor(
    readonly rows: readonly ChatRow[],
    private readonly tokenizer: Tokenizer,
  ) {}

  toString(): string {
    return this.rows
      .map((row) => {
        let text = "";
        let learning = false;
        for (const { text: piece, isLearned } of this.pieces(row)) {
          if (isLearned !== learning) text += isLearned ? "⟦" : "⟧";
          learning = isLearned;
          text += piece;
        }
        return `${this.heading(row)}\n${text}${learning ? "⟧" : ""}`;
      })
      .join("\n\n");
  }

  toHtml(): string {
    const rows = this.rows.map((row) => {
      const tokens = this.pieces(row).map(({ text, ids, isLearned, isSpecial }, i) => {
        const colour = isLearned
          ? `rgba(46, 160, 67, ${i % 2 === 0 ? 0.42 : 0.28})`
          : `rgba(128, 128, 128, ${i % 2 === 0 ? 0.16 : 0.06})`;
        const shown = escaped(text).replaceAll("\n", '<span style="opacity: 0.5">⏎</span>\n');
        const style = `background: ${colour};${isSpecial ? " font-weight: bold;" : ""}`;
        return `<span style="${style}" title="${ids.join(" ")}">${shown}</span>`;
      });
      return `<div style="margin-bottom: 0.8em"><small>${escaped(this.heading(row))}; what is learned is green</small><pre style="white-space: pre-wrap; margin: 0.2em 0 0">${tokens.join("")}</pre></div>`;
    });
    return rows.join("");
  }

  [Symbol.for("Jupyter.display")](): Record<string, string> {
    return { "text/html": this.toHtml(), "text/plain": this.toString() };
  }

  private heading(row: ChatRow): string {
    return `${row.where}: ${row.ids.length} tokens, ${supervisedTokens(row)} learned`;
  }

  private pieces({ ids, spans }: ChatRow): Piece[] {
    const learned = new Uint8Array(ids.length);
    for (const [start, end] of spans) learned.fill(1, start, end);
    const special = new Set(this.tokenizer.specialTokens.values());
    const stream = this.tokenizer.stream();
    const pieces: Piece[] = [];
    let pending: number[] = [];
    for (let i = 0; i < ids.length; i++) {
      const [id, isLearned] = [ids[i]!, learned[i] === 1];
      pending.push(id);
      const isLast = i + 1 === ids.length;
      let text = stream.push(id);
      if (isLast) text += stream.end();
      // A character may need several tokens; a border of what is learned is shown where it is all the same.
      if (text === "" && !isLast && (learned[i + 1] === 1) === isLearned) continue;
      pieces.push({ text, ids: pending, isLearned, isSpecial: special.has(id) });
      pending = [];
    }
    return pieces;
  }
}

function escaped(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
