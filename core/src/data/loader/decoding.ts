/**
 * What decoding one item takes, in this thread and in a worker. The functions of this file are sent to workers as their text, so that a
 * loader works from sources, from built files and from a single bundled file: none may use a name from around it but types.
 */
import type { Sfc32 } from "../random.js";
import type { Decode, Sample } from "./types.js";

/** A decoding to be done. Plain data. */
export interface DecodeTask {
  readonly item: unknown;
  readonly index: number;
  readonly epoch: number;
  readonly training: boolean;
}

/** How a decoding failed. Plain data. */
export interface DecodeFailure {
  readonly name: string;
  readonly message: string;
  readonly fix?: string;
  readonly stack?: string;
}

export type DecodeReply = { readonly sample: Sample } | { readonly failure: DecodeFailure };

/** What decoding in a thread needs. */
export interface DecodeSetup {
  readonly decode: Decode<unknown, Sample>;
  readonly context: unknown;
  readonly seed: number;
  readonly signal: AbortSignal;
  readonly Random: typeof Sfc32;
}

/** Calls `decode`. Draws depend on the seed, the item's number and the epoch alone. */
export async function callDecode(setup: DecodeSetup, task: DecodeTask): Promise<Sample> {
  const { decode, context, seed, signal, Random } = setup;
  const { item, index, epoch, training } = task;
  const words = [seed, training ? 1 : 2, epoch, index, Math.floor(index / 0x100000000)];
  const random = new Random(words);
  const drawn = new Random([...words, 3]).uint32();
  return decode(item, { context, random, seed: drawn, epoch, index, training, signal });
}

/** Why a value is no sample, with what to do; undefined for a sample. `reserved` are names that a batch has already. */
export function sampleProblem(
  value: unknown,
  reserved: readonly string[],
  within = "",
): { message: string; fix: string } | undefined {
  const fix =
    "return an object of typed arrays, `{ data, shape }`, numbers, strings and truth values, and objects of them";
  const kindOf = (given: unknown): string =>
    typeof given === "object" && given !== null
      ? `a value of class ${Object.getPrototypeOf(given)?.constructor?.name ?? "Object"}`
      : given === null || given === undefined
        ? String(given)
        : `of type ${typeof given}`;
  const isArray = (given: unknown) =>
    ArrayBuffer.isView(given) && !(given instanceof DataView) && given.constructor.name !== "Float16Array";
  const isPlain = (given: unknown) => {
    if (typeof given !== "object" || given === null || Array.isArray(given)) return false;
    const prototype = Object.getPrototypeOf(given);
    // Not by identity: an object may come from another realm, as in a test runner's.
    return prototype === null || Object.getPrototypeOf(prototype) === null;
  };
  if (!isPlain(value)) {
    return {
      message:
        within === "" ? `decode gave ${kindOf(value)} in place of a sample` : `${within} is ${kindOf(value)}`,
      fix,
    };
  }
  for (const [name, field] of Object.entries(value as object)) {
    const path = within === "" ? name : `${within}.${name}`;
    if (within === "" && reserved.includes(name))
      return { message: `a field is named ${name}, as a batch's own`, fix: "take another name" };
    if (field === undefined || isArray(field)) continue;
    if (typeof field === "number" || typeof field === "string" || typeof field === "boolean") continue;
    if (isPlain(field) && "data" in field && "shape" in field) {
      const { data, shape, dtype } = field as { data: unknown; shape: unknown; dtype?: string };
      if (!isArray(data)) return { message: `${path}.data is ${kindOf(data)}`, fix: "give a typed array" };
      const whole = (n: unknown) => Number.isInteger(n) && (n as number) >= 0;
      if (!Array.isArray(shape) || !shape.every(whole))
        return { message: `${path}.shape is ${JSON.stringify(shape)}`, fix: "give the lengths of its axes" };
      const elements = shape.reduce((product: number, n: number) => product * n, 1);
      const { length } = data as { length: number } & ArrayBufferView;
      if (length !== elements * (dtype === "complex64" ? 2 : 1))
        return {
          message: `${path} has ${length} elements and the shape [${shape.join(", ")}]`,
          fix: "give the shape whose product is the number of elements",
        };
      continue;
    }
    if (!isPlain(field)) return { message: `${path} is ${kindOf(field)}`, fix };
    const problem = sampleProblem(field, reserved, path);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/**
 * A copy of a sample whose arrays nobody else has, with the memory that can be moved to another thread. `decode` may keep what it returned
 * and write into it again.
 */
export function ownSample(sample: Sample, memory: ArrayBuffer[]): Sample {
  const own = (field: unknown): unknown => {
    if (ArrayBuffer.isView(field)) {
      // By its tag: Node's Buffer is a Uint8Array, and its memory may be shared with others.
      const tag = Object.prototype.toString.call(field).slice(8, -1);
      const kind = tag === "Uint8ClampedArray" ? "Uint8Array" : tag;
      const Kind = (globalThis as unknown as Record<string, new (from: unknown) => ArrayBufferView>)[kind]!;
      const copy = new Kind(field);
      memory.push(copy.buffer as ArrayBuffer);
      return copy;
    }
    if (typeof field !== "object" || field === null || Array.isArray(field)) return field;
    return Object.fromEntries(Object.entries(field).map(([name, value]) => [name, own(value)]));
  };
  return own(sample) as Sample;
}

/** What can be said of anything thrown. */
export function failureOf(thrown: unknown): DecodeFailure {
  if (typeof thrown !== "object" || thrown === null || typeof (thrown as Error).message !== "string")
    return { name: "Error", message: String(thrown) };
  const { name, message, stack, fix } = thrown as Error & { fix?: unknown };
  return {
    name: String(name),
    message,
    ...(typeof stack === "string" && { stack }),
    ...(typeof fix === "string" && { fix }),
  };
}
