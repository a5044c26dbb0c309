import { EmulatedRegExp, toRegExpDetails } from "oniguruma-to-es";
import { DataError } from "../../errors.js";

/** A piece of a text, from `start` to `end`, and whether a pattern matches it. The pieces of a text follow each other and cover it. */
export interface Piece {
  readonly start: number;
  readonly end: number;
  readonly matches: boolean;
}

/** Cuts a text, which is not empty, into pieces. */
export type Pattern = (text: string) => Piece[];

/** What becomes of the matches: `SplitDelimiterBehavior` of Hugging Face's library. */
export type Behavior = "Removed" | "Isolated" | "Contiguous" | "MergedWithPrevious" | "MergedWithNext";

/** `{ String }` as it stands or `{ Regex }`, a regular expression of Oniguruma with Ruby's syntax, as tokenizer.json writes them. */
export function patternOf(given: unknown): Pattern {
  const { String: text, Regex: source } = (given ?? {}) as { String?: string; Regex?: string };
  if (typeof text === "string") return literal(text);
  if (typeof source !== "string") throw new DataError(`a pattern is ${JSON.stringify(given)}`);
  try {
    return expression(oniguruma(source));
  } catch (error) {
    throw new DataError(
      `the regular expression ${JSON.stringify(source)} cannot be read: ${(error as Error).message}`,
    );
  }
}

function oniguruma(source: string): RegExp {
  const { pattern, flags, options } = toRegExpDetails(source, { global: true });
  // What it takes for the characters of words has all of \p{N}.
  const exact = /\\[wWbB]|:\^?word:/.test(source)
    ? pattern.replaceAll(takenForWords, wordCharacters)
    : pattern;
  return options === undefined ? new RegExp(exact, flags) : new EmulatedRegExp(exact, flags, options);
}

const takenForWords = "\\p{L}\\p{M}\\p{N}\\p{Pc}";
const wordCharacters = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\u00B2\\u00B3\\u00B9\\u00BC-\\u00BE";

function literal(wanted: string): Pattern {
  if (wanted === "") return (text) => [{ start: 0, end: text.length, matches: false }];
  return (text) => {
    const found: [number, number][] = [];
    for (let at = text.indexOf(wanted); at !== -1; at = text.indexOf(wanted, at + wanted.length))
      found.push([at, at + wanted.length]);
    return between(text, found);
  };
}

/** @param wanted - global */
export function expression(wanted: RegExp): Pattern {
  return (text) => {
    const found: [number, number][] = [];
    let last = -1;
    wanted.lastIndex = 0;
    for (let match = wanted.exec(text); match !== null; match = wanted.exec(text)) {
      const [start, end] = [match.index, match.index + match[0].length];
      if (end === start) {
        wanted.lastIndex = end + ((text.codePointAt(end) ?? 0) > 0xffff ? 2 : 1);
        // Nothing right behind a match is no further match.
        if (start === last) continue;
      }
      found.push([start, end]);
      last = end;
    }
    return between(text, found);
  };
}

function between(text: string, found: readonly [number, number][]): Piece[] {
  const pieces: Piece[] = [];
  let at = 0;
  for (const [start, end] of found) {
    if (start > at) pieces.push({ start: at, end: start, matches: false });
    pieces.push({ start, end, matches: true });
    at = end;
  }
  if (at < text.length) pieces.push({ start: at, end: text.length, matches: false });
  return pieces;
}

/** Where a text is cut, with what is left out left out. */
export function ranges(pieces: readonly Piece[], behavior: Behavior): { start: number; end: number }[] {
  switch (behavior) {
    case "Removed":
      return pieces.filter(({ matches }) => !matches);
    case "Isolated":
      return [...pieces];
    case "Contiguous":
      return joined(pieces, (last, next) => last.matches === next.matches);
    case "MergedWithPrevious":
      return joined(pieces, (last, next) => next.matches && !last.matches);
    case "MergedWithNext":
      return joined(pieces, (last, next) => last.matches && !next.matches);
    default:
      throw new DataError(`the behaviour "${behavior}" of a split is not known`);
  }
}

/** Joins pieces with the one before, where `together` says so of the two. */
function joined(pieces: readonly Piece[], together: (last: Piece, next: Piece) => boolean) {
  const out: { start: number; end: number }[] = [];
  pieces.forEach((piece, i) => {
    const before = pieces[i - 1];
    if (before !== undefined && together(before, piece)) out[out.length - 1]!.end = piece.end;
    else out.push({ start: piece.start, end: piece.end });
  });
  return out;
}

export function inverted(pattern: Pattern): Pattern {
  return (text) => pattern(text).map((piece) => ({ ...piece, matches: !piece.matches }));
}
