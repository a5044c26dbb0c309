/** JSON with objects as Maps. Numbers are safe integers from 0. */
export type StrictJson = null | boolean | number | string | StrictJson[] | Map<string, StrictJson>;

const maxDepth = 32;

/**
 * JSON.parse keeps the last of two equal keys; in a file's header that would let one tensor hide another. This parser
 * refuses duplicate keys, deep nesting, numbers that are no sizes (signs, fractions, exponents) and halves of surrogate
 * pairs.
 */
export function parseJsonStrictly(text: string): StrictJson {
  let at = 0;
  const value = parseValue(0);
  skipSpace();
  if (at < text.length) fail("unexpected text after the value");
  return value;

  function parseValue(depth: number): StrictJson {
    if (depth > maxDepth) fail(`nested deeper than ${maxDepth} levels`);
    skipSpace();
    const first = text[at];
    if (first === "{") return parseObject(depth);
    if (first === "[") return parseArray(depth);
    if (first === '"') return parseString();
    const token = /true|false|null|\d+/y;
    token.lastIndex = at;
    const match = token.exec(text)?.[0];
    if (match === undefined) return fail("a value is missing, or a number is no plain integer");
    if (/^0\d/.test(match) || Number(match) > Number.MAX_SAFE_INTEGER) fail(`${match} is no safe integer`);
    at = token.lastIndex;
    if (/[.eE]/.test(text[at] ?? "")) fail("a number is no plain integer");
    return JSON.parse(match) as null | boolean | number;
  }

  function parseObject(depth: number): Map<string, StrictJson> {
    const object = new Map<string, StrictJson>();
    at++;
    skipSpace();
    if (take("}")) return object;
    for (;;) {
      skipSpace();
      if (text[at] !== '"') fail("a key is missing");
      const key = parseString();
      if (object.has(key)) fail(`the key ${JSON.stringify(key)} stands twice`);
      skipSpace();
      if (!take(":")) fail("`:` is missing");
      object.set(key, parseValue(depth + 1));
      skipSpace();
      if (take("}")) return object;
      if (!take(",")) fail("`,` or `}` is missing");
    }
  }

  function parseArray(depth: number): StrictJson[] {
    const array: StrictJson[] = [];
    at++;
    skipSpace();
    if (take("]")) return array;
    for (;;) {
      array.push(parseValue(depth + 1));
      skipSpace();
      if (take("]")) return array;
      if (!take(",")) fail("`,` or `]` is missing");
    }
  }

  function parseString(): string {
    let end = at + 1;
    while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
    if (end >= text.length) fail("a string does not end");
    const source = text.slice(at, end + 1);
    const string = JSON.parse(source) as string;
    if (/\p{Surrogate}/u.test(string)) fail("a string holds half a surrogate pair");
    at = end + 1;
    return string;
  }

  function skipSpace(): void {
    while (text[at] === " " || text[at] === "\n" || text[at] === "\r" || text[at] === "\t") at++;
  }

  function take(character: string): boolean {
    if (text[at] !== character) return false;
    at++;
    return true;
  }

  function fail(what: string): never {
    throw new SyntaxError(`${what} at character ${at}`);
  }
}
