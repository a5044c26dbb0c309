/** Which samples go into one batch. */
import { DataError } from "../errors.js";
import { lengthOf } from "./collate.js";
import type { ItemTask } from "./items.js";
import type { BucketBound, PadOptions, Sample } from "./types.js";

/** Buckets, each with the longest sample that it takes and its rows. Without bounds there is one that takes all. */
export interface BucketPlan {
  readonly buckets: readonly { readonly bound: BucketBound | undefined; readonly rows: number }[];
  /** The first bucket that takes a sample, or -1. */
  bucketOf(sample: Sample): number;
}

export interface PlanOptions {
  readonly bounds: readonly BucketBound[] | undefined;
  readonly length: string | ((sample: Sample) => number) | undefined;
  readonly pad: Readonly<Record<string, PadOptions>>;
  readonly batchSize: number | undefined;
  readonly batchBudget: number | undefined;
  readonly batchMultiple: number;
}

export function bucketPlan(options: PlanOptions): BucketPlan {
  const { bounds, batchSize } = options;
  if (bounds === undefined) {
    return { buckets: [{ bound: undefined, rows: batchSize! }], bucketOf: () => 0 };
  }
  const measure = measureOf(options);
  const fields = boundedFields(options.pad);
  const takes = (bound: BucketBound, sample: Sample) =>
    typeof bound === "number"
      ? measure(sample) <= bound
      : fields.every((path) => lengthOf(sample, path, options.pad[path]!) <= bound[path]!);
  return {
    buckets: bounds.map((bound) => ({ bound, rows: rowsOf(bound, options) })),
    bucketOf: (sample) => bounds.findIndex((bound) => takes(bound, sample)),
  };
}

/** Padded fields that are filled up to a bucket's bound. */
export function boundedFields(pad: Readonly<Record<string, PadOptions>>): string[] {
  return Object.keys(pad).filter((path) => pad[path]!.length === undefined);
}

/** What is held against bounds that are numbers. */
export function measureOf({ length, pad }: Pick<PlanOptions, "length" | "pad">): (sample: Sample) => number {
  if (typeof length === "function") return length;
  if (length !== undefined) return (sample) => lengthOf(sample, length, pad[length] ?? {});
  const fields = boundedFields(pad);
  return (sample) => Math.max(...fields.map((path) => lengthOf(sample, path, pad[path]!)));
}

function rowsOf(bound: BucketBound, { length, batchSize, batchBudget, batchMultiple }: PlanOptions): number {
  if (batchBudget === undefined) return batchSize!;
  const longest =
    typeof bound === "number"
      ? bound
      : ((typeof length === "string" ? bound[length] : undefined) ?? Math.max(...Object.values(bound)));
  const rows = Math.min(
    batchSize ?? Number.POSITIVE_INFINITY,
    Math.floor(batchBudget / Math.max(1, longest)),
  );
  const even = rows - (rows % batchMultiple);
  if (even < 1) {
    throw new DataError(
      `batchBudget ${batchBudget} has no room for ${batchMultiple === 1 ? "a row" : `${batchMultiple} rows`} of ${longest}.`,
      "Give a larger batchBudget or smaller bounds.",
    );
  }
  return even;
}

/** A sample that waits for others. */
export interface Entry {
  readonly task: ItemTask;
  readonly sample: Sample;
}

export interface Bundle {
  readonly bucket: number;
  readonly entries: readonly Entry[];
}

/** Collects samples until a bucket has its rows. */
export class Collector {
  private readonly held: Entry[][];
  /** In the order in which they came. */
  private readonly arrived = new Set<Entry>();

  constructor(private readonly plan: BucketPlan) {
    this.held = plan.buckets.map(() => []);
  }

  get entries(): Iterable<Entry> {
    return this.arrived;
  }

  add(entry: Entry, bucket: number): Bundle | undefined {
    const held = this.held[bucket]!;
    held.push(entry);
    this.arrived.add(entry);
    return held.length < this.plan.buckets[bucket]!.rows ? undefined : this.take(bucket);
  }

  /** The smaller batches that are left, from the shortest bucket on. */
  *flush(): Iterable<Bundle> {
    for (const [bucket, held] of this.held.entries()) if (held.length > 0) yield this.take(bucket);
  }

  clear(): void {
    for (const held of this.held) held.length = 0;
    this.arrived.clear();
  }

  private take(bucket: number): Bundle {
    const entries = this.held[bucket]!.splice(0);
    for (const entry of entries) this.arrived.delete(entry);
    return { bucket, entries };
  }
}

/** Lengths that bounds are chosen from: more make no better ones. */
const candidates = 256;

/**
 * Bounds of the fewest buckets for which the share of filled-up places stays below `padding`, and of at most `count`: the best ones of
 * that number, by dynamic programming over the lengths that occur (over their quantiles, where there are many).
 */
export function chooseBounds(lengths: readonly number[], padding: number, count: number): number[] {
  const sorted = Float64Array.from(lengths).sort();
  const n = sorted.length;
  // The ends of runs: a bucket takes all of one length or none.
  const ends: number[] = [];
  for (let i = 1; i <= candidates; i++) {
    let at = Math.max(1, Math.ceil((n * i) / candidates));
    while (at < n && sorted[at] === sorted[at - 1]) at++;
    if (at !== ends.at(-1)) ends.push(at);
  }
  const total = sorted.reduce((sum, length) => sum + length, 0);
  const bound = (end: number) => sorted[ends[end]! - 1]!;
  const begin = (end: number) => (end < 0 ? 0 : ends[end]!);
  /** The places that the best buckets take for all up to an end, and the end before the last bucket. */
  let best = ends.map((end, i) => ({ places: end * bound(i), before: [] as number[] }));
  for (let buckets = 1; ; buckets++) {
    const { places, before } = best.at(-1)!;
    if (buckets >= Math.min(count, ends.length) || 1 - total / places < padding)
      return [...before, ends.length - 1].map(bound);
    best = ends.map((end, i) => {
      let found = best[i]!;
      for (let cut = 0; cut < i; cut++) {
        const sum = best[cut]!.places + (end - begin(cut)) * bound(i);
        if (sum < found.places) found = { places: sum, before: [...best[cut]!.before, cut] };
      }
      return found;
    });
  }
}
