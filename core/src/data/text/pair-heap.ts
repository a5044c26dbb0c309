/** A binary heap of (count, key): the largest count first, of equal counts the smallest key. */
export class PairHeap {
  private readonly counts: number[] = [];
  private readonly keys: number[] = [];

  push(count: number, key: number): void {
    let at = this.keys.length;
    this.counts.push(count);
    this.keys.push(key);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.before(at, parent)) break;
      this.swap(at, parent);
      at = parent;
    }
  }

  pop(): { count: number; key: number } | undefined {
    const size = this.keys.length;
    if (size === 0) return undefined;
    this.swap(0, size - 1);
    const top = { count: this.counts.pop()!, key: this.keys.pop()! };
    let at = 0;
    for (;;) {
      let best = at;
      for (let child = 2 * at + 1; child <= 2 * at + 2 && child < size - 1; child++) {
        if (this.before(child, best)) best = child;
      }
      if (best === at) return top;
      this.swap(at, best);
      at = best;
    }
  }

  private before(a: number, b: number): boolean {
    const difference = this.counts[a]! - this.counts[b]!;
    return difference > 0 || (difference === 0 && this.keys[a]! < this.keys[b]!);
  }

  private swap(a: number, b: number): void {
    const count = this.counts[a]!;
    const key = this.keys[a]!;
    this.counts[a] = this.counts[b]!;
    this.keys[a] = this.keys[b]!;
    this.counts[b] = count;
    this.keys[b] = key;
  }
}
