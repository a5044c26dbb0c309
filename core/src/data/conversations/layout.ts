/** How rows of conversations are laid into sequences, and the order in which those come. */
import type { Batch, DataPosition } from "../batch.js";
import { EpochOrder } from "../epochs.js";
import { chooseBounds } from "../loader/buckets.js";
import { permutation } from "../random.js";
import { bestFit } from "../text/best-fit.js";
import { type ChatRow, supervisedTokens } from "./types.js";

/** Rows side by side, and the size that they are filled up to. */
export interface Sequence {
  readonly rows: readonly ChatRow[];
  readonly size: SequenceSize;
}

export interface SequenceSize {
  /** Tokens. */
  readonly length: number;
  /** Places for targets that count. */
  readonly capacity: number;
}

/** Sequences of a data set, and which of them make a batch. */
export interface Layout {
  readonly sizes: readonly SequenceSize[];
  /** Batches an epoch; no whole number where a batch may reach into the next. */
  readonly batches: number;
  /** @param index - counted over all epochs */
  batch(index: number): readonly Sequence[];
}

export interface LayoutOptions {
  readonly batchSize: number;
  readonly seed: number;
  readonly shuffle: boolean;
  readonly share: { readonly index: number; readonly count: number };
}

/** Inputs of a row: all tokens but the last. */
const places = ({ ids }: ChatRow): number => ids.length - 1;

/** Targets that count of `rows`, as a capacity: few sizes, so that a further row does not mean another program. */
function capacityOf(most: number, length: number): number {
  const step = Math.max(1, Math.ceil(length / 16));
  return Math.min(length, Math.ceil(most / step) * step);
}

const targetsOf = (rows: readonly ChatRow[]): number =>
  rows.reduce((sum, row) => sum + supervisedTokens(row), 0);

/** Splits of a data set, each laid into sequences of common sizes. */
type Splits<T> = readonly (readonly T[])[];

/** Whole rows side by side in sequences of one length, by best fit; see `bestFit`. */
export function packedSequences(splits: Splits<ChatRow>, length: number): Sequence[][] {
  const packed = splits.map((rows) => {
    let end = 0;
    const ends = rows.map(({ ids }) => {
      end += ids.length;
      return end;
    });
    const rowAt = new Map(rows.map((row, i) => [ends[i]! - row.ids.length, row]));
    const bins = bestFit(ends, length);
    return Array.from({ length: bins.count }, (_, i) => bins.pieces(i).map(({ start }) => rowAt.get(start)!));
  });
  const most = packed.flat().reduce((max, each) => Math.max(max, targetsOf(each)), 0);
  const size = { length, capacity: capacityOf(most, length) };
  return packed.map((split) => split.map((rows) => ({ rows, size })));
}

/** A row a sequence, filled up to the length of its bucket. */
export function paddedSequences(splits: Splits<ChatRow>, bounds: readonly number[]): Sequence[][] {
  const bucketOf = (row: ChatRow) => bounds.findIndex((bound) => places(row) <= bound);
  const most = bounds.map(() => 0);
  for (const row of splits.flat()) {
    const bucket = bucketOf(row);
    most[bucket] = Math.max(most[bucket]!, supervisedTokens(row));
  }
  const sizes = bounds.map((length, i) => ({ length, capacity: capacityOf(most[i]!, length) }));
  return splits.map((rows) => rows.map((row) => ({ rows: [row], size: sizes[bucketOf(row)]! })));
}

/** Lengths that rows are filled up to: as few as leave at most `padding` of the places empty, multiples of 8. */
export function bucketBounds(
  rows: readonly ChatRow[],
  padding: number,
  count: number,
  longest: number,
): number[] {
  const lengths = rows.map(places);
  const chosen = chooseBounds(lengths, padding, count);
  return [...new Set(chosen.map((bound) => Math.min(longest, Math.ceil(bound / 8) * 8)))];
}

/** Sequences of one size, in another order in each epoch; a batch may hold those of the end of one and the beginning of the next. */
export function joinedLayout(sequences: readonly Sequence[], options: LayoutOptions): Layout {
  const { batchSize, seed, shuffle, share } = options;
  const order = new EpochOrder(sequences.length, seed, shuffle, share);
  return {
    sizes: [sequences[0]!.size],
    batches: order.length / batchSize,
    batch: (index) =>
      Array.from({ length: batchSize }, (_, i) => {
        const at = index * batchSize + i;
        return sequences[order.at(Math.floor(at / order.length), at % order.length)]!;
      }),
  };
}

/**
 * Sequences of several sizes: a batch is of one size. Those of a size that are left at the end of an epoch make a batch with empty sequences
 * beside them, which have no target.
 */
export function bucketedLayout(sequences: readonly Sequence[], options: LayoutOptions): Layout {
  const { batchSize, seed, shuffle, share } = options;
  const sizes = [...new Set(sequences.map(({ size }) => size))];
  const together = batchSize * share.count;
  const epochBatches = (epoch: number): Sequence[][] => {
    const order = shuffle
      ? permutation(sequences.length, [seed, 0xe90c, epoch])
      : Int32Array.from(sequences, (_, i) => i);
    const batches: Sequence[][] = [];
    const open = new Map<SequenceSize, Sequence[]>();
    for (const i of order) {
      const sequence = sequences[i]!;
      let batch = open.get(sequence.size);
      if (batch === undefined) {
        batch = [];
        open.set(sequence.size, batch);
      }
      batch.push(sequence);
      if (batch.length < together) continue;
      batches.push(batch);
      open.delete(sequence.size);
    }
    for (const [size, batch] of open)
      batches.push([
        ...batch,
        ...Array.from({ length: together - batch.length }, () => ({ rows: [], size })),
      ]);
    return batches;
  };
  let known = { epoch: 0, batches: epochBatches(0) };
  return {
    sizes,
    batches: known.batches.length,
    batch(index) {
      // Each epoch has as many: a size has the same number of sequences in all of them.
      const count = known.batches.length;
      const epoch = Math.floor(index / count);
      if (known.epoch !== epoch) known = { epoch, batches: epochBatches(epoch) };
      return known.batches[index % count]!.slice(share.index * batchSize, (share.index + 1) * batchSize);
    },
  };
}

/** A batch of conversations: of targets, -100 do not count. */
export interface ChatFields {
  readonly batchSize: number;
  readonly sequenceLength: number;
  readonly inputs: Int32Array;
  readonly targets: Int32Array;
  /** Of packed sequences. */
  readonly segments?: Int32Array;
  readonly positions?: Int32Array;
  /**
   * [batchSize, capacity]: the places of all targets that count, and of others so that there are as many in each row; each once, ascending. Absent where
   * nearly all places could count.
   */
  readonly supervised?: Int32Array;
}

export function batchOfSequences(
  sequences: readonly Sequence[],
  isPacked: boolean,
  after: DataPosition,
): Batch<ChatFields> {
  const { length, capacity } = sequences[0]!.size;
  const size = sequences.length * length;
  const inputs = new Int32Array(size);
  const targets = new Int32Array(size).fill(-100);
  const segments = new Int32Array(size);
  const positions = new Int32Array(size);
  const supervised = new Int32Array(sequences.length * capacity);
  let [tokens, learned] = [0, 0];
  for (const [r, { rows }] of sequences.entries()) {
    let at = r * length;
    let counting = 0;
    for (const [i, row] of rows.entries()) {
      const count = row.ids.length - 1;
      inputs.set(row.ids.subarray(0, count), at);
      segments.fill(i + 1, at, at + count);
      for (let k = 0; k < count; k++) positions[at + k] = k;
      for (const [start, end] of row.spans)
        for (let k = Math.max(1, start); k < end; k++) {
          targets[at + k - 1] = row.ids[k]!;
          counting++;
        }
      at += count;
      tokens += count;
    }
    learned += counting;
    // Others fill the row up, not one place again and again: their gradients, which are 0, would all be added there.
    let others = capacity - counting;
    let place = r * capacity;
    for (let i = 0; i < length; i++)
      if (targets[r * length + i] !== -100 || others-- > 0) supervised[place++] = i;
  }
  return {
    batchSize: sequences.length,
    sequenceLength: length,
    inputs,
    targets,
    ...(isPacked && { segments, positions }),
    ...(4 * capacity <= 3 * length && { supervised }),
    counts: { samples: sequences.length, tokens, supervised: learned },
    after,
  };
}
