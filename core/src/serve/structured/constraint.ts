import { ArgumentError } from "../../graph/errors.js";

/** What a text has to be. */
export type Constraint =
  /** Any JSON object. */
  | { readonly type: "json" }
  | { readonly type: "schema"; readonly schema: unknown }
  | { readonly type: "regex"; readonly pattern: string }
  | { readonly type: "choice"; readonly choices: readonly string[] }
  /** EBNF of xgrammar, with the rule `root`. */
  | { readonly type: "grammar"; readonly grammar: string }
  /** A structural tag of xgrammar: text, and what stands between marks. */
  | { readonly type: "tags"; readonly tags: object };

const mostCharacters = 65_536;
const deepest = 64;

/** Names the constraint in a cache. Throws ArgumentError on one too large to be compiled in bounded time. */
export function keyOf(constraint: Constraint): string {
  const depth = depthOf(constraint);
  if (depth > deepest)
    throw new ArgumentError(
      `The constraint is nested ${depth === Number.POSITIVE_INFINITY ? "without end" : `${depth} deep`}; at most ${deepest} is allowed`,
      "name the inner parts in $defs and refer to them",
    );
  const key = JSON.stringify(constraint);
  if (key.length > mostCharacters)
    throw new ArgumentError(
      `The constraint has ${key.length} characters; at most ${mostCharacters} are allowed`,
      "shorten the schema or the list of choices",
    );
  return key;
}

function depthOf(value: unknown, depth = 0): number {
  if (typeof value !== "object" || value === null) return depth;
  if (depth > 4 * deepest) return Number.POSITIVE_INFINITY;
  let most = depth;
  for (const part of Object.values(value)) most = Math.max(most, depthOf(part, depth + 1));
  return most;
}

/** A rule that takes one of the strings. */
export function choiceGrammar(choices: readonly string[]): string {
  if (choices.length === 0 || choices.some((choice) => typeof choice !== "string" || choice === ""))
    throw new ArgumentError("A choice is empty", "give one or more strings that are not empty");
  return `root ::= ${choices.map((choice) => JSON.stringify(choice)).join(" | ")}\n`;
}
