/** The known name nearest to one that was written. */
import { ArgumentError } from "./errors.js";

/** The name of `known` that `written` was probably meant to be: at most a third of its letters apart. */
export function nearestName(written: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let distance = Math.max(2, Math.ceil(written.length / 3)) + 1;
  for (const name of known) {
    const d = editDistance(written.toLowerCase(), name.toLowerCase());
    if (d < distance) [best, distance] = [name, d];
  }
  return best;
}

/** Insertions, deletions and replacements from one text to the other (Levenshtein 1966). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}

/**
 * Checks the names of a function's options.
 *
 * @param fix - what to do where they are no object; default the names
 * @throws ArgumentError
 */
export function refuseUnknownOptions(
  name: string,
  options: object,
  known: readonly string[],
  fix?: string,
): void {
  if (typeof options !== "object" || options === null)
    throw new ArgumentError(
      `${name}: the options are ${String(options)}`,
      fix ?? `there are ${known.join(", ")}`,
    );
  refuseUnknown(`${name}: there is no option`, Object.keys(options), known);
}

/** @throws ArgumentError for the first of `fields` that is not known, with the nearest name that is */
export function refuseUnknown(what: string, fields: readonly string[], known: readonly string[]): void {
  for (const field of fields) {
    if (known.includes(field)) continue;
    const near = nearestName(field, known);
    throw new ArgumentError(
      `${what} ${field}`,
      near === undefined ? `there are ${known.join(", ")}` : `did you mean ${near}?`,
    );
  }
}
