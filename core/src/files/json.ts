export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

/**
 * JSON text of a value that comes back equal. Refuses what `JSON.stringify` changes without a word: NaN and infinities
 * (they would become null), functions, symbols, BigInts, class instances and cycles; the error names the place.
 */
export function strictJson(value: unknown, name: string, indent?: number): string {
  check(value, name, new Set());
  return JSON.stringify(value, null, indent);
}

function check(value: unknown, path: string, above: Set<object>): void {
  if (value === null || typeof value === "boolean" || typeof value === "string") return;
  if (typeof value === "number") {
    if (Number.isFinite(value)) return;
    throw new TypeError(`${path} is ${value}, which JSON cannot hold.`);
  }
  if (typeof value !== "object")
    throw new TypeError(`${path} is of type ${typeof value}, which JSON cannot hold.`);
  if (above.has(value)) throw new TypeError(`${path} contains itself, which JSON cannot hold.`);
  above.add(value);
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) check(value[i], `${path}[${i}]`, above);
  } else {
    const prototype = Object.getPrototypeOf(value);
    if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
      throw new TypeError(
        `${path} is a ${value.constructor?.name ?? "class"} instance, which JSON cannot hold.`,
      );
    }
    for (const [key, item] of Object.entries(value)) {
      if (item !== undefined) check(item, `${path}.${key}`, above);
    }
  }
  above.delete(value);
}
