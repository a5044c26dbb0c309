/** Reads from a program's text what the client must know before the compiler has answered. */

const donation = /\b(?:tf\.aliasing_output|jax\.buffer_donor)\b/;

/** Positions of the arguments of `@main` that carry `tf.aliasing_output` or `jax.buffer_donor`. */
export function donatedArguments(text: string): number[] {
  const main = text.search(/func\.func\s+(?:public\s+)?@main\s*\(/);
  if (main < 0) return [];
  const donated: number[] = [];
  let argument = 0;
  let depth = 0;
  let start = text.indexOf("(", main) + 1;
  for (let at = start; at < text.length; at++) {
    const c = text[at];
    if (c === '"') {
      // A string, e.g. in loc("..."): its brackets and commas are no syntax.
      for (at++; at < text.length && text[at] !== '"'; at++) if (text[at] === "\\") at++;
    } else if (c === "(" || c === "[" || c === "{" || c === "<") depth++;
    else if ((c === "," || c === ")") && depth === 0) {
      if (donation.test(text.slice(start, at))) donated.push(argument);
      if (c === ")") break;
      argument++;
      start = at + 1;
    } else if (c === ")" || c === "]" || c === "}" || c === ">") depth--;
  }
  return donated;
}
