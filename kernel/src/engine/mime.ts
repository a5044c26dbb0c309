import { inspect } from "node:util";
import type { Bundle } from "../link.js";
import type { Json } from "../protocol/wire.js";
import { asJson, asJsonObject } from "./json.js";
import { asTable } from "./tables.js";

export const DISPLAY = Symbol.for("Jupyter.display");
/** A value with this is shown as an output that can be updated, by this id (docs/contracts.md §4). */
export const DISPLAY_ID = Symbol.for("Jupyter.displayId");

/** The id by which a value wants to be shown. */
export function displayIdOf(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const id = (value as { [DISPLAY_ID]?: unknown })[DISPLAY_ID];
  return typeof id === "string" ? id : undefined;
}

const INSPECT = { depth: 4, maxArrayLength: 100, maxStringLength: 10_000, breakLength: 100 } as const;

/** The text form of any value. */
export function toText(value: unknown): string {
  return inspect(value, INSPECT);
}

/**
 * The MIME bundle of a value: its own `Symbol.for("Jupyter.display")`, which may be asynchronous, or what can be told
 * from its shape, or its text.
 */
export function toBundle(value: unknown): Bundle | Promise<Bundle> {
  if ((typeof value === "object" && value !== null) || typeof value === "function") {
    const own = (value as { [DISPLAY]?: unknown })[DISPLAY];
    if (typeof own === "function") {
      const bundle: unknown = own.call(value);
      return isThenable(bundle) ? bundle.then((data) => fromOwn(data, value)) : fromOwn(bundle, value);
    }
    const known = byShape(value);
    if (known) return known;
  }
  return { data: { "text/plain": toText(value) }, metadata: {} };
}

function fromOwn(data: unknown, value: unknown): Bundle {
  if (typeof data !== "object" || data === null)
    return { data: { "text/plain": toText(value) }, metadata: {} };
  const bundle = rawBundle(data as Json);
  bundle.data["text/plain"] ??= Object.prototype.toString.call(value).slice(8, -1);
  return bundle;
}

/** A bundle as given, in the form that notebooks keep: JSON types as JSON, all others as text, bytes as base64. */
export function rawBundle(data: Json, metadata: Json = {}): Bundle {
  const out: Json = {};
  for (const [type, part] of Object.entries(data)) {
    const shown =
      part instanceof Uint8Array ? base64(part) : /json$/.test(type) ? asJson(part) : asText(part);
    if (shown !== undefined) out[type] = shown;
  }
  return { data: out, metadata: asJsonObject(metadata) };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}

/** Lines may come as a list, as in a notebook's file. */
function asText(part: unknown): string | undefined {
  if (part === undefined || typeof part === "string") return part;
  return Array.isArray(part) ? part.join("") : String(part);
}

function byShape(value: object): Bundle | undefined {
  if (value instanceof Uint8Array) {
    const type = imageType(value);
    if (type) return rawBundle({ [type]: value, "text/plain": `${type}, ${value.length} bytes` });
  }
  const table = asTable(value);
  if (table) return table;
  const { outerHTML } = value as { outerHTML?: unknown };
  if (typeof outerHTML === "string") {
    const type = outerHTML.startsWith("<svg") ? "image/svg+xml" : "text/html";
    return { data: { [type]: outerHTML, "text/plain": outerHTML }, metadata: {} };
  }
  return undefined;
}

function imageType(bytes: Uint8Array): string | undefined {
  const starts = (...signature: number[]) => signature.every((byte, index) => bytes[index] === byte);
  if (starts(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a)) return "image/png";
  if (starts(0xff, 0xd8, 0xff)) return "image/jpeg";
  if (starts(0x47, 0x49, 0x46, 0x38)) return "image/gif";
  return undefined;
}

export function isThenable(value: unknown): value is Promise<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}
