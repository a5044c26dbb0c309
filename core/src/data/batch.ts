import type { TokenArray, TokenizeProgress } from "./corpus.js";

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

/**
 * A batch of rows of sequenceLength + 1 tokens: inputs and targets overlap. With `eosId`, it has segments, positions and
 * weights.
 */
export function batchOf(rows: readonly TokenArray[], after: DataPosition, eosId?: number): Batch {
  const length = rows[0]!.length - 1;
  const inputs = new Int32Array(rows.length * length);
  const targets = new Int32Array(rows.length * length);
  rows.forEach((row, i) => {
    inputs.set(row.subarray(0, length), i * length);
    targets.set(row.subarray(1), i * length);
  });
  const batch = { batchSize: rows.length, sequenceLength: length, inputs, targets, after };
  return eosId === undefined ? batch : { ...batch, ...documentSegments(inputs, length, eosId) };
}

/** Segment numbers, positions and loss weights of packed rows; see `Batch`. */
function documentSegments(inputs: Int32Array, sequenceLength: number, eosId: number) {
  const segments = new Int32Array(inputs.length);
  const positions = new Int32Array(inputs.length);
  const weights = new Float32Array(inputs.length);
  for (let row = 0; row < inputs.length; row += sequenceLength) {
    let segment = 1;
    let start = row;
    for (let i = row; i < row + sequenceLength; i++) {
      segments[i] = segment;
      positions[i] = i - start;
      const ends = inputs[i] === eosId;
      weights[i] = ends ? 0 : 1;
      if (ends) {
        segment++;
        start = i + 1;
      }
    }
  }
  return { segments, positions, weights };
}
