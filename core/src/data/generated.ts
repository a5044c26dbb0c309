import { refuseUnknown } from "../graph/spelling.js";
import type { Batch, BatchCounts, BatchFields, BatchSource, DataPosition } from "./batch.js";
import { DataError, EndOfData } from "./errors.js";
import { iterate } from "./iterate.js";
import { checkCount } from "./loader/options.js";
import { Sfc32 } from "./random.js";

export interface GeneratedOptions<F extends object> {
  /** Rows of each batch. */
  readonly batchSize: number;
  /**
   * The fields of a batch: a pure function of its number (from 0) and what it draws from `random`, which is seeded by `seed` and the number.
   */
  readonly make: (info: {
    readonly index: number;
    readonly random: Sfc32;
    readonly batchSize: number;
    /** False for the validation split. */
    readonly training: boolean;
  }) => F | Promise<F>;
  /** Default 0. */
  readonly seed?: number;
  /** Ends after so many; default endless. */
  readonly batches?: number;
  /** Batches of the validation split; default none. */
  readonly validation?: number;
  /** What throughput is reported in, of a batch; default its rows. */
  readonly counts?: (fields: F) => Partial<BatchCounts>;
}

/** Batches that a function makes of their number: synthetic data, examples, tests. A position is that number. */
export function generated<F extends object = BatchFields>(options: GeneratedOptions<F>): Generated<F> {
  return new Generated(options);
}

export class Generated<F extends object> implements BatchSource<F> {
  readonly batchSize: number;
  private index = 0;

  constructor(private readonly options: GeneratedOptions<F>) {
    const known = ["batchSize", "make", "seed", "batches", "validation", "counts"];
    refuseUnknown("data.generated: there is no option", Object.keys(options), known);
    if (options.batchSize === undefined)
      throw new DataError("There is no batchSize.", "Give the rows of a batch.");
    for (const name of ["batchSize", "batches", "validation"] as const) checkCount(name, options[name]);
    if (typeof options.make !== "function")
      throw new DataError(`make is ${typeof options.make}.`, "Give a function of { index, random }.");
    this.batchSize = options.batchSize;
  }

  async next(): Promise<Batch<F>> {
    const { batches } = this.options;
    if (batches !== undefined && this.index >= batches)
      throw new EndOfData(
        `The data have ended after ${batches} batches.`,
        "Give more `batches`, or none for data without end.",
      );
    // Counted before it is made: calls that overlap get different batches.
    const index = this.index++;
    try {
      return await this.batch(index, true, this.positionAt(index + 1));
    } catch (error) {
      this.index = Math.min(this.index, index);
      throw error;
    }
  }

  async *validation(maxBatches = Number.POSITIVE_INFINITY): AsyncGenerator<Batch<F>, void> {
    const count = Math.min(this.options.validation ?? 0, maxBatches);
    for (let index = 0; index < count; index++) yield this.batch(index, false, this.position());
  }

  position(): DataPosition {
    return this.positionAt(this.index);
  }

  async restore(position: DataPosition): Promise<void> {
    const { kind, index, seed } = position;
    if (kind !== "generated" || !Number.isSafeInteger(index) || (index as number) < 0)
      throw new DataError(`A position of kind "${kind}" does not belong to generated data.`);
    if (seed !== (this.options.seed ?? 0))
      throw new DataError(
        `The position belongs to the seed ${seed}; this is ${this.options.seed ?? 0}.`,
        "Use the same seed.",
      );
    this.index = index as number;
  }

  [Symbol.asyncIterator](): AsyncGenerator<Batch<F>, void> {
    return iterate(this);
  }

  private positionAt(index: number): DataPosition {
    const { seed = 0 } = this.options;
    return { version: 1, kind: "generated", samples: index * this.batchSize, index, seed };
  }

  private async batch(index: number, training: boolean, after: DataPosition): Promise<Batch<F>> {
    const { make, seed = 0, counts } = this.options;
    const { batchSize } = this;
    const random = new Sfc32([seed, training ? 0x6e1 : 0x6e2, index]);
    const fields = await make({ index, random, batchSize, training });
    return { ...fields, batchSize, counts: { samples: batchSize, ...counts?.(fields) }, after };
  }
}
