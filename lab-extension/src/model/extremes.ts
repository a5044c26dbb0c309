const BLOCK_BITS = 6;
const BLOCK = 1 << BLOCK_BITS;
const LEVELS = 3;

/** One level: of each block of the level below (of values, at the first) where its lowest and its highest finite value lie, -1 for none. */
interface Level {
  lowest: Int32Array;
  highest: Int32Array;
  blocks: number;
}

/** Of each of the smallest blocks the sum of its finite values, and how many they are. */
interface Sums {
  sum: Float64Array;
  count: Uint8Array;
}

/**
 * Finds the lowest and the highest finite value of any range of a list that grows, without looking at all of it: blocks of 64, 4096 and
 * 262,144 values are remembered.
 */
export class Extremes {
  /** Takes notice of the values up to `length`. */
  extend(values: Float64Array, length: number): void {
    this.#values = values;
    this.#length = length;
    for (let depth = 0; depth < LEVELS; depth++) {
      const level = this.#levels[depth]!;
      const shift = BLOCK_BITS * (depth + 1);
      const blocks = length >> shift;
      if (blocks > level.lowest.length) {
        const capacity = Math.max(blocks, Math.ceil(level.lowest.length * 1.5), 16);
        level.lowest = grown(level.lowest, capacity);
        level.highest = grown(level.highest, capacity);
        if (depth === 0) {
          this.#sums = { sum: grown64(this.#sums.sum, capacity), count: grown8(this.#sums.count, capacity) };
        }
      }
      for (let block = level.blocks; block < blocks; block++) {
        const from = block << shift;
        this.#scan(from, from + (1 << shift), depth - 1);
        level.lowest[block] = this.low;
        level.highest[block] = this.high;
        if (depth === 0) {
          this.#sumValues(from, from + BLOCK);
          this.#sums.sum[block] = this.#sum;
          this.#sums.count[block] = this.#count;
        }
      }
      level.blocks = blocks;
    }
  }

  /** Forgets the values from `length` on. */
  truncate(length: number): void {
    this.#length = Math.min(this.#length, length);
    for (let depth = 0; depth < LEVELS; depth++) {
      const level = this.#levels[depth]!;
      level.blocks = Math.min(level.blocks, length >> (BLOCK_BITS * (depth + 1)));
    }
  }

  /** Index of the lowest and of the highest value of the last `find`, -1 where there was no finite one. */
  low = -1;
  high = -1;

  /** Sets `low` and `high` to where the extremes of the values from `from` up to `to` lie. */
  find(from: number, to: number): void {
    this.#scan(from, Math.min(to, this.#length), LEVELS - 1);
  }

  /** The mean of the finite values from `from` up to `to`, NaN where there is none. */
  mean(from: number, to: number): number {
    const end = Math.min(to, this.#length);
    const first = (from + BLOCK - 1) >> BLOCK_BITS;
    const last = Math.min(end >> BLOCK_BITS, this.#levels[0]!.blocks);
    if (last <= first) {
      this.#sumValues(from, end);
      return this.#sum / this.#count;
    }
    this.#sumValues(from, first << BLOCK_BITS);
    let sum = this.#sum;
    let count = this.#count;
    this.#sumValues(last << BLOCK_BITS, end);
    sum += this.#sum;
    count += this.#count;
    for (let block = first; block < last; block++) {
      sum += this.#sums.sum[block]!;
      count += this.#sums.count[block]!;
    }
    return sum / count;
  }

  #sumValues(from: number, to: number): void {
    let sum = 0;
    let count = 0;
    for (let i = from; i < to; i++) {
      const value = this.#values[i]!;
      if (value - value === 0) {
        sum += value;
        count += 1;
      }
    }
    this.#sum = sum;
    this.#count = count;
  }

  #scan(from: number, to: number, depth: number): void {
    this.low = -1;
    this.high = -1;
    this.#least = Number.POSITIVE_INFINITY;
    this.#most = Number.NEGATIVE_INFINITY;
    this.#include(from, to, depth);
  }

  #include(from: number, to: number, depth: number): void {
    if (depth < 0 || to - from < BLOCK) {
      this.#includeValues(from, to);
      return;
    }
    const shift = BLOCK_BITS * (depth + 1);
    const level = this.#levels[depth]!;
    const first = (from + (1 << shift) - 1) >> shift;
    const last = Math.min(to >> shift, level.blocks);
    if (last <= first) {
      this.#include(from, to, depth - 1);
      return;
    }
    this.#include(from, first << shift, depth - 1);
    const values = this.#values;
    for (let block = first; block < last; block++) {
      const low = level.lowest[block]!;
      if (low >= 0) {
        const high = level.highest[block]!;
        if (values[low]! < this.#least) {
          this.#least = values[low]!;
          this.low = low;
        }
        if (values[high]! > this.#most) {
          this.#most = values[high]!;
          this.high = high;
        }
      }
    }
    this.#include(last << shift, to, depth - 1);
  }

  #includeValues(from: number, to: number): void {
    const values = this.#values;
    let { low, high } = this;
    let least = this.#least;
    let most = this.#most;
    for (let i = from; i < to; i++) {
      const value = values[i]!;
      // False for NaN; an infinity is no value that could be drawn.
      if (value < least && value > Number.NEGATIVE_INFINITY) {
        least = value;
        low = i;
      }
      if (value > most && value < Number.POSITIVE_INFINITY) {
        most = value;
        high = i;
      }
    }
    this.low = low;
    this.high = high;
    this.#least = least;
    this.#most = most;
  }

  #values: Float64Array = new Float64Array();
  #length = 0;
  #least = 0;
  #most = 0;
  #sum = 0;
  #count = 0;
  #sums: Sums = { sum: new Float64Array(), count: new Uint8Array() };
  readonly #levels: Level[] = Array.from({ length: LEVELS }, () => ({
    lowest: new Int32Array(),
    highest: new Int32Array(),
    blocks: 0,
  }));
}

function grown(old: Int32Array, capacity: number): Int32Array<ArrayBuffer> {
  const array = new Int32Array(capacity);
  array.set(old);
  return array;
}

function grown64(old: Float64Array, capacity: number): Float64Array<ArrayBuffer> {
  const array = new Float64Array(capacity);
  array.set(old);
  return array;
}

function grown8(old: Uint8Array, capacity: number): Uint8Array<ArrayBuffer> {
  const array = new Uint8Array(capacity);
  array.set(old);
  return array;
}
