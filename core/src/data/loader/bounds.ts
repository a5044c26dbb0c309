/** Bounds of buckets, made of the lengths of some items. */
import type { PrepareOptions } from "../batch.js";
import { DataError } from "../errors.js";
import { bar, progressLine } from "../progress-line.js";
import { permutation } from "../random.js";
import type { TokenizeProgress } from "../text/corpus.js";
import { chooseBounds, measureOf } from "./buckets.js";
import type { DecodeTask } from "./decoding.js";
import type { ItemOrder, ItemTask } from "./items.js";
import type { Settings } from "./options.js";
import type { DecodePool } from "./pool.js";
import type { BucketOptions, Sample } from "./types.js";

/** What decoding an item for its shape alone takes. */
export function taskOf({ item, index, epoch }: ItemTask): DecodeTask {
  return { item, index, epoch, training: true };
}

/** Decodes some items, each time the same ones, and chooses bounds for their lengths; see `chooseBounds`. */
export async function measureBounds(
  order: ItemOrder,
  pool: DecodePool,
  buckets: BucketOptions,
  { pad, seed }: Settings,
  { onProgress, signal }: PrepareOptions,
): Promise<number[]> {
  const { padding = 0.1, count = 16, measure = 1000, longest = 0, length } = buckets;
  const lengthOf = measureOf({ length, pad });
  const report = onProgress ?? measuringLine();
  const started = performance.now();
  const wanted = Math.min(order.length ?? measure, measure);
  const tell = (items: number, done: boolean) =>
    report({
      source: "items",
      documents: items,
      characters: 0,
      tokens: 0,
      fraction: items / wanted,
      seconds: (performance.now() - started) / 1000,
      done,
    });
  const lengths: number[] = [];
  let failed: { readonly error: unknown } | undefined;
  const measureOne = async (task: ItemTask) => {
    try {
      const decoded = await pool.decode(taskOf(task), { closed: false });
      // What cannot be decoded is told in its turn.
      if ("sample" in decoded) lengths.push(lengthOf(decoded.sample as Sample));
    } catch (error) {
      failed ??= { error };
    }
  };
  const running = new Set<Promise<void>>();
  let [begun, told] = [0, started];
  for await (const task of measuredTasks(order, wanted, seed)) {
    signal?.throwIfAborted();
    if (failed !== undefined) break;
    const one = measureOne(task).finally(() => running.delete(one));
    running.add(one);
    if (running.size >= 2 * pool.width) await Promise.race(running);
    begun++;
    if (performance.now() - told < 100) continue;
    told = performance.now();
    tell(begun, false);
  }
  await Promise.all(running);
  if (failed !== undefined) throw failed.error;
  tell(begun, true);
  if (lengths.length === 0) {
    throw new DataError(
      "No item could be decoded to make the buckets' bounds.",
      "Give `bounds`, or look at decode.",
    );
  }
  const multiple = Math.max(1, ...Object.values(pad).map((each) => each.multiple ?? 1));
  const chosen = chooseBounds(lengths, padding, count);
  chosen[chosen.length - 1] = Math.max(longest, chosen.at(-1)!);
  return [...new Set(chosen.map((bound) => Math.max(multiple, Math.ceil(bound / multiple) * multiple)))];
}

/** Some items of the first epoch. */
async function* measuredTasks(order: ItemOrder, count: number, seed: number): AsyncGenerator<ItemTask> {
  if (order.length !== undefined) {
    for (const ordinal of permutation(order.length, [seed, 0xb0]).subarray(0, count))
      yield order.find([0, ordinal]);
    return;
  }
  let given = 0;
  for await (const step of order.tasks({ epoch: 0, next: 0 })) {
    if (step.kind === "end" || given++ >= count) return;
    yield step;
  }
}

function measuringLine(): (progress: TokenizeProgress) => void {
  return progressLine<TokenizeProgress>(({ fraction = 0, documents, seconds, done }) => {
    const left = !done && fraction > 0 ? `, ${Math.ceil((seconds * (1 - fraction)) / fraction)} s left` : "";
    return `Measuring items ${bar(fraction)} ${Math.floor(100 * fraction)}% ${documents.toLocaleString("en")} items${left}`;
  });
}
