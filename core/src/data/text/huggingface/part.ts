import { DataError } from "../../errors.js";

/** A part of a tokenizer.json: its type, and what belongs to it. */
export interface Part {
  readonly type?: string;
  readonly [field: string]: unknown;
}

/** The parts of a `Sequence` one after another; none for null. */
export function parts(part: Part | null | undefined, field: string): Part[] {
  if (part === null || part === undefined) return [];
  if (part.type !== "Sequence") return [part];
  const inner = part[field];
  if (!Array.isArray(inner)) throw new DataError(`a Sequence has no "${field}"`);
  return inner.flatMap((each: Part) => parts(each, field));
}

/** A part of a kind that Hugging Face's library does not have either, or that is newer than this code. */
export function unknownPart(kind: string, { type }: Part): DataError {
  return new DataError(`the ${kind} "${type}" is not known`);
}
