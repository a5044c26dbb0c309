/** From items to batches: decoded in any order, put together in theirs. */
import type { JsonValue } from "../../files/json.js";
import type { Batch, BatchCounts, BatchFields, DataPosition } from "../batch.js";
import { DataError } from "../errors.js";
import type { Life } from "./ahead.js";
import { type BucketPlan, type Bundle, Collector } from "./buckets.js";
import { type CollateOptions, collate } from "./collate.js";
import type { DecodeReply } from "./decoding.js";
import type { EpochEnd, ItemOrder, ItemTask } from "./items.js";
import type { DecodePool } from "./pool.js";
import type { OnError, Sample } from "./types.js";

/** Where a loader stands. */
export interface LoaderPosition extends DataPosition {
  readonly kind: "loader";
  /** The next item: its epoch, and its place there. */
  epoch: number;
  next: number;
  /** Items before that place whose samples wait for others of their bucket. */
  held: JsonValue[];
  /** Items left out. */
  skipped: number;
  /** The share of the items, where it matters. */
  share: number;
  fingerprint: string;
}

/** An item that was left out. */
export interface SkippedItem {
  readonly index: number;
  readonly epoch: number;
  readonly message: string;
}

export interface PipelineOptions {
  readonly order: ItemOrder;
  readonly pool: DecodePool;
  readonly plan: BucketPlan;
  readonly collate: CollateOptions;
  readonly partial: "join" | "keep" | "drop";
  readonly training: boolean;
  readonly onError: OnError<Sample>;
  readonly onSkip: (item: SkippedItem) => void;
  readonly counts: ((sample: Sample) => Partial<BatchCounts>) | undefined;
  /** Whether somebody still wants what is decoded. */
  readonly life: Life;
}

type Decoded = { readonly task: ItemTask; readonly reply: DecodeReply } | EpochEnd;

/** Decodes so many items at a time, and gives them in their order. */
async function* inOrder(
  tasks: AsyncGenerator<ItemTask | EpochEnd>,
  pool: DecodePool,
  window: number,
  { training, life }: Pick<PipelineOptions, "training" | "life">,
): AsyncGenerator<Decoded> {
  const queue: (EpochEnd | { task: ItemTask; reply: Promise<DecodeReply> })[] = [];
  let exhausted = false;
  try {
    for (;;) {
      while (!exhausted && queue.length < window) {
        const { value, done } = await tasks.next();
        exhausted = done === true;
        if (exhausted) break;
        if (value.kind === "end") queue.push(value);
        else {
          const { item, index, epoch } = value;
          const reply = pool.decode({ item, index, epoch, training }, life);
          // Where it fails it is awaited later, or nobody is left to hear of it.
          reply.catch(() => {});
          queue.push({ task: value, reply });
        }
      }
      const head = queue.shift();
      if (head === undefined) return;
      if ("kind" in head) yield head;
      else yield { task: head.task, reply: await head.reply };
    }
  } finally {
    await tasks.return(undefined);
  }
}

/** Names an item in errors: `item 17 ({"path":"a.wav"})`. */
export function nameOf({ item, index }: Pick<ItemTask, "item" | "index">): string {
  let text: string;
  try {
    text = JSON.stringify(item) ?? String(item);
  } catch {
    text = String(item);
  }
  return `item ${index} (${text.length > 120 ? `${text.slice(0, 117)}...` : text})`;
}

/** The sample of an item; undefined for one that is left out. */
export function sampleOf(
  task: ItemTask,
  reply: DecodeReply,
  { plan, onError, onSkip }: Pick<PipelineOptions, "plan" | "onError" | "onSkip">,
): { sample: Sample; bucket: number } | undefined {
  const place = (sample: Sample) => {
    const bucket = plan.bucketOf(sample);
    if (bucket >= 0) return { sample, bucket };
    throw new DataError(
      `${nameOf(task)} is longer than the last bucket takes, ${JSON.stringify(plan.buckets.at(-1)!.bound)}`,
      'give larger `bounds` or `longest`, cut it in decode, or leave such items out with `onError: "skip"`',
    );
  };
  let error: DataError;
  try {
    if ("sample" in reply) return place(reply.sample);
    const { name, message, fix, stack } = reply.failure;
    const what = name === "Error" || name === "DataError" ? message : `${name}: ${message}`;
    const hint = 'mend it, or leave such items out with `onError: "skip"`';
    error = new DataError(`${nameOf(task)} of epoch ${task.epoch} cannot be decoded: ${what}`, fix ?? hint, {
      cause: stack ?? message,
    });
  } catch (thrown) {
    if (!(thrown instanceof DataError)) throw thrown;
    error = thrown;
  }
  const { item, index, epoch } = task;
  const decision = typeof onError === "function" ? onError(error, { item, index, epoch }) : onError;
  if (decision === "throw") throw error;
  if (decision !== "skip") return place(decision);
  onSkip({ index, epoch, message: error.message });
  return undefined;
}

async function* withHeld(
  held: readonly ItemTask[],
  tasks: AsyncGenerator<ItemTask | EpochEnd>,
): AsyncGenerator<ItemTask | EpochEnd> {
  yield* held;
  yield* tasks;
}

/**
 * The batches after a position. It holds nothing of the loader, which can be collected while this works ahead.
 *
 * Samples held in buckets come first after a resume, decoded again; then everything is as it was.
 */
export async function* batches(
  options: PipelineOptions,
  from: LoaderPosition,
): AsyncGenerator<Batch<BatchFields>> {
  const { order, pool, plan, partial, counts } = options;
  const collector = new Collector(plan);
  const restored = from.held.map((saved) => order.find(saved));
  let { samples, epoch, next, skipped } = from;
  const rows = Math.max(...plan.buckets.map((bucket) => bucket.rows));
  /** Batches, and samples, of this epoch; only known where it was seen from its start. */
  let [seen, given, whole] = [0, 0, from.next === 0];

  const make = ({ bucket, entries }: Bundle): Batch<BatchFields> => {
    samples += entries.length;
    given++;
    const held = [...[...collector.entries].map(({ task }) => task), ...restored];
    const after: LoaderPosition = {
      ...from,
      samples,
      epoch,
      next,
      skipped,
      held: held.map((task) => order.save(task)),
    };
    const named = entries.map(({ task, sample }) => ({ sample, name: () => nameOf(task) }));
    const fields = collate(named, options.collate, plan.buckets[bucket]!.bound);
    return {
      ...fields,
      batchSize: entries.length,
      counts: { samples: entries.length, ...sums(entries.map(({ sample }) => counts?.(sample))) },
      after,
    } as unknown as Batch<BatchFields>;
  };

  const tasks = withHeld([...restored], order.tasks({ epoch, next }));
  for await (const step of inOrder(tasks, pool, Math.max(rows, 2 * pool.width), options)) {
    if ("kind" in step) {
      if (partial === "keep" || (partial === "join" && step.last))
        for (const bundle of collector.flush()) yield make(bundle);
      if (partial === "drop") collector.clear();
      if (whole && seen === 0)
        throw new DataError(
          `All items of epoch ${step.epoch} were left out.`,
          "Look at `skipped` for the reasons.",
        );
      if (whole && given === 0 && partial === "drop") {
        throw new DataError(
          `The ${seen} items of an epoch fill no batch, and \`partial: "drop"\` leaves them all out.`,
          'Take a smaller batchSize, or `partial: "join"`.',
        );
      }
      [seen, given, whole] = [0, 0, true];
      continue;
    }
    const { task, reply } = step;
    if (restored.length > 0) restored.shift();
    else [epoch, next] = [task.epoch, task.ordinal + 1];
    const found = sampleOf(task, reply, {
      ...options,
      onSkip: (item) => {
        skipped++;
        options.onSkip(item);
      },
    });
    if (found === undefined) continue;
    seen++;
    const bundle = collector.add({ task, sample: found.sample }, found.bucket);
    if (bundle !== undefined) yield make(bundle);
  }
}

function sums(each: readonly (Partial<BatchCounts> | undefined)[]): Record<string, number> {
  const total: Record<string, number> = {};
  for (const counts of each)
    for (const [name, count] of Object.entries(counts ?? {})) total[name] = (total[name] ?? 0) + (count ?? 0);
  return total;
}
