/** Which pages of the cache hold which tokens. */
import { createHash } from "node:crypto";

interface Page {
  readonly id: number;
  /** Texts that use it. */
  users: number;
  /** What it holds once it is full, and by what it is found again. */
  key: string | undefined;
  tokens: readonly number[];
}

/** Pages of a text that is computed: those of its tokens so far, in order. */
export interface Held {
  readonly pages: number[];
  /** Keys of the full pages, in order: each names all tokens up to its page's end. */
  readonly keys: string[];
}

/**
 * Gives out pages, and finds those again whose tokens another text begins with. A page that no text uses keeps what it holds until it is needed:
 * the one that was used longest ago goes first. Page 0 is nobody's: tables are filled up with it.
 */
export class PageStore {
  readonly #pages: Page[];
  /** Never used, or without content. */
  readonly #empty: number[] = [];
  /** Unused, with content: the oldest first. */
  readonly #kept = new Set<number>();
  readonly #found = new Map<string, number>();

  /** @param count - of pages, page 0 not among them */
  constructor(
    readonly count: number,
    readonly pageSize: number,
  ) {
    this.#pages = Array.from({ length: count + 1 }, (_, id) => ({
      id,
      users: 0,
      key: undefined,
      tokens: [],
    }));
    for (let id = count; id > 0; id--) this.#empty.push(id);
  }

  /** Pages that can be given out. */
  get free(): number {
    return this.#empty.length + this.#kept.size;
  }

  /** Another page for a text; undefined where all are in use. */
  take(): number | undefined {
    let id = this.#empty.pop();
    if (id === undefined) {
      const oldest = this.#kept.values().next();
      if (oldest.done) return undefined;
      id = oldest.value;
      this.#kept.delete(id);
      this.#forget(this.#pages[id]!);
    }
    this.#pages[id]!.users = 1;
    return id;
  }

  /** The full pages that hold the beginning of these tokens. Their users are one more. The last token is never among them: its logits are needed. */
  match(tokens: readonly number[], salt: string): Held {
    const held: Held = { pages: [], keys: [] };
    let parent = salt;
    for (let end = this.pageSize; end < tokens.length; end += this.pageSize) {
      const own = tokens.slice(end - this.pageSize, end);
      const key = keyOf(parent, own);
      const id = this.#found.get(key);
      if (id === undefined || !sameTokens(this.#pages[id]!.tokens, own)) break;
      const page = this.#pages[id]!;
      if (page.users++ === 0) this.#kept.delete(id);
      held.pages.push(id);
      held.keys.push(key);
      parent = key;
    }
    return held;
  }

  /** Says that a text's next page is full of these tokens, so that others find it. */
  fill(held: Held, tokens: readonly number[], salt: string): void {
    const at = held.keys.length;
    const key = keyOf(held.keys[at - 1] ?? salt, tokens);
    held.keys.push(key);
    // Another text may have computed the same at the same time.
    if (this.#found.has(key)) return;
    const page = this.#pages[held.pages[at]!]!;
    page.key = key;
    page.tokens = [...tokens];
    this.#found.set(key, page.id);
  }

  /** A text no longer uses its pages. */
  release({ pages, keys }: Held): void {
    // The last page goes first when room is needed: of a beginning that many share, the end is needed least.
    for (const id of pages.toReversed()) {
      const page = this.#pages[id]!;
      if (--page.users > 0) continue;
      if (page.key === undefined) this.#empty.push(id);
      else this.#kept.add(id);
    }
    pages.length = 0;
    keys.length = 0;
  }

  /** Forgets what unused pages hold: after the model or an adapter has changed. */
  clear(): void {
    for (const page of this.#pages) this.#forget(page);
    for (const id of this.#kept) this.#empty.push(id);
    this.#kept.clear();
  }

  #forget(page: Page): void {
    if (page.key !== undefined && this.#found.get(page.key) === page.id) this.#found.delete(page.key);
    page.key = undefined;
    page.tokens = [];
  }
}

function keyOf(parent: string, tokens: readonly number[]): string {
  return createHash("sha256")
    .update(parent)
    .update(Uint8Array.from(new Uint8Array(Int32Array.from(tokens).buffer)))
    .digest("base64");
}

function sameTokens(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}
