/**
 * Which component of a mixture the next sequence comes from: the one that lags its weight most, so that after n
 * sequences each has its share to within one (the blending of Megatron-LM). Its position is the number taken from each.
 */
export class Blend {
  readonly taken: number[];
  private readonly shares: number[];

  constructor(weights: readonly number[]) {
    this.taken = weights.map(() => 0);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    this.shares = weights.map((weight) => weight / total);
  }

  get samples(): number {
    return this.taken.reduce((sum, count) => sum + count, 0);
  }

  /** Counts and returns the next component. */
  next(): number {
    const after = this.samples + 1;
    let component = 0;
    let largest = Number.NEGATIVE_INFINITY;
    this.shares.forEach((share, i) => {
      const lag = share * after - this.taken[i]!;
      if (lag > largest) {
        largest = lag;
        component = i;
      }
    });
    this.taken[component]!++;
    return component;
  }

  restore(taken: readonly number[]): void {
    taken.forEach((count, i) => {
      this.taken[i] = count;
    });
  }
}
