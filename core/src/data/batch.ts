import type { TokenArray, TokenizeProgress } from "./text/corpus.js";

/** One step's tokens, row-major `[batchSize, sequenceLength]`. */
export interface Batch {
  readonly batchSize: number;
  readonly sequenceLength: number;
  readonly inputs: Int32Array;
  /** The token after each input token. */
  readonly targets: Int32Array;
  /**
   * With `segments: true`: the number of the document within its sequence, from 1, for each input token; 0 where a sequence is not
   * full. Attention must stay within equal numbers.
   */
  readonly segments?: Int32Array;
  /** With `segments: true`: the distance of each input token from the start of its document within the sequence. */
  readonly positions?: Int32Array;
  /** With `segments: true`: 0 where the target belongs to another document than the input or the sequence is not full, else 1. */
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

/** How much was read of one source of a mixture. */
export interface SourceProgress {
  readonly name: string;
  /** Relative to those of the other sources. */
  readonly weight: number;
  /** Sequences given out since the start. */
  readonly sequences: number;
  /** Times that the source was read: 1.5 is half of a second time. Where its length is not known yet, whole times. */
  readonly epochs: number;
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
  /** How much of each source was given out. */
  progress?(): SourceProgress[];
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

/** A batch of rows that are pieces of one document each, `sequenceLength` places in all at most; see `bestFit`. */
export function batchOfPieces(
  rows: readonly (readonly TokenArray[])[],
  sequenceLength: number,
  after: DataPosition,
): Batch {
  const size = rows.length * sequenceLength;
  const batch = {
    batchSize: rows.length,
    sequenceLength,
    inputs: new Int32Array(size),
    targets: new Int32Array(size),
    segments: new Int32Array(size),
    positions: new Int32Array(size),
    weights: new Float32Array(size),
    after,
  };
  for (const [row, pieces] of rows.entries()) {
    let at = row * sequenceLength;
    for (const [i, piece] of pieces.entries()) {
      const end = at + piece.length - 1;
      batch.inputs.set(piece.subarray(0, -1), at);
      batch.targets.set(piece.subarray(1), at);
      batch.segments.fill(i + 1, at, end);
      batch.weights.fill(1, at, end);
      for (let k = at; k < end; k++) batch.positions[k] = k - at;
      at = end;
    }
  }
  return batch;
}
