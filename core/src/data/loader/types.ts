import type { TypedArray } from "../../array/hostdata.js";
import type { DType } from "../../graph/dtype.js";
import type { BatchCounts, BatchFields, HostArray, ShapedArray } from "../batch.js";
import type { DataError } from "../errors.js";
import type { Sfc32 } from "../random.js";

/**
 * What `decode` makes of an item, by name: host arrays (a bare typed array of n is of shape `[n]`), numbers, and objects of them. Strings
 * and truth values are static: they must be the same in all rows of a batch, and each of their values has a program of its own.
 */
export interface Sample {
  readonly [name: string]: HostArray | number | string | boolean | Sample | undefined;
}

/** What `decode` is told of its item. */
export interface DecodeInfo<C = unknown> {
  /** The loader's `context`, a copy in each worker. */
  readonly context: C;
  /** Of this sample: the same whichever worker decodes it, another in each epoch. */
  readonly random: Sfc32;
  /** 32 bits for another generator, drawn like `random`. */
  readonly seed: number;
  readonly epoch: number;
  /** The item's number in the items, from 0. */
  readonly index: number;
  /** False for the validation split: nothing should be augmented there. */
  readonly training: boolean;
  /** Aborts when the loader is closed. */
  readonly signal: AbortSignal;
}

export type Decode<I, S, C = unknown> = (item: I, info: DecodeInfo<C>) => S | Promise<S>;

/** An exported function of a module: `import.meta.url`, another `file:` URL, or a path from the working directory. */
export interface DecodeModule {
  readonly module: string;
  /** Default `"decode"`. */
  readonly export?: string;
}

/** How a field whose rows differ in length is filled up. */
export interface PadOptions {
  /** What fills it up; default 0. */
  readonly value?: number;
  /** The name of an int32 field `[batchSize]` with the rows' own lengths; default the field's name and `Lengths`; false for none. */
  readonly lengths?: string | false;
  /** The axis of a sample's array that differs; default 0. */
  readonly axis?: number;
  /** Always to this length, whatever the bucket; longer samples are refused. */
  readonly length?: number;
  /** Without buckets: to the next multiple of this, which makes fewer shapes. Default 1. */
  readonly multiple?: number;
}

/** The longest that a bucket takes: of all padded fields, or of each by its name. */
export type BucketBound = number | Readonly<Record<string, number>>;

export interface BucketOptions<S = Sample> {
  /** What is held against bounds that are numbers: a padded field's length (by default that of the longest one), or a function. */
  readonly length?: string | ((sample: S) => number);
  /** Ascending. A sample goes into the first bucket that takes it; one that none takes is refused as an item that cannot be decoded. */
  readonly bounds?: readonly BucketBound[];
  /**
   * Without `bounds`: they are made of the lengths of the items, as few as keep the share of filled-up places below this. Default 0.1.
   * Lengths are measured by decoding up to `measure` items in `prepare`.
   */
  readonly padding?: number;
  /** Makes no more bounds than this, whatever the padding. Default 16. */
  readonly count?: number;
  /** Items that are decoded to make bounds. Default 1000. */
  readonly measure?: number;
  /** The last bound that is made; default the longest that was measured. */
  readonly longest?: number;
}

export type OnError<S> =
  | "throw"
  | "skip"
  | ((
      error: DataError,
      item: { readonly item: unknown; readonly index: number; readonly epoch: number },
    ) => "throw" | "skip" | S);

/** Items that cannot be held as an array: called for each epoch, and after a resume; it must give the same items each time. */
export type ItemStream<I> = (epoch: number) => Iterable<I> | AsyncIterable<I>;

export interface LoaderOptions<I, S, C = unknown> {
  /** An array, or a function that gives an iterable of JSON values from the start. */
  readonly items: readonly I[] | ItemStream<I>;
  /**
   * Makes a sample of an item, in worker threads. A function is sent as its text: it may use its parameters, globals and
   * `await import(...)`, and no names from around it. Name an export where it needs those.
   */
  readonly decode: Decode<I, S, C> | DecodeModule;
  /** Constants for `decode`, copied into each worker (structured clone). */
  readonly context?: C;
  /** Threads; 0 decodes in this one. Default one fewer than there are cores, at most 8. */
  readonly workers?: number;
  /** MiB that a worker may take before it is ended. Default V8's own limit. */
  readonly workerMemory?: number;
  /** Batches made ahead. Default 2. */
  readonly prefetch?: number;
  /** Rows; with `batchBudget` at most this many. */
  readonly batchSize?: number;
  /** With buckets: a batch has as many rows as `budget / bound` of its bucket, so that all buckets take about the same memory. */
  readonly batchBudget?: number;
  /** Rows of a bucket are a multiple of this. Default 1. */
  readonly batchMultiple?: number;
  /** Fields whose rows differ in length. */
  readonly pad?: Readonly<Record<string, true | PadOptions>>;
  readonly buckets?: BucketOptions<S>;
  /** The element types of fields that `decode` gives as numbers; default float32. */
  readonly dtypes?: Readonly<Record<string, DType>>;
  /** What throughput is reported in, of one sample: `{ seconds: 1.5 }`. */
  readonly counts?: (sample: S) => Partial<BatchCounts>;
  /** Decides the order and what `decode` draws. Default 0. */
  readonly seed?: number;
  /** Another order in each epoch. Default true. */
  readonly shuffle?: boolean;
  /** Items of a stream that are shuffled among each other. Default 4096. */
  readonly shuffleWindow?: number;
  /** Ends after so many; default endless. */
  readonly epochs?: number;
  /**
   * Rows that are left when an epoch ends: `"join"` (default) puts them into the next epoch's first batches, `"keep"` gives smaller batches,
   * `"drop"` leaves them out. At the end of `epochs`, `"join"` gives a smaller batch too.
   */
  readonly partial?: "join" | "keep" | "drop";
  /** This host's share of each epoch's items: every `count`th, from `index`. What does not divide evenly is left out that epoch. */
  readonly shard?: { readonly index: number; readonly count: number };
  /** The share of an array's items held out, or items of their own. Default none. */
  readonly validation?: number | readonly I[] | ItemStream<I>;
  /** What to do with an item that cannot be decoded. Default `"throw"`. */
  readonly onError?: OnError<S>;
  /** Stops waiting for a batch; the loader can be used again. */
  readonly signal?: AbortSignal;
}

/** The fields of a batch of samples: each array gets an axis of rows in front, numbers become `[batchSize]`. */
export type LoadedFields<S> = {
  readonly [K in keyof S]: S[K] extends string | boolean
    ? S[K]
    : S[K] extends TypedArray | number | ShapedArray
      ? ShapedArray
      : S[K] extends object
        ? LoadedFields<S[K]>
        : S[K];
} & { readonly [K in keyof S & string as `${K}Lengths`]?: ShapedArray } & BatchFields;
