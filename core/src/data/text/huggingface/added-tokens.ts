import { spacesAtEnd } from "./normalizers.js";

/** A token that is found in texts before they are cut into words, as tokenizer.json lists it. */
export interface AddedToken {
  id: number;
  content: string;
  special?: boolean;
  single_word?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
  normalized?: boolean;
}

/** A token to find, as its text reads where it is looked for. */
export interface Wanted {
  readonly token: AddedToken;
  readonly content: string;
}

/** A piece of a text, or the id of the token that stands there. */
export type Found = { readonly start: number; readonly end: number; readonly id?: number };

/** Finds added tokens, the leftmost longest first, as `AddedVocabulary::find_matches` of Hugging Face's library. */
export class AddedTokens {
  /** By their first characters, the longest first. */
  private readonly byFirst = new Map<number, Wanted[]>();

  constructor(tokens: readonly Wanted[]) {
    for (const wanted of tokens) {
      if (wanted.content === "") continue;
      const first = wanted.content.charCodeAt(0);
      const beside = this.byFirst.get(first);
      if (beside === undefined) this.byFirst.set(first, [wanted]);
      else beside.push(wanted);
    }
    for (const beside of this.byFirst.values()) beside.sort((a, b) => b.content.length - a.content.length);
  }

  /** @param literal - read special tokens as text */
  find(text: string, literal: boolean): Found[] {
    const found: Found[] = [];
    let start = 0;
    if (this.byFirst.size > 0)
      for (let at = 0; at < text.length; ) {
        const here = this.byFirst
          .get(text.charCodeAt(at))
          ?.find(({ content }) => text.startsWith(content, at));
        if (here === undefined) {
          at++;
          continue;
        }
        const { token, content } = here;
        let [from, to] = [at, at + content.length];
        at = to;
        // What is refused is not looked at again: a shorter token within it is not found either.
        if (literal && token.special === true) continue;
        if (token.single_word && (endsInWord.test(text.slice(0, from)) || beginsInWord.test(text.slice(to))))
          continue;
        if (token.lstrip) from = Math.max(start, from - spacesAtEnd(text.slice(0, from)));
        if (token.rstrip) to += spacesAtStart.exec(text.slice(to))![0].length;
        if (start < from) found.push({ start, end: from });
        found.push({ start: from, end: to, id: token.id });
        start = to;
      }
    if (start < text.length) found.push({ start, end: text.length });
    return found;
  }
}

const spacesAtStart = /^\p{White_Space}*/u;
// Rust's `\w`.
const endsInWord = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const beginsInWord = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
