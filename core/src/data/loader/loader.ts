import { createHash } from "node:crypto";
import type {
  Batch,
  BatchFields,
  BatchShapes,
  BatchSource,
  DataPosition,
  PrepareOptions,
  SourceProgress,
} from "../batch.js";
import { heldOut } from "../epochs.js";
import { DataError, EndOfData } from "../errors.js";
import { iterate } from "../iterate.js";
import { waitFor } from "../waiting.js";
import { Ahead } from "./ahead.js";
import { measureBounds, taskOf } from "./bounds.js";
import { type BucketPlan, bucketPlan } from "./buckets.js";
import { shapesOf } from "./collate.js";
import { ArrayOrder, type ItemOrder, StreamOrder } from "./items.js";
import { type AnyLoaderOptions, type Settings, settingsOf } from "./options.js";
import {
  batches,
  type LoaderPosition,
  type PipelineOptions,
  type SkippedItem,
  sampleOf,
} from "./pipeline.js";
import { type DecodePool, localPool, WorkerPool } from "./pool.js";
import { callersFile, localDecode, recipeOf } from "./recipe.js";
import type {
  BucketBound,
  BucketOptions,
  Decode,
  DecodeModule,
  ItemStream,
  LoadedFields,
  LoaderOptions,
  Sample,
} from "./types.js";

/**
 * Batches of items that a function decodes in worker threads: images, recordings, whatever there is. The order, and what `decode` draws,
 * depend on `seed` alone, whatever the number and the speed of the workers; a position is found again exactly. Nothing starts before
 * `prepare` or the first batch.
 *
 * @throws DataError for options that cannot be; from `prepare` for a `decode` that cannot be sent to a worker
 */
export function loader<I, S extends object, C = undefined>(
  options: Omit<LoaderOptions<I, S, C>, "decode"> & { readonly decode: Decode<I, S, C> },
): Loader<LoadedFields<S>>;
export function loader<F extends object = BatchFields, I = unknown>(
  options: Omit<LoaderOptions<I, Sample, unknown>, "decode"> & { readonly decode: DecodeModule },
): Loader<F>;
export function loader(options: object): Loader<BatchFields> {
  return new Loader(options as AnyLoaderOptions, callersFile());
}

interface Prepared {
  readonly pool: DecodePool;
  readonly plan: BucketPlan;
}

/** What is to be closed when a loader is dropped without `close`, as a notebook cell that is run again drops it. */
class Resources {
  readonly pipelines = new Set<Ahead<unknown>>();
  pool: DecodePool | undefined;

  close(): void {
    for (const pipeline of this.pipelines) pipeline.close();
    this.pipelines.clear();
    this.pool?.close();
    this.pool = undefined;
  }
}

const dropped = new FinalizationRegistry<Resources>((resources) => resources.close());

/** Skipped items of which the reasons are kept. */
const reasonsKept = 100;

export class Loader<F extends object> implements BatchSource<F>, Disposable {
  private readonly settings: Settings;
  /** Known from the start, or once the buckets' bounds are made. */
  private plan: BucketPlan | undefined;
  private readonly order: ItemOrder;
  private readonly held: ItemOrder | undefined;
  private readonly fingerprint: string;
  private readonly resources = new Resources();
  private readonly reasons: SkippedItem[] = [];
  private preparing: Promise<Prepared> | undefined;
  private prepared: Prepared | undefined;
  private pipeline: Ahead<Batch<BatchFields>> | undefined;
  /** What `next` waits for; where the waiting was stopped, the next call goes on with it. */
  private coming: Promise<{ batch: Batch<BatchFields> | undefined } | { error: unknown }> | undefined;
  /** After the last batch that was given out. */
  private at: LoaderPosition;
  private waited = 0;
  private last: Promise<unknown> = Promise.resolve();

  /** @param base - a file in the folder that imports in `decode` are relative to */
  constructor(
    private readonly options: AnyLoaderOptions,
    private readonly base: string,
  ) {
    this.settings = settingsOf(options);
    const { buckets } = options;
    if (buckets === undefined || buckets.bounds !== undefined) this.plan = this.planOf(buckets?.bounds);
    const { order, held } = ordersOf(options, this.settings);
    this.order = order;
    this.held = held;
    this.fingerprint = fingerprintOf(options, this.settings);
    this.at = this.start();
    dropped.register(this, this.resources, this);
  }

  /** Rows of the largest batch; before the buckets' bounds are made in `prepare`, `batchSize` or 1. */
  get batchSize(): number {
    if (this.plan === undefined) return this.options.batchSize ?? 1;
    return Math.max(...this.plan.buckets.map(({ rows }) => rows));
  }

  /** Items that were left out so far by `onError`, the first hundred with their reasons. */
  get skipped(): { readonly count: number; readonly items: readonly SkippedItem[] } {
    return { count: this.at.skipped, items: this.reasons };
  }

  /** Loads `decode`, starts the workers and makes the bounds of the buckets. */
  async prepare(options: PrepareOptions = {}): Promise<void> {
    if (this.prepared !== undefined) return;
    this.preparing ??= this.load(options);
    try {
      this.prepared = await waitFor(this.preparing, "Preparing the data", [
        options.signal,
        this.options.signal,
      ]);
    } catch (error) {
      // Can be asked for again.
      this.preparing = undefined;
      this.resources.close();
      throw error;
    }
  }

  /** @throws DataError with the item that cannot be decoded; another call tries it again; EndOfData after the last epoch */
  next(): Promise<Batch<F>> {
    const turn = this.last.then(() => this.following());
    this.last = turn.catch(() => {});
    return turn;
  }

  private async following(): Promise<Batch<F>> {
    await this.prepare();
    this.pipeline ??= this.open(this.order, this.at, true);
    const { pipeline } = this;
    const started = performance.now();
    this.coming ??= pipeline.next().then(
      (batch) => ({ batch }),
      (error: unknown) => ({ error }),
    );
    const came = await waitFor(this.coming, "Waiting for a batch", [this.options.signal]);
    if (this.pipeline !== pipeline)
      throw new DataError("The loader was closed or restored while a batch was waited for.");
    this.coming = undefined;
    this.waited = (performance.now() - started) / 1000;
    if ("error" in came) {
      // The next call tries the item again.
      this.drop();
      throw came.error;
    }
    const { batch } = came;
    if (batch === undefined) {
      throw new EndOfData(
        `The data have ended after ${this.options.epochs} epochs, ${this.at.samples} rows.`,
        "Give more `epochs`, or none for data without end.",
      );
    }
    this.at = batch.after as LoaderPosition;
    return batch as unknown as Batch<F>;
  }

  async *validation(maxBatches = Number.POSITIVE_INFINITY): AsyncGenerator<Batch<F>, void> {
    if (this.held === undefined || maxBatches < 1) return;
    await this.prepare();
    const pipeline = this.open(this.held, this.start(), false);
    try {
      for (let i = 0; i < maxBatches; i++) {
        const batch = await waitFor(pipeline.next(), "Reading the validation data", [this.options.signal]);
        if (batch === undefined) return;
        yield batch as unknown as Batch<F>;
      }
    } finally {
      pipeline.close();
      this.resources.pipelines.delete(pipeline);
    }
  }

  position(): DataPosition {
    return { ...this.at, held: [...this.at.held] };
  }

  async restore(position: DataPosition): Promise<void> {
    const given = position as LoaderPosition;
    if (given.kind !== "loader" || given.version !== 1 || !Array.isArray(given.held))
      throw new DataError(`A position of kind "${position.kind}" does not belong to a loader.`);
    if (given.fingerprint !== this.fingerprint) {
      throw new DataError(
        `The position belongs to other data (${given.fingerprint}; these are ${this.fingerprint}): the items, seed, shuffle, ` +
          "validation or the number of shares differ.",
        "Use the same ones to continue a run, or start a new run from the checkpoint's weights.",
      );
    }
    const { index } = this.settings.shard;
    if (given.held.length > 0 && given.share !== index) {
      throw new DataError(
        `The position is that of share ${given.share}, whose samples wait in buckets; this is share ${index}.`,
        "Restore each share's own position.",
      );
    }
    this.drop();
    this.at = { ...given, share: index };
  }

  progress(): SourceProgress[] {
    const { epoch, next, samples } = this.at;
    const part = this.order.length === undefined ? 0 : next / this.order.length;
    return [{ name: "items", weight: 1, sequences: samples, epochs: epoch + part }];
  }

  /** `data_wait_seconds`: how long the last batch was waited for; `data_skipped`, once items were left out. */
  columns(): Record<string, number> {
    const { skipped } = this.at;
    return { data_wait_seconds: this.waited, ...(skipped > 0 && { data_skipped: skipped }) };
  }

  /** All sets of shapes, told by the first item; undefined where a length depends on the batch. Smaller last batches are not among them. */
  async shapes(): Promise<readonly BatchShapes[] | undefined> {
    await this.prepare();
    const { pool, plan } = this.prepared!;
    const { pad } = this.settings;
    const work = (async () => {
      for await (const step of this.order.tasks({ epoch: 0, next: 0 })) {
        if (step.kind === "end") break;
        const found = sampleOf(step, await pool.decode(taskOf(step), { closed: false }), this.reading(plan));
        if (found !== undefined) return found.sample;
      }
      return undefined;
    })();
    const sample = await waitFor(work, "Decoding the first item", [this.options.signal]);
    if (sample === undefined) return undefined;
    const collate = { pad, dtypes: this.options.dtypes ?? {} };
    const shapes: BatchShapes[] = [];
    for (const { bound, rows } of plan.buckets) {
      const fields = shapesOf(sample, rows, collate, bound);
      if (fields === undefined) return undefined;
      shapes.push({ batchSize: rows, fields });
    }
    return shapes;
  }

  [Symbol.asyncIterator](): AsyncGenerator<Batch<F>, void> {
    return iterate(this);
  }

  /** Ends the workers. The loader can be used again, from where it stands. */
  close(): void {
    this.drop();
    this.resources.close();
    this.prepared = undefined;
    this.preparing = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private drop(): void {
    if (this.pipeline === undefined) return;
    this.pipeline.close();
    this.resources.pipelines.delete(this.pipeline);
    this.pipeline = undefined;
    this.coming = undefined;
  }

  private start(): LoaderPosition {
    const share = this.settings.shard.index;
    const { fingerprint } = this;
    return {
      version: 1,
      kind: "loader",
      samples: 0,
      epoch: 0,
      next: 0,
      held: [],
      skipped: 0,
      share,
      fingerprint,
    };
  }

  private reading(plan: BucketPlan): Pick<PipelineOptions, "plan" | "onError" | "onSkip"> {
    const { reasons } = this;
    const known = new Set(reasons.map(({ epoch, index }) => `${epoch}.${index}`));
    return {
      plan,
      onError: this.options.onError ?? "throw",
      onSkip: (item) => {
        if (reasons.length >= reasonsKept || known.has(`${item.epoch}.${item.index}`)) return;
        known.add(`${item.epoch}.${item.index}`);
        if (reasons.length === 0) console.warn(`An item is left out: ${item.message}`);
        reasons.push(item);
      },
    };
  }

  private open(order: ItemOrder, from: LoaderPosition, training: boolean): Ahead<Batch<BatchFields>> {
    const { pool, plan } = this.prepared!;
    const { pad, partial, prefetch } = this.settings;
    const { counts, dtypes = {} } = this.options;
    const life = { closed: false };
    const made = batches(
      {
        ...this.reading(plan),
        order,
        pool,
        collate: { pad, dtypes },
        partial: training ? partial : "keep",
        training,
        counts,
        life,
      },
      from,
    );
    const pipeline = new Ahead(made, prefetch, life);
    this.resources.pipelines.add(pipeline);
    return pipeline;
  }

  private async load(options: PrepareOptions): Promise<Prepared> {
    const { context, buckets } = this.options;
    const { seed, workers } = this.settings;
    const pool =
      workers === 0
        ? localPool(await localDecode(this.options.decode), copied(context), seed)
        : new WorkerPool({
            recipe: await recipeOf(this.options.decode, this.base),
            context: copied(context),
            seed,
            workers,
            workerMemory: this.options.workerMemory,
          });
    this.resources.pool = pool;
    this.plan ??= this.planOf(
      await measureBounds(this.order, pool, buckets as BucketOptions, this.settings, options),
    );
    return { pool, plan: this.plan };
  }

  private planOf(bounds: readonly BucketBound[] | undefined): BucketPlan {
    const { buckets, batchSize, batchBudget } = this.options;
    const { pad, batchMultiple } = this.settings;
    const { length } = (buckets ?? {}) as BucketOptions;
    return bucketPlan({ bounds, length, pad, batchSize, batchBudget, batchMultiple });
  }
}

function copied(context: unknown): unknown {
  try {
    return structuredClone(context);
  } catch (error) {
    throw new DataError(
      `context cannot be copied to a worker thread: ${(error as Error).message}`,
      "Give values that structuredClone copies, and load modules inside `decode`.",
      { cause: error },
    );
  }
}

function ordersOf(
  options: AnyLoaderOptions,
  settings: Settings,
): { order: ItemOrder; held: ItemOrder | undefined } {
  const { seed, shuffle, shuffleWindow, shard } = settings;
  const training = { seed, shuffle, shuffleWindow, shard, epochs: options.epochs };
  const validating = { ...training, shuffle: false, shard: { index: 0, count: 1 }, epochs: 1 };
  const items = options.items as readonly unknown[] | ItemStream<unknown>;
  const validation = options.validation as number | readonly unknown[] | ItemStream<unknown> | undefined;
  if (typeof validation === "number" && validation !== 0) {
    if (typeof items === "function")
      throw new DataError(
        "validation is a share of a stream.",
        "Give the items that are held out: an array, or a function.",
      );
    const split = heldOut(items.length, validation, seed);
    return {
      order: new ArrayOrder(items, training, split.train),
      held: new ArrayOrder(items, validating, split.validation),
    };
  }
  const orderOf = (given: readonly unknown[] | ItemStream<unknown>, how: typeof training) =>
    typeof given === "function" ? new StreamOrder(given, how) : new ArrayOrder(given, how);
  return {
    order: orderOf(items, training),
    held:
      validation === undefined || validation === 0
        ? undefined
        : orderOf(validation as readonly unknown[], validating),
  };
}

/** Items that a fingerprint looks at. */
const looked = 1000;

/** Tells the items and all that decides their order. */
function fingerprintOf(options: AnyLoaderOptions, settings: Settings): string {
  const { seed, shuffle, shuffleWindow, shard } = settings;
  const items = options.items as readonly unknown[] | ItemStream<unknown>;
  const share = typeof options.validation === "number" ? options.validation : 0;
  const hash = createHash("sha256").update(JSON.stringify([seed, shuffle, share, shard.count]));
  if (typeof items === "function") hash.update(`stream ${shuffleWindow}`);
  else {
    hash.update(`${items.length}`);
    const step = Math.max(1, Math.floor(items.length / looked));
    for (let i = 0; i < items.length; i += step) hash.update(textOf(items[i]));
  }
  return hash.digest("hex").slice(0, 16);
}

function textOf(item: unknown): string {
  try {
    return JSON.stringify(item) ?? String(item);
  } catch {
    return String(item);
  }
}
