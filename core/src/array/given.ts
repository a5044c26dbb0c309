/** What a user gave where something else was meant: said in the words of errors. */
import { ArgumentError } from "../graph/errors.js";

/** What to do with a Promise given where a value is meant. */
export const AWAIT = "await it first: item(), data() and array() give Promises";

/** What to do with indices, classes or tokens that are no integers. */
export const INTEGERS =
  'numbers make float32: make them with tensor(ids, { dtype: "int32" }) or of an Int32Array, or convert with .astype("int32")';

export function isPromise(value: unknown): boolean {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
}

/** What to do about a wrong value: await it, if it is a Promise, or `fix`. */
export function fixFor(value: unknown, fix: string): string {
  return isPromise(value) ? AWAIT : fix;
}

/** Checks that an argument is an integer, of at least `least` where given. */
export function checkInteger(
  what: string,
  value: unknown,
  fix: string,
  least = Number.NEGATIVE_INFINITY,
): void {
  if (Number.isInteger(value) && (value as number) >= least) return;
  throw new ArgumentError(`${what} is ${described(value)}`, fixFor(value, fix));
}

/** A value of any kind in a few words, for the message of an error. */
export function described(value: unknown): string {
  switch (typeof value) {
    case "undefined":
      return "missing";
    case "string":
      return JSON.stringify(value);
    case "bigint":
      return `${value}n`;
    case "function":
      return `the function ${value.name || "without a name"}`;
    case "object":
      if (value === null) return "null";
      if (isPromise(value)) return "a Promise";
      if (Array.isArray(value)) return value.length === 0 ? "an empty array" : "an array";
      if (Object.hasOwn(value, "constructor") || Object.getPrototypeOf(value) === Object.prototype)
        return `an object with ${Object.keys(value).join(", ") || "nothing in it"}`;
      return /^Tensor /.test(String(value))
        ? `the ${String(value)}`
        : `a ${value.constructor?.name ?? "value"}`;
    default:
      return String(value);
  }
}
