import type { Json } from "../protocol/wire.js";

/** As they are before a cell replaces them. */
const { parse, stringify } = JSON;

/**
 * A value as JSON has it: `toJSON` is heard, what JSON cannot hold is left out, undefined where nothing is left. What passes to
 * the messaging thread is made so here, where a failure belongs to the cell. Throws a `TypeError` for cycles and bigints.
 */
export function asJson(value: unknown): unknown {
  if (typeof value === "string" || typeof value === "boolean" || value === null) return value;
  const text: string | undefined = stringify(value);
  return text === undefined ? undefined : parse(text);
}

/** The same for the parts of an object. */
export function asJsonObject(value: object): Json {
  return (asJson(value) ?? {}) as Json;
}
