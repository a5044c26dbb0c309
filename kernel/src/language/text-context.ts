/** Where an offset of unfinished code stands. */
export interface TextContext {
  kind: "code" | "comment" | "string";
  /** Where the string begins, behind its quote. */
  start: number;
  quote: string;
  /** Offsets of the opening parentheses around it, the innermost first. */
  parentheses: number[];
}

/**
 * What stands around an offset, told from the characters before it: the code may be unfinished. The quotes in a regular
 * expression count as a string's, which ends at the end of its line at the latest.
 */
export function contextAt(source: string, offset: number): TextContext {
  const open: number[] = [];
  /** How many brackets were open at each `${` of the templates around. */
  const templates: number[] = [];
  const context = (kind: TextContext["kind"], start = offset, quote = ""): TextContext => ({
    kind,
    start,
    quote,
    parentheses: open.filter((at) => source[at] === "(").reverse(),
  });
  let at = 0;
  while (at < offset) {
    const character = source[at]!;
    if (source.startsWith("//", at) || source.startsWith("/*", at)) {
      const end = source[at + 1] === "/" ? source.indexOf("\n", at) : source.indexOf("*/", at + 2) + 2;
      if (end < at + 2 || end > offset) return context("comment");
      at = end;
    } else if (/["'`]/.test(character) || (character === "}" && templates.at(-1) === open.length)) {
      const quote = character === "}" ? "`" : character;
      if (character === "}") templates.pop();
      const start = at + 1;
      at = endOfText(source, start, quote);
      const isHole = quote === "`" && source.startsWith("${", at - 2);
      const isOpen = at === offset && source[at - 1] !== quote && !isHole;
      if (at > offset || isOpen) return context("string", start, quote);
      if (isHole) templates.push(open.length);
    } else {
      if (/[([{]/.test(character)) open.push(at);
      else if (/[)\]}]/.test(character)) open.pop();
      at += 1;
    }
  }
  return context("code");
}

/** Behind the closing quote, the `${` of a template, or the end of the line of a string that is not closed. */
function endOfText(source: string, start: number, quote: string): number {
  for (let at = start; at < source.length; at += 1) {
    const character = source[at];
    if (character === "\\") at += 1;
    else if (character === quote) return at + 1;
    else if (quote === "`" && source.startsWith("${", at)) return at + 2;
    else if (quote !== "`" && character === "\n") return at;
  }
  return source.length + 1;
}
