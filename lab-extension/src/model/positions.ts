import type { Run } from "./run.js";
import type { Series } from "./series.js";

/** Beyond so many steps back, an axis is no axis that a line could follow. */
const MOST_BREAKS = 200;

/**
 * Where the rows of a run lie on the x axis when they are drawn over one of its columns. A row that has no value of the column has no
 * position. Where the values go back, as after a resume, the rows fall into stretches that ascend; a column that goes back and forth all
 * the time makes a cloud of points.
 */
export class XPositions {
  constructor(
    private readonly run: Run,
    private readonly column: string,
  ) {}

  /** Rows at which the position is less than before, at most `MOST_BREAKS`. */
  get breaks(): readonly number[] {
    this.#extend();
    return this.#breaks;
  }

  /** The values go back and forth: they are to be drawn as points. */
  get isCloud(): boolean {
    this.#extend();
    return this.#isCloud;
  }

  /** The position of a row, NaN where it has none. */
  at(row: number): number {
    const series = this.#series;
    if (!series) {
      return this.column === "step" ? row : Number.NaN;
    }
    const index = series.indexOf(row);
    return index < 0 ? Number.NaN : this.#values[index]!;
  }

  /** Rows from `0` up to the last, in stretches in which the position does not go back. */
  stretches(): readonly (readonly [from: number, to: number])[] {
    const starts = [0, ...this.breaks];
    const { rowCount } = this.run;
    return starts.map((start, i) => [start, starts[i + 1] ?? rowCount] as const);
  }

  /** The row with a position nearest to `x`, of the newest stretch that has it; -1 without rows. */
  nearestRow(x: number): number {
    const series = this.#series;
    const stretches = this.stretches();
    if (!series && this.column !== "step") {
      return -1;
    }
    if (!series) {
      return Math.max(-1, Math.min(this.run.rowCount - 1, Math.max(0, Math.round(x))));
    }
    let best = -1;
    let distance = Number.POSITIVE_INFINITY;
    for (let s = stretches.length - 1; s >= 0; s--) {
      const [from, to] = stretches[s]!;
      let low = series.lowerBound(from);
      let high = series.lowerBound(to) - 1;
      if (high < low) {
        continue;
      }
      const values = this.#values;
      const first = low;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (values[middle]! < x) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      if (low > first && x - values[low - 1]! <= Math.abs(values[low]! - x)) {
        low -= 1;
      }
      const off = Math.abs(values[low]! - x);
      if (off < distance) {
        distance = off;
        best = series.rowOf(low);
      }
    }
    return best;
  }

  /** Rows that have a position; undefined for every one. */
  get series(): Series | undefined {
    return this.#series;
  }

  /** Whether any row has a position. */
  get isThere(): boolean {
    return this.#series !== undefined || this.column === "step";
  }

  get #series(): Series | undefined {
    const series = this.run.series(this.column);
    this.#values = series?.values ?? this.#values;
    return series;
  }

  #extend(): void {
    const series = this.#series;
    if (!series) {
      return;
    }
    const values = this.#values;
    for (let i = Math.max(1, this.#seen); i < values.length && !this.#isCloud; i++) {
      if (!(values[i]! >= values[i - 1]!)) {
        this.#breaks.push(series.rowOf(i));
        this.#isCloud = this.#breaks.length > MOST_BREAKS;
      }
    }
    this.#seen = values.length;
    if (this.#isCloud) {
      this.#breaks.length = 0;
    }
  }

  #values: Float64Array = new Float64Array();
  #seen = 0;
  #isCloud = false;
  readonly #breaks: number[] = [];
}
