/** The few ANSI colours that errors use; front ends and terminals both show them. */
const wrap = (code: string) => (text: string) => `\u001b[${code}m${text}\u001b[0m`;

export const paint = {
  error: wrap("1;31"),
  fix: wrap("32"),
  place: wrap("36"),
  dim: wrap("2"),
};

/** A line of the source with its number, and carets under the columns from `start` to `end`. */
export function excerpt(lines: string[], line: number, start: number, end: number): string {
  const text = lines[line] ?? "";
  const number = String(line + 1);
  // A very long line (a data literal) is shown around the place only.
  const from = start > 120 ? start - 60 : 0;
  const shown = text.slice(from, from + 160);
  const pad = shown.slice(0, start - from).replace(/[^\t]/g, " ");
  const carets = "^".repeat(Math.max(1, Math.min(end, from + 160) - start));
  return `${paint.dim(`${number} |`)} ${shown}\n${" ".repeat(number.length)} ${paint.dim("|")} ${pad}${paint.error(carets)}`;
}
