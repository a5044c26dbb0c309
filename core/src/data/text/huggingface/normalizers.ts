import { DataError } from "../../errors.js";
import { asBytes } from "../byte-level.js";
import { charsmap } from "./charsmap.js";
import { type Part, parts, unknownPart } from "./part.js";
import { patternOf } from "./pattern.js";

/** A text, and whether characters at its beginning were taken away: Metaspace asks whether a word begins the text as it was given. */
export interface Normalized {
  readonly text: string;
  readonly trimmed: boolean;
}

export type Normalizer = (text: string) => string;

interface Step {
  readonly apply: Normalizer;
  /** Whether it takes the text's first character away, without another in its place. */
  readonly trims?: (text: string) => boolean;
}

/** A tokenizer.json's `normalizer`; undefined where there is none. */
export function normalizer(part: Part | null): ((text: string) => Normalized) | undefined {
  const steps = parts(part, "normalizers").map(step);
  if (steps.length === 0) return undefined;
  return (given) => {
    let text = given;
    let trimmed = false;
    for (const { apply, trims } of steps) {
      if (text === "") break;
      trimmed ||= trims?.(text) ?? false;
      text = apply(text);
    }
    return { text, trimmed };
  };
}

function step(part: Part): Step {
  switch (part.type) {
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = part.type;
      return { apply: (text) => text.normalize(form) };
    }
    case "Lowercase":
      return { apply: lowercase };
    case "StripAccents":
      return removal(/\p{M}/gu);
    case "Strip":
      return strip(part.strip_left === true, part.strip_right === true);
    case "Replace":
      return replace(part);
    case "Prepend": {
      const prefix = String(part.prepend);
      return { apply: (text) => prefix + text };
    }
    case "Nmt":
      return nmt;
    case "BertNormalizer":
      return bert(part);
    case "ByteLevel":
      return { apply: asBytes };
    case "Precompiled":
      return { apply: charsmap(String(part.precompiled_charsmap)) };
    default:
      throw unknownPart("normalizer", part);
  }
}

/** A character at a time: the sigma at a word's end is as any other. */
function lowercase(text: string): string {
  return text.includes("Σ") ? Array.from(text, (each) => each.toLowerCase()).join("") : text.toLowerCase();
}

/** @param unwanted - global */
function removal(unwanted: RegExp): Step {
  const first = new RegExp(`^(?:${unwanted.source})`, unwanted.flags.replace("g", ""));
  return { apply: (text) => text.replace(unwanted, ""), trims: (text) => first.test(text) };
}

function strip(left: boolean, right: boolean): Step {
  const begin = /^\p{White_Space}+/u;
  const apply: Normalizer = (text) => {
    const rest = left ? text.replace(begin, "") : text;
    return right ? rest.slice(0, rest.length - spacesAtEnd(rest)) : rest;
  };
  return left ? { apply, trims: (text) => begin.test(text) } : { apply };
}

/** How many characters of white space end a text. */
export function spacesAtEnd(text: string): number {
  let count = 0;
  while (count < text.length && space.test(text[text.length - 1 - count]!)) count++;
  return count;
}

const space = /\p{White_Space}/u;

function replace(part: Part): Step {
  const pattern = patternOf(part.pattern);
  const content = part.content;
  if (typeof content !== "string") throw new DataError("a Replace has no content");
  const apply = replacing(pattern, content);
  return content === "" ? { apply, trims: (text) => pattern(text)[0]?.matches === true } : { apply };
}

/** A text with other content for what a pattern matches. */
export function replacing(pattern: ReturnType<typeof patternOf>, content: string): Normalizer {
  return (text) =>
    text === ""
      ? ""
      : pattern(text)
          .map(({ start, end, matches }) => (matches ? content : text.slice(start, end)))
          .join("");
}

/** SentencePiece's rule for machine translation: some control characters go, and all kinds of white space are spaces. */
const nmt: Step = (() => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are meant
  const removed = removal(/[\u0001-\u0008\u000B\u000E-\u001F\u007F\u008F\u009F]/gu);
  const blank = /[\t\n\f\r\u1680\u200B-\u200F\u2028\u2029\u2581\uFEFF\uFFFD]/gu;
  return { ...removed, apply: (text) => removed.apply(text).replace(blank, " ") };
})();

function bert(part: Part): Step {
  const lower = part.lowercase !== false;
  const accents = (part.strip_accents as boolean | null | undefined) ?? lower;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are meant
  const unwanted = removal(/(?![\t\n\r])[\u0000\uFFFD\p{Cc}\p{Cf}\p{Co}]/gu);
  const clean = part.clean_text !== false;
  return {
    apply(given) {
      let text = given;
      if (clean) text = unwanted.apply(text).replace(/\p{White_Space}/gu, " ");
      if (part.handle_chinese_chars !== false) text = text.replace(chinese, " $& ");
      if (accents) text = text.normalize("NFD").replace(/\p{Mn}/gu, "");
      return lower ? lowercase(text) : text;
    },
    ...(clean && { trims: unwanted.trims! }),
  };
}

const chinese =
  /[\u4E00-\u9FFF\u3400-\u4DBF\u{20000}-\u{2A6DF}\u{2A700}-\u{2B73F}\u{2B740}-\u{2B81F}\u{2B920}-\u{2CEAF}\uF900-\uFAFF\u{2F800}-\u{2FA1F}]/gu;
