import type { SequenceSize } from "./layout.js";

/** A record that was left out or cut, and why. */
export interface LeftOut {
  readonly where: string;
  readonly reason: string;
}

interface Counts {
  /** Conversations that are trained on. */
  readonly conversations: number;
  /** Conversations that are held out. */
  readonly held: number;
  /** Texts: more than conversations where a template gives each answer another history. */
  readonly rows: number;
  readonly tokens: number;
  /** Tokens that are learned. */
  readonly supervised: number;
  readonly sequences: number;
  /** Places of the sequences together: what is no token is filled up. */
  readonly places: number;
  readonly sizes: readonly SequenceSize[];
  /** Records that are broken or that the template refuses. */
  readonly skipped: readonly LeftOut[];
  /** Texts that are too long. */
  readonly dropped: readonly LeftOut[];
  readonly cut: readonly LeftOut[];
}

/** What was read of conversations. */
export class ChatReport implements Counts {
  declare readonly conversations: number;
  declare readonly held: number;
  declare readonly rows: number;
  declare readonly tokens: number;
  declare readonly supervised: number;
  declare readonly sequences: number;
  declare readonly places: number;
  declare readonly sizes: readonly SequenceSize[];
  declare readonly skipped: readonly LeftOut[];
  declare readonly dropped: readonly LeftOut[];
  declare readonly cut: readonly LeftOut[];

  constructor(counts: Counts) {
    Object.assign(this, counts);
  }

  /** Says what was left out or cut, if anything was. */
  warn(): void {
    for (const line of this.lost()) console.warn(`text.chat: ${line}`);
  }

  toString(): string {
    const n = (x: number) => x.toLocaleString("en");
    const share = (part: number, whole: number) => `${((100 * part) / Math.max(1, whole)).toFixed(1)}%`;
    const { tokens, supervised, rows, places } = this;
    return [
      `${n(this.conversations)} conversations${rows === this.conversations ? "" : ` in ${n(rows)} rows`}, ${n(this.held)} held out`,
      `${n(tokens)} tokens, ${n(supervised)} (${share(supervised, tokens)}) learned`,
      `${n(this.sequences)} sequences, ${share(places - tokens + rows, places)} of the places filled up`,
      ...this.lost(),
    ].join("\n");
  }

  [Symbol.for("Jupyter.display")](): Record<string, string> {
    return { "text/plain": this.toString() };
  }

  private lost(): string[] {
    const lists: [string, readonly LeftOut[]][] = [
      ["left out as broken", this.skipped],
      ["left out as too long", this.dropped],
      ["cut", this.cut],
    ];
    return lists
      .filter(([, list]) => list.length > 0)
      .map(([what, list]) => {
        const some = list.slice(0, 3).map(({ where, reason }) => `${where}: ${reason}`);
        const more = list.length > some.length ? `; and ${list.length - some.length} more` : "";
        return `${list.length} ${what} (${some.join("; ")}${more})`;
      });
  }
}
