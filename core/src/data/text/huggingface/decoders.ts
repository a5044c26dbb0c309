import { bytesOf } from "../byte-level.js";
import { replacing } from "./normalizers.js";
import { type Part, parts, unknownPart } from "./part.js";
import { patternOf } from "./pattern.js";

/** Turns tokens into texts, which are joined at the end. */
export type Decoder = (tokens: readonly string[]) => string[];

/** A tokenizer.json's `decoder`; without one there is a space between tokens. */
export function decoder(part: Part | null): (tokens: readonly string[]) => string {
  if (part === null) return (tokens) => tokens.join(" ");
  const steps = parts(part, "decoders").map(step);
  return (tokens) => steps.reduce<readonly string[]>((texts, each) => each(texts), tokens).join("");
}

function step(part: Part): Decoder {
  switch (part.type) {
    case "ByteLevel":
      return (tokens) => [lossy.decode(Buffer.concat(tokens.map((token) => bytesOf(token))))];
    case "Replace": {
      const replace = replacing(patternOf(part.pattern), String(part.content));
      return (tokens) => tokens.map(replace);
    }
    case "WordPiece":
      return wordPiece(String(part.prefix ?? "##"), part.cleanup !== false);
    case "ByteFallback":
      return byteFallback;
    case "Fuse":
      return (tokens) => [tokens.join("")];
    case "Strip":
      return strip(String(part.content), Number(part.start), Number(part.stop));
    case "Metaspace": {
      const mark = String(part.replacement ?? "\u2581");
      const prefix = part.add_prefix_space !== false && part.prepend_scheme !== "never";
      return (tokens) => tokens.map((token, i) => token.replaceAll(mark, i === 0 && prefix ? "" : " "));
    }
    case "BPEDecoder": {
      const suffix = String(part.suffix ?? "</w>");
      return (tokens) =>
        tokens.map((token, i) => token.replaceAll(suffix, i === tokens.length - 1 ? "" : " "));
    }
    case "CTC":
      return ctc(part);
    default:
      throw unknownPart("decoder", part);
  }
}

const lossy = new TextDecoder("utf-8", { ignoreBOM: true });
const strict = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

function wordPiece(prefix: string, cleans: boolean): Decoder {
  return (tokens) =>
    tokens.map((token, i) => {
      const text = i === 0 ? token : token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
      return cleans ? cleanUp(text) : text;
    });
}

/** Of bytes that are no text each is a U+FFFD. */
const byteFallback: Decoder = (tokens) => {
  const out: string[] = [];
  let bytes: number[] = [];
  const finish = () => {
    if (bytes.length === 0) return;
    try {
      out.push(strict.decode(Uint8Array.from(bytes)));
    } catch {
      for (const _ of bytes) out.push("\uFFFD");
    }
    bytes = [];
  };
  for (const token of tokens) {
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
    if (byte !== undefined) bytes.push(Number.parseInt(byte, 16));
    else {
      finish();
      out.push(token);
    }
  }
  finish();
  return out;
};

function strip(content: string, start: number, stop: number): Decoder {
  return (tokens) =>
    tokens.map((token) => {
      const characters = Array.from(token);
      let from = 0;
      while (from < start && characters[from] === content) from++;
      let to = characters.length;
      while (characters.length - to < stop && to > from && characters[to - 1] === content) to--;
      return characters.slice(from, to).join("");
    });
}

function ctc(part: Part): Decoder {
  const [pad, space] = [String(part.pad_token ?? "<pad>"), String(part.word_delimiter_token ?? "|")];
  return (tokens) =>
    tokens
      .filter((token, i) => token !== tokens[i - 1])
      .map((token) => {
        const text = token.replaceAll(pad, "");
        return part.cleanup === false ? text : cleanUp(text).replaceAll(space, " ");
      })
      .filter((text) => text !== "");
}

/** What the library's `cleanup` replaces, one after another. */
function cleanUp(text: string): string {
  return cleanings.reduce((cleaned, [from, to]) => cleaned.replaceAll(from, to), text);
}

const cleanings: readonly (readonly [string, string])[] = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" do not", " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];
