import type { TokenizeProgress } from "./corpus.js";

/** One step's tokens, row-major `[batchSize, sequenceLength]`. */
export interface Batch {
  readonly batchSize: number;
  readonly sequenceLength: number;
  readonly inputs: Int32Array;
  /** The token after each input token. */
  readonly targets: Int32Array;
  /**
   * With `segments: true`: the number of the document within its sequence, from 1, for each input token. Attention must
   * stay within equal numbers.
   */
  readonly segments?: Int32Array;
  /** With `segments: true`: the distance of each input token from the start of its document within the sequence. */
  readonly positions?: Int32Array;
  /** With `segments: true`: 0 where the target belongs to another document than the input, else 1. */
  readonly weights?: Float32Array;
  /** The position of the source after this batch: what a checkpoint taken after this step must hold. */
  readonly after: DataPosition;
}

/** Where a source stands; plain JSON. */
export interface DataPosition {
  version: 1;
  kind: string;
  /** Sequences given out since the start. */
  samples: number;
  [detail: string]: number | string | number[];
}

export interface PrepareOptions {
  onProgress?: (progress: TokenizeProgress) => void;
  signal?: AbortSignal;
}

/** What a Trainer reads. Endless: after the last sequence the next epoch begins in another order. */
export interface BatchSource {
  readonly batchSize: number;
  readonly sequenceLength: number;
  /** Ids are below this. */
  readonly vocabSize: number;
  /** Reads and tokenizes; does nothing the second time. The other methods call it themselves. */
  prepare(options?: PrepareOptions): Promise<void>;
  next(): Promise<Batch>;
  /** Batches of the validation split, always the same ones in the same order; none without a validation split. */
  validation(maxBatches?: number): AsyncIterable<Batch>;
  position(): DataPosition;
  /** Goes to a position of the same source; refuses one of another source. */
  restore(position: DataPosition): Promise<void>;
}
