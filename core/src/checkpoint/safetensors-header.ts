import type { DType } from "../graph/dtype.js";
import { itemSize } from "../graph/dtype.js";
import { SafetensorsError } from "./errors.js";
import { parseJsonStrictly } from "./strict-json-parser.js";

/** One tensor of a safetensors file: row-major, little-endian. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

export interface SafetensorsHeader {
  /** In the order of their data. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** The free text fields under `__metadata__`. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** Names of the element types in the file, in the order in which the reference implementation sorts tensors. */
const dtypeNames: readonly (readonly [string, DType])[] = [
  ["BOOL", "bool"],
  ["U8", "uint8"],
  ["I8", "int8"],
  ["F8_E5M2", "float8_e5m2"],
  ["F8_E4M3", "float8_e4m3fn"],
  ["I16", "int16"],
  ["U16", "uint16"],
  ["F16", "float16"],
  ["BF16", "bfloat16"],
  ["I32", "int32"],
  ["U32", "uint32"],
  ["F32", "float32"],
  ["C64", "complex64"],
  ["F64", "float64"],
  ["I64", "int64"],
  ["U64", "uint64"],
];
const toDType = new Map(dtypeNames);
const order = new Map(dtypeNames.map(([file, dtype], rank) => [dtype, { file, rank }]));

/** The reference implementation's limit; it keeps a hostile file from taking all memory. */
export const maxHeaderBytes = 100_000_000;

/** The length of the header from a file's first 8 bytes. */
export function headerLength(prefix: Uint8Array, fileSize: number): number {
  if (prefix.length < 8) {
    throw new SafetensorsError(`The file has ${prefix.length} bytes, fewer than the 8 of a header length.`);
  }
  const length = Number(new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true));
  if (length > maxHeaderBytes) {
    throw new SafetensorsError(
      `The header would have ${length} bytes; at most ${maxHeaderBytes} are allowed.`,
    );
  }
  if (8 + length > fileSize) {
    throw new SafetensorsError(
      `The header needs ${8 + length} bytes, but the file has ${fileSize}.`,
      "The file is cut off: copy or download it again.",
    );
  }
  return length;
}

/**
 * Reads and checks a header: names once each, known element types, shapes that fit their bytes, and data that fill the
 * file from the end of the header to the end of the file in order, without holes or overlaps.
 *
 * Data need not be aligned to their element size (older files are not): read them into buffers of their own.
 */
export function parseHeader(header: Uint8Array, fileSize: number): SafetensorsHeader {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(header);
  } catch (error) {
    throw new SafetensorsError("The header is not UTF-8.", undefined, { cause: error });
  }
  if (!text.startsWith("{")) throw new SafetensorsError("The header does not begin with `{`.");
  let root: ReturnType<typeof parseJsonStrictly>;
  try {
    root = parseJsonStrictly(text);
  } catch (error) {
    throw new SafetensorsError(`The header is not valid JSON: ${(error as Error).message}`, undefined, {
      cause: error,
    });
  }
  if (!(root instanceof Map)) throw new SafetensorsError("The header is not a JSON object.");

  const metadata: Record<string, string> = {};
  const dataStart = 8 + header.length;
  const entries: TensorEntry[] = [];
  for (const [name, value] of root) {
    if (name === "__metadata__") {
      if (!(value instanceof Map)) throw new SafetensorsError("`__metadata__` is not an object.");
      for (const [key, item] of value) {
        if (typeof item !== "string") {
          throw new SafetensorsError(
            `\`__metadata__\` holds a value that is not a string, under ${JSON.stringify(key)}.`,
          );
        }
        Object.defineProperty(metadata, key, { value: item, enumerable: true });
      }
    } else {
      entries.push(readEntry(name, value, dataStart));
    }
  }
  // Empty tensors may share a place; they sort before the tensor that follows there.
  entries.sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  let at = dataStart;
  for (const entry of entries) {
    if (entry.offset !== at) {
      const kind =
        entry.offset < at ? "overlap the tensor before them" : `leave a hole of ${entry.offset - at} bytes`;
      throw new SafetensorsError(`The data of tensor ${JSON.stringify(entry.name)} ${kind}.`);
    }
    at += entry.byteLength;
  }
  if (at !== fileSize) {
    throw new SafetensorsError(
      `The header describes ${at} bytes, but the file has ${fileSize}.`,
      at > fileSize ? "The file is cut off: copy or download it again." : undefined,
    );
  }
  return { tensors: new Map(entries.map((entry) => [entry.name, entry])), metadata };
}

function readEntry(name: string, value: unknown, dataStart: number): TensorEntry {
  const label = `Tensor ${JSON.stringify(name)}`;
  if (!(value instanceof Map)) throw new SafetensorsError(`${label} is not described by an object.`);
  for (const key of value.keys()) {
    if (key !== "dtype" && key !== "shape" && key !== "data_offsets") {
      throw new SafetensorsError(`${label} has an unknown field ${JSON.stringify(key)}.`);
    }
  }
  const dtypeName: unknown = value.get("dtype");
  const dtype = typeof dtypeName === "string" ? toDType.get(dtypeName) : undefined;
  if (dtype === undefined) {
    throw new SafetensorsError(
      `${label} has the element type ${JSON.stringify(dtypeName)}; known are ${[...toDType.keys()].join(", ")}.`,
    );
  }
  const shape = sizes(value.get("shape"), `The shape of tensor ${JSON.stringify(name)}`);
  const offsets = sizes(value.get("data_offsets"), `The data_offsets of tensor ${JSON.stringify(name)}`);
  const [start, end] = offsets;
  if (offsets.length !== 2 || start === undefined || end === undefined || start > end) {
    throw new SafetensorsError(
      `${label} has the data_offsets [${offsets}]; they must be [start, end], start <= end.`,
    );
  }
  let bytes = itemSize(dtype);
  for (const size of shape) {
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) throw new SafetensorsError(`${label} is larger than 2^53 bytes.`);
  }
  if (bytes !== end - start) {
    throw new SafetensorsError(
      `${label} of shape [${shape}] and type ${dtypeName} needs ${bytes} bytes, but has ${end - start}.`,
    );
  }
  return { name, dtype, shape, offset: dataStart + start, byteLength: bytes };
}

function sizes(value: unknown, what: string): number[] {
  if (!Array.isArray(value)) throw new SafetensorsError(`${what} is not an array.`);
  for (const size of value) {
    if (typeof size !== "number")
      throw new SafetensorsError(`${what} holds ${JSON.stringify(size)}, which is no size.`);
  }
  return value as number[];
}

export interface TensorDescription {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/**
 * The file's first bytes (length and header) for these tensors, and the order in which their data must follow: larger
 * elements first and then by name, as the reference implementation writes them, so that every tensor is aligned and
 * the same tensors give the same file.
 */
export function layOut<T extends TensorDescription>(
  tensors: readonly T[],
  metadata: Readonly<Record<string, string>> = {},
): { head: Uint8Array; ordered: T[]; fileSize: number } {
  const names = new Set<string>();
  for (const { name } of tensors) {
    if (name === "__metadata__") throw new SafetensorsError("A tensor cannot be named `__metadata__`.");
    if (names.has(name)) throw new SafetensorsError(`Two tensors are named ${JSON.stringify(name)}.`);
    names.add(name);
  }
  const ordered = [...tensors].sort(
    (a, b) => order.get(b.dtype)!.rank - order.get(a.dtype)!.rank || compareUtf8(a.name, b.name),
  );
  const fields: string[] = [];
  if (Object.keys(metadata).length > 0) fields.push(`"__metadata__":${JSON.stringify(metadata)}`);
  let end = 0;
  for (const { name, dtype, shape } of ordered) {
    const start = end;
    end += byteLength({ name, dtype, shape });
    const described = { dtype: order.get(dtype)!.file, shape, data_offsets: [start, end] };
    fields.push(`${JSON.stringify(name)}:${JSON.stringify(described)}`);
  }
  const text = Buffer.from(`{${fields.join(",")}}`);
  const padded = Math.ceil(text.length / 8) * 8;
  const head = new Uint8Array(8 + padded).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(padded), true);
  head.set(text, 8);
  if (padded > maxHeaderBytes)
    throw new SafetensorsError(`The header has ${padded} bytes; at most ${maxHeaderBytes}.`);
  return { head, ordered, fileSize: head.length + end };
}

/** Bytes of a tensor's data. */
export function byteLength({ name, dtype, shape }: TensorDescription): number {
  const bytes = shape.reduce((product, size) => product * size, itemSize(dtype));
  if (!Number.isSafeInteger(bytes) || shape.some((size) => !Number.isSafeInteger(size) || size < 0)) {
    throw new SafetensorsError(`Tensor ${JSON.stringify(name)} has the shape [${shape}].`);
  }
  return bytes;
}

function compareUtf8(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
