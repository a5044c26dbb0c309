import { createHash } from "node:crypto";
import type { TypedArray } from "../array/hostdata.js";
import { dtypeOf } from "../array/hostdata.js";
import { refuseUnknown } from "../graph/spelling.js";
import {
  type Batch,
  type BatchFields,
  type BatchShapes,
  type BatchSource,
  batchInfoNames,
  type DataPosition,
  type FieldShapes,
  type HostArray,
  type ShapedArray,
  type SourceProgress,
} from "./batch.js";
import { EpochOrder, heldOut } from "./epochs.js";
import { DataError, EndOfData } from "./errors.js";
import { iterate } from "./iterate.js";
import { checkCount, checkOneOf, checkShare } from "./loader/options.js";

export interface ArraysOptions {
  /** Rows of a batch. */
  readonly batchSize: number;
  /** Rows in all; default the length of axis 0 of the arrays with a shape, else that of the shortest array. */
  readonly rows?: number;
  /** The share of the rows held out, drawn by `seed`. Default 0. */
  readonly validation?: number;
  /** Decides the order and the split. Default 0. */
  readonly seed?: number;
  /** Another order in each epoch. Default true. */
  readonly shuffle?: boolean;
  /** Ends after so many; default endless. */
  readonly epochs?: number;
  /** Rows that are left when an epoch ends; see `LoaderOptions`. Default `"join"`. */
  readonly partial?: "join" | "keep" | "drop";
  /** This host's share of each epoch's rows. */
  readonly shard?: { readonly index: number; readonly count: number };
}

/** Named arrays in memory, whose axis 0 runs over the rows; strings and truth values are the same in every batch. */
export interface ArrayFields {
  readonly [name: string]: HostArray | string | boolean;
}

/** Rows of arrays as batches have them. */
export type ArrayBatchFields<A> = {
  readonly [K in keyof A]: A[K] extends TypedArray | ShapedArray ? ShapedArray : A[K];
};

/**
 * Batches of rows of arrays in memory, the commonest case of small data: `data.arrays({ images, labels }, { batchSize: 64 })`. A bare
 * typed array has as many elements a row as there are for it; `{ data, shape }` says its shape, and `batchAxis: null` that all rows share it.
 */
export function arrays<A extends object>(
  fields: A,
  options: ArraysOptions,
): ArraysSource<ArrayBatchFields<A>> {
  return new ArraysSource(fields as unknown as ArrayFields, options);
}

interface Column {
  readonly name: string;
  readonly array: ShapedArray;
  /** Elements a row; undefined for an array that all rows share. */
  readonly width: number | undefined;
}

interface ArraysPosition extends DataPosition {
  /** The next row: its epoch, and its place there. */
  epoch: number;
  next: number;
  fingerprint: string;
}

export class ArraysSource<F extends object> implements BatchSource<F> {
  readonly batchSize: number;
  private readonly columnsOf: readonly Column[];
  private readonly statics: Readonly<Record<string, string | boolean>>;
  private readonly order: EpochOrder;
  private readonly held: Int32Array;
  private readonly partial: "join" | "keep" | "drop";
  private readonly fingerprint: string;
  private at: ArraysPosition;

  constructor(
    fields: ArrayFields,
    private readonly options: ArraysOptions,
  ) {
    const known = ["batchSize", "rows", "validation", "seed", "shuffle", "epochs", "partial", "shard"];
    refuseUnknown("data.arrays: there is no option", Object.keys(options), known);
    if (options.batchSize === undefined)
      throw new DataError("There is no batchSize.", "Give the rows of a batch.");
    for (const name of ["batchSize", "rows", "epochs"] as const) checkCount(name, options[name]);
    checkOneOf("shuffle", options.shuffle, [true, false]);
    checkOneOf("partial", options.partial, ["join", "keep", "drop"]);
    checkShare(options.shard);
    const { batchSize, seed = 0, shuffle = true, validation = 0, shard, partial = "join" } = options;
    this.batchSize = batchSize;
    this.partial = partial;
    const { rows, columns, statics } = columnsOf(fields, options.rows);
    this.columnsOf = columns;
    this.statics = statics;
    const split = heldOut(rows, validation, seed);
    this.held = split.validation;
    this.order = new EpochOrder(split.train.length, seed, shuffle, shard, split.train);
    if (this.order.length < (partial === "drop" ? batchSize : 1)) {
      throw new DataError(
        `There are ${this.order.length} rows an epoch, and a batch has ${batchSize}.`,
        'Give more rows, a smaller batchSize, or `partial: "join"`.',
      );
    }
    const hash = createHash("sha256").update(
      JSON.stringify([rows, seed, shuffle, validation, shard?.count ?? 1]),
    );
    for (const { name, array } of columns) hash.update(`${name} ${array.shape}`).update(someOf(array.data));
    this.fingerprint = hash.digest("hex").slice(0, 16);
    this.at = { version: 1, kind: "arrays", samples: 0, epoch: 0, next: 0, fingerprint: this.fingerprint };
  }

  async next(): Promise<Batch<F>> {
    const { epochs = Number.POSITIVE_INFINITY } = this.options;
    const { length } = this.order;
    const rows: number[] = [];
    let { epoch, next } = this.at;
    for (;;) {
      while (next < length && epoch < epochs && rows.length < this.batchSize)
        rows.push(this.order.at(epoch, next++));
      if (rows.length === this.batchSize) break;
      const ended = epoch >= epochs - 1;
      if (this.partial === "drop") rows.length = 0;
      if (rows.length > 0 && (this.partial === "keep" || ended)) break;
      if (ended) {
        throw new EndOfData(
          `The data have ended after ${this.options.epochs} epochs, ${this.at.samples} rows.`,
          "Give more `epochs`, or none for data without end.",
        );
      }
      [epoch, next] = [epoch + 1, 0];
    }
    this.at = { ...this.at, samples: this.at.samples + rows.length, epoch, next };
    return this.batch(rows);
  }

  /** All rows that are held out; the last batch may be smaller. */
  async *validation(maxBatches = Number.POSITIVE_INFINITY): AsyncGenerator<Batch<F>, void> {
    const batches = Math.min(maxBatches, Math.ceil(this.held.length / this.batchSize));
    for (let b = 0; b < batches; b++)
      yield this.batch(this.held.subarray(b * this.batchSize, (b + 1) * this.batchSize));
  }

  position(): DataPosition {
    return { ...this.at };
  }

  async restore(position: DataPosition): Promise<void> {
    if (position.kind !== "arrays" || position.version !== 1)
      throw new DataError(`A position of kind "${position.kind}" does not belong to arrays.`);
    if (position.fingerprint !== this.fingerprint) {
      throw new DataError(
        `The position belongs to other data (${position.fingerprint}; these are ${this.fingerprint}): the arrays, seed, shuffle, ` +
          "validation or the number of shares differ.",
        "Use the same ones to continue a run, or start a new run from the checkpoint's weights.",
      );
    }
    this.at = { ...(position as ArraysPosition) };
  }

  progress(): SourceProgress[] {
    const { samples, epoch, next } = this.at;
    return [{ name: "arrays", weight: 1, sequences: samples, epochs: epoch + next / this.order.length }];
  }

  async shapes(): Promise<readonly BatchShapes[]> {
    const fields: Record<string, FieldShapes[string]> = { ...this.statics };
    for (const { name, array, width } of this.columnsOf) {
      const { batchAxis } = array;
      fields[name] = {
        shape: width === undefined ? array.shape : [this.batchSize, ...array.shape.slice(1)],
        dtype: array.dtype ?? dtypeOf(array.data),
        ...(batchAxis !== undefined && { batchAxis }),
      };
    }
    return [{ batchSize: this.batchSize, fields }];
  }

  [Symbol.asyncIterator](): AsyncGenerator<Batch<F>, void> {
    return iterate(this);
  }

  private batch(rows: ArrayLike<number>): Batch<F> {
    const fields: Record<string, BatchFields[string]> = { ...this.statics };
    for (const { name, array, width } of this.columnsOf) {
      if (width === undefined) {
        fields[name] = array;
        continue;
      }
      const Kind = array.data.constructor as new (length: number) => TypedArray;
      const data = new Kind(rows.length * width) as TypedArray & { set(from: TypedArray, at: number): void };
      for (let i = 0; i < rows.length; i++)
        data.set(array.data.subarray(rows[i]! * width, (rows[i]! + 1) * width), i * width);
      fields[name] = { ...array, data, shape: [rows.length, ...array.shape.slice(1)] };
    }
    const batchSize = rows.length;
    return {
      ...fields,
      batchSize,
      counts: { samples: batchSize },
      after: this.position(),
    } as unknown as Batch<F>;
  }
}

function columnsOf(
  fields: ArrayFields,
  given: number | undefined,
): { rows: number; columns: Column[]; statics: Record<string, string | boolean> } {
  const statics: Record<string, string | boolean> = {};
  const found: { name: string; array: HostArray }[] = [];
  for (const [name, field] of Object.entries(fields)) {
    if ((batchInfoNames as readonly string[]).includes(name))
      throw new DataError(`A field is named ${name}, as a batch's own.`, "Take another name.");
    if (typeof field === "string" || typeof field === "boolean") statics[name] = field;
    else if (ArrayBuffer.isView(field) || (ArrayBuffer.isView(field?.data) && Array.isArray(field.shape)))
      found.push({ name, array: field });
    else
      throw new DataError(
        `The field ${name} is ${field === null ? "null" : `a ${(field as object | undefined)?.constructor?.name ?? typeof field}`}.`,
        "Give typed arrays, or { data, shape }.",
      );
  }
  const shared = (array: HostArray) => !ArrayBuffer.isView(array) && array.batchAxis === null;
  const shapes = found.filter(({ array }) => !shared(array));
  const said = shapes.filter(({ array }) => !ArrayBuffer.isView(array));
  const lengths = (said.length > 0 ? said : shapes).map(({ array }) =>
    ArrayBuffer.isView(array) ? array.length : (array.shape[0] ?? 0),
  );
  const rows = given ?? Math.min(...lengths);
  if (!Number.isFinite(rows) || rows < 1)
    throw new DataError("The arrays have no rows.", "Give an array of one or more.");
  const columns = found.map(({ name, array }): Column => {
    if (shared(array)) return { name, array: array as ShapedArray, width: undefined };
    if (!ArrayBuffer.isView(array) && (array.batchAxis ?? 0) !== 0)
      throw new DataError(
        `${name} has its rows on axis ${array.batchAxis}.`,
        "Give it with its rows on axis 0.",
      );
    const { length } = ArrayBuffer.isView(array) ? array : array.data;
    const wanted = ArrayBuffer.isView(array) ? undefined : array.shape.reduce((product, n) => product * n, 1);
    const numbers = ArrayBuffer.isView(array) || array.dtype !== "complex64" ? length : length / 2;
    if (
      (wanted !== undefined && wanted !== numbers) ||
      numbers % rows !== 0 ||
      (wanted !== undefined && (array as ShapedArray).shape[0] !== rows)
    ) {
      throw new DataError(
        `${name} has ${numbers} elements${wanted === undefined ? "" : ` and the shape [${(array as ShapedArray).shape.join(", ")}]`}, and there are ${rows} rows.`,
        "Give arrays of as many rows, or say the number with `rows`.",
      );
    }
    const width = numbers / rows;
    const whole: ShapedArray = ArrayBuffer.isView(array)
      ? { data: array, shape: width === 1 ? [rows] : [rows, width] }
      : array;
    return { name, array: whole, width: length / rows };
  });
  return { rows, columns, statics };
}

/** Some bytes of an array, to tell it from others. */
function someOf({ buffer, byteOffset, byteLength }: TypedArray): Uint8Array {
  const bytes = new Uint8Array(buffer, byteOffset, byteLength);
  const some = 1 << 16;
  if (byteLength <= some) return bytes;
  const step = Math.floor(byteLength / some);
  return Uint8Array.from({ length: some }, (_, i) => bytes[i * step]!);
}
