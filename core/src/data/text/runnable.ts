/** Parts of a tokenizer.json that `@huggingface/tokenizers` lacks or runs differently, written as equal parts that it runs. */
import { writtenOut } from "./byte-level.js";
import type { TokenizerJson } from "./tokenizer.js";

interface Part {
  type?: string;
  normalizers?: Part[];
  pretokenizers?: Part[];
  [field: string]: unknown;
}

/** The equal tokenizer.json that the library runs. It is never saved. */
export function runnable(json: TokenizerJson): TokenizerJson {
  return {
    ...json,
    normalizer: normalizer(json.normalizer as Part | null),
    pre_tokenizer: preTokenizer(json.pre_tokenizer as Part | null),
    model: model(json.model),
  };
}

function normalizer(part: Part | null): Part | null {
  if (part?.type === "Sequence")
    return { ...part, normalizers: part.normalizers!.map((each) => normalizer(each)!) };
  if (part?.type === "Strip") {
    // The library's own takes U+FEFF for white space.
    return {
      type: "Sequence",
      normalizers: [
        ...(part.strip_left ? [replace("\\A\\s+", "")] : []),
        ...(part.strip_right ? [replace("\\s+\\z", "")] : []),
      ],
    };
  }
  if (part?.type !== "Nmt") return part;
  // SentencePiece's rule for machine translation: some control characters go, and all kinds of white space are spaces.
  return {
    type: "Sequence",
    normalizers: [
      replace("[\\u0001-\\u0008\\u000B\\u000E-\\u001F\\u007F\\u008F\\u009F]", ""),
      replace("[\\t\\n\\f\\r\\u1680\\u200B-\\u200F\\u2028\\u2029\\u2581\\uFEFF\\uFFFD]", " "),
    ],
  };
}

function replace(pattern: string, content: string): Part {
  return { type: "Replace", pattern: { Regex: pattern }, content };
}

function preTokenizer(part: Part | null): Part | null {
  switch (part?.type) {
    case "CharDelimiterSplit":
      return split({ pattern: { String: part.delimiter }, behavior: "Removed" });
    // Its own patterns take JavaScript's idea of letters and white space.
    case "Whitespace":
      return matches("[\\w\\u200C\\u200D]+|[^\\w\\s\\u200C\\u200D]+");
    case "WhitespaceSplit":
      return matches("\\S+");
    case "BertPreTokenizer":
      return matches(`[^\\s${punctuation}]+|[${punctuation}]`);
    // The library's own has one behaviour.
    case "Punctuation":
      return split({
        type: "Split",
        pattern: { Regex: `[${punctuation}]` },
        behavior: part.behavior ?? "Isolated",
      });
    // The library's own only marks the spaces; the text is also cut before each.
    case "Metaspace":
      if (part.split === false) return part;
      return {
        type: "Sequence",
        pretokenizers: [
          part,
          split({ pattern: { String: part.replacement ?? "\u2581" }, behavior: "MergedWithNext" }),
        ],
      };
    case "Split":
      return split(part);
    case "Sequence":
      // What `writtenOut` makes of a ByteLevel is a sequence of its own.
      return { ...part, pretokenizers: part.pretokenizers!.map((each) => preTokenizer(each)!) };
    default:
      return writtenOut(part) as Part | null;
  }
}

/** In a class of characters: ASCII's and Unicode's. */
const punctuation = "\\p{P}!-/:-@\\[-`{-~";

/** The words are the matches of a pattern. */
function matches(pattern: string): Part {
  return { type: "Split", pattern: { Regex: pattern }, behavior: "Removed", invert: true };
}

/** Of the behaviours the library has Isolated, and Removed for patterns. */
function split(part: Part): Part {
  const { String: text, Regex: regex } = part.pattern as { String?: string; Regex?: string };
  const at = `(?:${regex ?? text!.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")})`;
  const between = `(?:(?!${at})[\\s\\S])+`;
  if (part.invert) return part;
  switch (part.behavior) {
    case "Removed":
      return { ...part, type: "Split", pattern: { Regex: at }, invert: false };
    case "MergedWithPrevious":
      return matches(`(?:${between})?${at}|${between}`);
    case "MergedWithNext":
      return matches(`${at}(?:${between})?|${between}`);
    case "Contiguous":
      return matches(`${at}+|${between}`);
    default:
      return part;
  }
}

/** A vocabulary of whole words is WordPiece in which nothing continues a word. */
function model(part: TokenizerJson["model"]): TokenizerJson["model"] {
  if (part.type !== "WordLevel") return part;
  return {
    ...part,
    type: "WordPiece",
    continuing_subword_prefix: "\u0000",
    max_input_chars_per_word: Number.MAX_SAFE_INTEGER,
  };
}
