/** JSON with objects as Maps. */
export type StrictJson = null | boolean | number | string | StrictJson[] | Map<string, StrictJson>;

const maxDepth = 32;

/**
 * JSON.parse keeps the last of two equal keys; in a file's header that would let one tensor hide another. This parser
 * refuses duplicate keys and deep nesting. Strings and numbers are left to JSON.parse.
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
    const token = /(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)/y;
    token.lastIndex = at;
    const match = token.exec(text);
    if (match === null) return fail("a value is missing");
    at = token.lastIndex;
    return JSON.parse(match[0]) as null | boolean | number;
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
    at = end + 1;
    return JSON.parse(source) as string;
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
