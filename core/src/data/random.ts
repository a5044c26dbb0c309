/**
 * The pseudo-random numbers of the data pipeline: sfc32 (Doty-Humphrey, PractRand), 128 bits of state, seeded by
 * splitmix32 over the given words and run 12 steps. The order of a training set is part of a run's result, so this
 * generator must not change: a new one gets a new name.
 */
export class Sfc32 {
  private a: number;
  private b: number;
  private c: number;
  private counter: number;

  /** @param words integers that identify the stream, for example `[seed, epoch]`; each is taken modulo 2^32. */
  constructor(words: readonly number[]) {
    let mix = 0x9e3779b9;
    const next = () => {
      mix = (mix + 0x9e3779b9) | 0;
      let z = mix;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return (z ^ (z >>> 15)) | 0;
    };
    let hash = 0;
    for (const word of words) {
      mix = (mix ^ word) | 0;
      hash = (Math.imul(hash, 31) + next()) | 0;
    }
    mix = (mix ^ hash) | 0;
    this.a = next();
    this.b = next();
    this.c = next();
    this.counter = 1;
    for (let i = 0; i < 12; i++) this.uint32();
  }

  /** The next integer in [0, 2^32). */
  uint32(): number {
    const sum = (((this.a + this.b) | 0) + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** A uniform integer in [0, bound), bound <= 2^32, without modulo bias (masked rejection). */
  below(bound: number): number {
    if (bound <= 1) return 0;
    const mask = 0xffffffff >>> Math.clz32(bound - 1);
    for (;;) {
      const value = (this.uint32() & mask) >>> 0;
      if (value < bound) return value;
    }
  }

  /** A uniform float64 in [0, 1) with 32 random bits. */
  uniform(): number {
    return this.uint32() / 0x100000000;
  }
}

/** A uniformly random order of 0..count-1 (Fisher-Yates), the same for the same words on every machine. */
export function permutation(count: number, words: readonly number[]): Int32Array {
  const order = new Int32Array(count);
  for (let i = 0; i < count; i++) order[i] = i;
  const random = new Sfc32(words);
  for (let i = count - 1; i > 0; i--) {
    const j = random.below(i + 1);
    const swap = order[i] as number;
    order[i] = order[j] as number;
    order[j] = swap;
  }
  return order;
}
