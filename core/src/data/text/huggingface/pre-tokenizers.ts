import { DataError } from "../../errors.js";
import { asBytes, gpt2Pattern } from "../byte-level.js";
import { type Part, parts, unknownPart } from "./part.js";
import { type Behavior, expression, inverted, type Pattern, patternOf, ranges } from "./pattern.js";
import { scriptRuns } from "./scripts.js";

/** A part of a text, and whether it begins the text as it was given. */
export interface Word {
  readonly text: string;
  readonly first: boolean;
}

/** Cuts a word, which is not empty, into words; may change them. */
export type PreTokenizer = (word: Word) => Word[];

/**
 * A tokenizer.json's `pre_tokenizer`: how texts are cut, and what is made of a word at the end, which depends on the word alone.
 */
export function preTokenizer(part: Part | null): { cuts: PreTokenizer[]; last?: (word: string) => string } {
  const cuts: PreTokenizer[] = [];
  const all = parts(part, "pretokenizers");
  for (const [i, each] of all.entries()) {
    if (each.type !== "ByteLevel") {
      cuts.push(step(each));
      continue;
    }
    if (each.add_prefix_space !== false)
      cuts.push(({ text, first }) => [{ text: text.startsWith(" ") ? text : ` ${text}`, first }]);
    if (each.use_regex !== false) cuts.push(split(patternOf({ Regex: gpt2Pattern }), "Isolated"));
    if (i === all.length - 1) return { cuts, last: asBytes };
    cuts.push(({ text, first }) => [{ text: asBytes(text), first }]);
  }
  return { cuts };
}

function step(part: Part): PreTokenizer {
  switch (part.type) {
    case "Whitespace":
      return split(inverted(expression(words)), "Removed");
    case "WhitespaceSplit":
      return split(characters("\\p{White_Space}"), "Removed");
    case "BertPreTokenizer": {
      const spaces = split(characters("\\p{White_Space}"), "Removed");
      const marks = split(characters(punctuation), "Isolated");
      return (word) => spaces(word).flatMap(marks);
    }
    case "Punctuation":
      return split(characters(punctuation), behavior(part.behavior ?? "Isolated"));
    case "Metaspace":
      return metaspace(part);
    case "Digits":
      return split(characters("\\p{N}"), part.individual_digits === true ? "Isolated" : "Contiguous");
    case "CharDelimiterSplit":
      return split(patternOf({ String: part.delimiter }), "Removed");
    case "Split": {
      const pattern = patternOf(part.pattern);
      return split(part.invert === true ? inverted(pattern) : pattern, behavior(part.behavior));
    }
    case "UnicodeScripts":
      return at(scriptRuns);
    case "FixedLength":
      return fixed((part.length as number | undefined) ?? 5);
    default:
      throw unknownPart("pre-tokenizer", part);
  }
}

/** Rust's `\w`, which is not Oniguruma's. */
const words =
  /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\p{White_Space}]+/gu;

/** In a class of characters: ASCII's and Unicode's. */
const punctuation = "\\p{P}!-\\/:-@\\[-`\\{-~";

/** Each character of a class is a match. */
function characters(members: string): Pattern {
  return expression(new RegExp(`[${members}]`, "gu"));
}

/** As tokenizer.json writes it, or as Python's library names it. */
function behavior(given: unknown): Behavior {
  return String(given)
    .replace(/^[a-z]/, (letter) => letter.toUpperCase())
    .replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()) as Behavior;
}

function split(pattern: Pattern, how: Behavior): PreTokenizer {
  ranges([], how);
  return at((text) => ranges(pattern(text), how));
}

function at(cut: (text: string) => { start: number; end: number }[]): PreTokenizer {
  return ({ text, first }) => {
    const out: Word[] = [];
    for (const { start, end } of cut(text))
      if (end > start) out.push({ text: text.slice(start, end), first: first && start === 0 });
    return out;
  };
}

function metaspace(part: Part): PreTokenizer {
  const mark = String(part.replacement ?? "\u2581");
  const scheme = part.add_prefix_space === false ? "never" : (part.prepend_scheme ?? "always");
  const cut = split(patternOf({ String: mark }), "MergedWithNext");
  return ({ text, first }) => {
    let marked = text.replaceAll(" ", mark);
    const wanted = scheme === "always" || (scheme === "first" && first);
    if (wanted && !marked.startsWith(mark)) marked = mark + marked;
    return part.split === false ? [{ text: marked, first }] : cut({ text: marked, first });
  };
}

function fixed(length: number): PreTokenizer {
  if (!Number.isInteger(length) || length < 1)
    throw new DataError(`the length of a FixedLength is ${JSON.stringify(length)}`);
  return at((text) => {
    const out: { start: number; end: number }[] = [];
    let start = 0;
    let end = 0;
    let count = 0;
    for (const character of text) {
      end += character.length;
      if (++count < length) continue;
      out.push({ start, end });
      start = end;
      count = 0;
    }
    if (end > start) out.push({ start, end });
    return out;
  });
}
