import type { Checker } from "../checker/checker.js";
import type { Json } from "../protocol/wire.js";

/** The name in `name?` or `?name`, the Jupyter way to ask for help; undefined for any other cell. */
export function helpSubject(source: string): string | undefined {
  const match = /^\s*(\?{0,2})\s*([\p{ID_Start}$_][\p{ID_Continue}$.]*)\s*(\?{0,2})\s*$/u.exec(source);
  return match && (match[1] || match[3]) ? match[2] : undefined;
}

/** A MIME bundle with what the checker knows of a name. */
export async function help(checker: Checker, subject: string): Promise<Json> {
  const found = await checker.inspect(subject, subject.length - 1);
  return found ? helpBundle(found) : { "text/plain": `Nothing is known of ${subject}.` };
}

export function helpBundle(markdown: string): Json {
  return { "text/markdown": markdown, "text/plain": markdown.replace(/^```\w*\n?|^```$/gm, "").trim() };
}
