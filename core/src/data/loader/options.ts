/** A loader's options, checked and with their defaults. */
import { availableParallelism } from "node:os";
import { refuseUnknown } from "../../graph/spelling.js";
import { DataError } from "../errors.js";
import { boundedFields } from "./buckets.js";
import type { LoaderOptions, PadOptions, Sample } from "./types.js";

export type AnyLoaderOptions = LoaderOptions<never, Sample, never>;

export interface Settings {
  readonly workers: number;
  readonly prefetch: number;
  readonly seed: number;
  readonly shuffle: boolean;
  readonly shuffleWindow: number;
  readonly batchMultiple: number;
  readonly pad: Readonly<Record<string, PadOptions>>;
  readonly partial: "join" | "keep" | "drop";
  readonly shard: { readonly index: number; readonly count: number };
}

const names: readonly (keyof LoaderOptions<unknown, unknown>)[] = [
  "items",
  "decode",
  "context",
  "workers",
  "workerMemory",
  "prefetch",
  "batchSize",
  "batchBudget",
  "batchMultiple",
  "pad",
  "buckets",
  "dtypes",
  "counts",
  "seed",
  "shuffle",
  "shuffleWindow",
  "epochs",
  "partial",
  "shard",
  "validation",
  "onError",
  "signal",
];
const padNames: readonly (keyof PadOptions)[] = ["value", "lengths", "axis", "length", "multiple"];
const bucketNames = ["length", "bounds", "padding", "count", "measure", "longest"];

/** @throws DataError with the option, its value and what it must be */
export function checkCount(name: string, value: number | undefined, atLeast = 1): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= atLeast)) return;
  throw new DataError(`${name} is ${JSON.stringify(value)}.`, `Give an integer of ${atLeast} or more.`);
}

export function checkOneOf(name: string, value: unknown, known: readonly unknown[]): void {
  if (value === undefined || known.includes(value)) return;
  throw new DataError(
    `${name} is ${JSON.stringify(value)}.`,
    `Give ${known.map((each) => JSON.stringify(each)).join(" or ")}.`,
  );
}

export function checkShare(shard: { readonly index: number; readonly count: number } | undefined): void {
  if (shard === undefined) return;
  const { index, count } = shard;
  if (Number.isInteger(index) && Number.isInteger(count) && index >= 0 && index < count) return;
  throw new DataError(
    `shard is ${JSON.stringify(shard)}.`,
    "Give { index, count } with an index below the count.",
  );
}

export function settingsOf(options: AnyLoaderOptions): Settings {
  const { items, decode, batchSize, batchBudget, buckets } = options;
  refuseUnknown("data.loader: there is no option", Object.keys(options), names);
  if (!Array.isArray(items) && typeof items !== "function") {
    throw new DataError(
      `items is ${items === null ? "null" : `of type ${typeof items}`}.`,
      "Give an array, or a function that gives an iterable of the items from the start: `items: () => readLines(path)`.",
    );
  }
  if (
    typeof decode !== "function" &&
    typeof (decode as { module?: unknown } | undefined)?.module !== "string"
  )
    throw new DataError(`decode is ${JSON.stringify(decode)}.`, "Give a function, or { module, export }.");
  for (const name of [
    "batchSize",
    "batchBudget",
    "batchMultiple",
    "prefetch",
    "shuffleWindow",
    "epochs",
    "workerMemory",
  ] as const)
    checkCount(name, options[name]);
  checkCount("workers", options.workers, 0);
  if (options.seed !== undefined && !Number.isSafeInteger(options.seed))
    throw new DataError(`seed is ${options.seed}.`, "Give an integer.");
  checkOneOf("shuffle", options.shuffle, [true, false]);
  checkOneOf("partial", options.partial, ["join", "keep", "drop"]);
  if (typeof options.onError !== "function") checkOneOf("onError", options.onError, ["throw", "skip"]);
  checkShare(options.shard);
  if (batchSize === undefined && batchBudget === undefined)
    throw new DataError("There is no batchSize.", "Give the rows of a batch, or with buckets a batchBudget.");
  if (batchBudget !== undefined && buckets === undefined)
    throw new DataError("batchBudget is for buckets.", "Give `buckets`, or a batchSize.");
  const { batchMultiple = 1, shard = { index: 0, count: 1 } } = options;
  if (batchSize !== undefined && batchSize % batchMultiple !== 0)
    throw new DataError(
      `batchSize ${batchSize} is no multiple of batchMultiple ${batchMultiple}.`,
      "Give a multiple.",
    );
  const pad = padOf(options.pad);
  checkBuckets(options, pad);
  return {
    workers: options.workers ?? Math.max(1, Math.min(8, availableParallelism() - 1)),
    prefetch: options.prefetch ?? 2,
    seed: options.seed ?? 0,
    shuffle: options.shuffle ?? true,
    shuffleWindow: options.shuffleWindow ?? 4096,
    batchMultiple,
    pad,
    partial: options.partial ?? "join",
    shard,
  };
}

function padOf(pad: AnyLoaderOptions["pad"] = {}): Record<string, PadOptions> {
  return Object.fromEntries(
    Object.entries(pad).map(([path, given]) => {
      const options = given === true ? {} : given;
      refuseUnknown(`data.loader: pad.${path} has no option`, Object.keys(options), padNames);
      checkCount(`pad.${path}.axis`, options.axis, 0);
      checkCount(`pad.${path}.length`, options.length);
      checkCount(`pad.${path}.multiple`, options.multiple);
      return [path, options];
    }),
  );
}

function checkBuckets({ buckets }: AnyLoaderOptions, pad: Readonly<Record<string, PadOptions>>): void {
  if (buckets === undefined) return;
  refuseUnknown("data.loader: buckets has no option", Object.keys(buckets), bucketNames);
  const fields = boundedFields(pad);
  if (fields.length === 0)
    throw new DataError(
      "buckets need a padded field.",
      "Name what differs in length, `pad: { audio: true }`.",
    );
  checkCount("buckets.count", buckets.count);
  checkCount("buckets.measure", buckets.measure);
  checkCount("buckets.longest", buckets.longest);
  const { padding = 0.1, bounds } = buckets;
  if (!(padding > 0 && padding < 1))
    throw new DataError(`buckets.padding is ${padding}.`, "Give a share between 0 and 1.");
  if (bounds === undefined) return;
  if (bounds.length === 0)
    throw new DataError("buckets.bounds is empty.", "Give at least one, or leave it out.");
  for (const [i, bound] of bounds.entries()) {
    const lengths = typeof bound === "number" ? [bound] : fields.map((path) => bound[path]);
    if (!lengths.every((length) => Number.isInteger(length) && length! > 0)) {
      throw new DataError(
        `buckets.bounds[${i}] is ${JSON.stringify(bound)}.`,
        `Give a positive integer, or one for each of ${fields.join(", ")}.`,
      );
    }
    const before = bounds[i - 1];
    const ascends =
      before === undefined || typeof bound !== "number" || (typeof before === "number" && bound > before);
    if (!ascends)
      throw new DataError(`buckets.bounds are ${JSON.stringify(bounds)}.`, "Give them in ascending order.");
  }
}
