import { DataError } from "../../errors.js";

const segments = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/**
 * SentencePiece's table of replacements: the length of a double array (Darts), the array, and the replacements as text that ends with NUL.
 * As Hugging Face's library, grapheme by grapheme where these are short, else character by character, each by the table's first entry
 * that it begins with.
 *
 * @param encoded - base64
 */
export function charsmap(encoded: string): (text: string) => string {
  const bytes = Buffer.from(encoded, "base64");
  if (bytes.length < 4 || bytes.length < 4 + bytes.readUInt32LE(0))
    throw new DataError("the table of a Precompiled normalizer is cut off");
  const size = bytes.readUInt32LE(0);
  const units = new Uint32Array(size / 4);
  for (let i = 0; i < units.length; i++) units[i] = bytes.readUInt32LE(4 + 4 * i);
  const texts = bytes.subarray(4 + size);

  function found(part: string): string | undefined {
    let node = 0;
    let unit = units[0]!;
    node ^= offset(unit);
    for (const byte of Buffer.from(part)) {
      if (byte === 0) return undefined;
      node ^= byte;
      unit = units[node] ?? 0;
      if ((unit & 0x800000ff) >>> 0 !== byte) return undefined;
      node ^= offset(unit);
      if ((unit >>> 8) & 1) {
        const start = (units[node] ?? 0) & 0x7fffffff;
        const end = texts.indexOf(0, start);
        return texts.toString("utf8", start, end === -1 ? texts.length : end);
      }
    }
    return undefined;
  }

  const known = new Map<string, string>();
  function replaced(grapheme: string): string {
    const whole = Buffer.byteLength(grapheme) < 6 ? found(grapheme) : undefined;
    return whole ?? Array.from(grapheme, (character) => found(character) ?? character).join("");
  }
  return (text) => {
    let out = "";
    for (const { segment } of segments.segment(text)) {
      let other = known.get(segment);
      if (other === undefined) {
        if (known.size > 1 << 16) known.clear();
        other = replaced(segment);
        known.set(segment, other);
      }
      out += other;
    }
    return out;
  };
}

function offset(unit: number): number {
  return (unit >>> 10) << ((unit & 512) >>> 6);
}
