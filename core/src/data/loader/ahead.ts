/** Work ahead of what is asked for, so much and no more. */

/** Tells those who work for somebody that nobody wants it any more. */
export interface Life {
  closed: boolean;
}

/** Runs a generator so many values ahead. */
export class Ahead<T> {
  private readonly ready: T[] = [];
  private failed: { readonly error: unknown } | undefined;
  private ended = false;
  private wake = () => {};

  constructor(
    private readonly source: AsyncGenerator<T>,
    private readonly count: number,
    private readonly life: Life,
  ) {
    void this.run();
  }

  /** The next value, or undefined after the last one. */
  async next(): Promise<T | undefined> {
    while (this.ready.length === 0 && !this.ended && !this.life.closed) {
      if (this.failed !== undefined) throw this.failed.error;
      await this.change();
    }
    const value = this.ready.shift();
    this.wake();
    return value;
  }

  close(): void {
    this.life.closed = true;
    this.ready.length = 0;
    this.wake();
  }

  private async run(): Promise<void> {
    try {
      for await (const value of this.source) {
        if (this.life.closed) break;
        this.ready.push(value);
        this.wake();
        while (this.ready.length >= this.count && !this.life.closed) await this.change();
        if (this.life.closed) break;
      }
      this.ended = true;
    } catch (error) {
      this.failed = { error };
    }
    this.wake();
  }

  /** One waits at a time or both: each looks again at what it waits for. */
  private change(): Promise<void> {
    return new Promise((resolve) => {
      const before = this.wake;
      this.wake = () => {
        this.wake = () => {};
        before();
        resolve();
      };
    });
  }
}
