import type { TypedArray } from "../array/hostdata.js";
import type { JsonValue } from "../files/json.js";
import type { DType } from "../graph/dtype.js";
import type { TokenArray, TokenizeProgress } from "./text/corpus.js";

/**
 * A host array of a batch. A bare typed array has its shape from the batch: `[batchSize, sequenceLength]` in a batch of sequences, else
 * `[batchSize]` or, with k times as many elements, `[batchSize, k]`. Any other shape or element type is said.
 */
export type HostArray = TypedArray | ShapedArray;

/** A host array with its shape, row-major. */
export interface ShapedArray {
  readonly data: TypedArray;
  readonly shape: readonly number[];
  /** Of the device's array, where the typed array does not tell: `bool` for bytes, `bfloat16` for their bits in a Uint16Array. */
  readonly dtype?: DType;
  /**
   * The axis that runs over the batch's rows, which `accumulate` and `parallel` split; null for an array that all rows share, which every
   * part and device gets whole. Default 0.
   */
  readonly batchAxis?: number | null;
}

/**
 * What a batch holds, by name: host arrays, and objects of them. Strings and truth values are static: each of their values has a program of
 * its own.
 */
export interface BatchFields {
  readonly [name: string]: HostArray | string | boolean | BatchFields | undefined;
}

/** How much a batch holds: what throughput is reported in. Other names give columns of their own. */
export interface BatchCounts {
  /** Rows. */
  readonly samples: number;
  readonly tokens?: number;
  readonly frames?: number;
  readonly seconds?: number;
  readonly [other: string]: number | undefined;
}

/** What is said of a batch, beside its fields. */
export interface BatchInfo {
  /** Rows; default the length of the fields' batch axis, where one has a shape. */
  readonly batchSize?: number;
  /** Of a batch of sequences of one length. */
  readonly sequenceLength?: number;
  /** Default the rows, and in a batch of sequences their tokens. */
  readonly counts?: Partial<BatchCounts>;
  /** The position of the source after this batch: what a checkpoint taken after this step must hold. */
  readonly after: DataPosition;
}

/** One step's data: named host arrays of any shapes and element types. By default a batch of tokens. */
export type Batch<F extends object = TokenFields> = F & BatchInfo;

/** A batch of token sequences, each field row-major `[batchSize, sequenceLength]`. */
export interface TokenFields {
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
}

/** Where a source stands; plain JSON. */
export interface DataPosition {
  version: 1;
  kind: string;
  /** Rows given out since the start. */
  samples: number;
  [detail: string]: JsonValue;
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

/** The shape of a field in a batch. */
export interface FieldShape {
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly batchAxis?: number | null;
}

/** What a program is compiled for: the fields of a batch without their values. Strings and truth values are static. */
export interface FieldShapes {
  readonly [name: string]: FieldShape | string | boolean | FieldShapes;
}

/** One of the sets of shapes that a source gives. */
export interface BatchShapes {
  readonly batchSize: number;
  readonly fields: FieldShapes;
}

/**
 * What a Trainer reads. Endless: after the last row the next epoch begins in another order; a source with an end rejects with `EndOfData`
 * there.
 */
export interface BatchSource<F extends object = TokenFields> {
  /** Rows in a batch, or in the largest where they differ. */
  readonly batchSize: number;
  /** Of a source of sequences of one length. */
  readonly sequenceLength?: number;
  /** Of a source of tokens: ids are below this. */
  readonly vocabSize?: number;
  /** Reads what is needed before the first batch; does nothing the second time. The other methods call it themselves. */
  prepare?(options?: PrepareOptions): Promise<void>;
  next(): Promise<Batch<F>>;
  /** Batches of the validation split, always the same ones in the same order; none without a validation split. */
  validation?(maxBatches?: number): AsyncIterable<Batch<F>>;
  position(): DataPosition;
  /** How much of each source was given out. */
  progress?(): SourceProgress[];
  /** Columns for the run's next row, e.g. the seconds that the last batch was waited for. */
  columns?(): Readonly<Record<string, number>>;
  /** All sets of shapes of the batches that `next` gives, where they are known before: so that each can be compiled and its memory checked. */
  shapes?(): Promise<readonly BatchShapes[] | undefined>;
  /** `next` until the end, for loops of one's own. */
  [Symbol.asyncIterator]?(): AsyncIterator<Batch<F>>;
  /** Goes to a position of the same source; refuses one of another source. */
  restore(position: DataPosition): Promise<void>;
}

/** A source of token sequences. */
export interface TokenSource extends BatchSource {
  readonly sequenceLength: number;
  readonly vocabSize: number;
  prepare(options?: PrepareOptions): Promise<void>;
  validation(maxBatches?: number): AsyncIterable<Batch>;
}

/** Names that a batch's fields cannot have. */
export const batchInfoNames: readonly (keyof BatchInfo)[] = [
  "batchSize",
  "sequenceLength",
  "counts",
  "after",
];

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
