/** Batches as sources give them: read, checked before anything is computed with them, and cut into parts. */
import { dtypeOf, type TypedArray } from "../array/hostdata.js";
import {
  type Batch,
  type BatchCounts,
  type BatchInfo,
  type BatchShapes,
  type BatchSource,
  batchInfoNames,
  type DataPosition,
  type FieldShape,
  type FieldShapes,
  type ShapedArray,
} from "../data/batch.js";
import { type DType, itemSize } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import { vocabularyOf } from "./config.js";

/** A host array of a batch. */
export interface FieldArray {
  readonly data: TypedArray;
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** The axis that runs over the rows; null for an array that all rows share. */
  readonly axis: number | null;
}

/** The fields of a batch: arrays, static values, and objects of them. */
export interface Fields {
  readonly [name: string]: FieldArray | string | boolean | Fields;
}

/** A batch with all that is left out of it filled in. */
export interface HostBatch {
  readonly rows: number;
  readonly counts: BatchCounts;
  readonly fields: Fields;
  /** Absent where the source has none. */
  readonly after: DataPosition | undefined;
}

export function isArray(field: Fields[string]): field is FieldArray {
  return typeof field === "object" && "data" in field && ArrayBuffer.isView(field.data);
}

/** What the Trainer knows of its batches beforehand. */
export interface BatchRules {
  readonly data?: BatchSource<object>;
  readonly model: object;
  readonly loss?: unknown;
  readonly step?: unknown;
}

const tokenKinds: Readonly<Record<string, new (length: number) => TypedArray>> = {
  inputs: Int32Array,
  targets: Int32Array,
  weights: Float32Array,
  segments: Int32Array,
  positions: Int32Array,
};

/**
 * Reads a batch before it is computed with. One of validation may have fewer rows than the source says.
 *
 * @throws ArgumentError for what is no batch, has fields of other sizes or kinds than it says, or ids that the model does not have
 */
export function readBatch(
  batch: Batch<object>,
  rules: BatchRules,
  call: "data.next()" | "data.validation()" | "update(batch)",
): HostBatch {
  const where = `Trainer: ${call}`;
  const given = call === "update(batch)" ? "got" : "gave";
  if (typeof batch !== "object" || batch === null || ArrayBuffer.isView(batch)) {
    throw new ArgumentError(
      `${where} ${given} ${String(batch)} in place of a batch`,
      call === "update(batch)"
        ? "give an object of named typed arrays"
        : "a source of a training is endless: begin the next epoch after the last batch",
    );
  }
  const info: BatchInfo = batch;
  const { data: source } = rules;
  const rows = rowsOf(info, batch, source, where);
  const { sequenceLength } = info;
  checkSizes(rows, sequenceLength, call, source, where, given);
  // A loss of the user's own may read fields otherwise.
  const isTokens = sequenceLength !== undefined && rules.loss === undefined && rules.step === undefined;
  const names = Object.keys(batch).filter((name) => !batchInfoNames.includes(name as keyof BatchInfo));
  if (isTokens) checkTokenKinds(batch, rows * sequenceLength, where);
  const fields = fieldsOf(
    Object.fromEntries(names.map((name) => [name, (batch as Record<string, unknown>)[name]])),
    "",
    { rows, sequenceLength, where },
  );
  if (call === "data.next()" && (typeof info.after !== "object" || info.after === null)) {
    throw new ArgumentError(
      `${where}: the batch has no \`after\``,
      "give the position after it, which checkpoints hold",
    );
  }
  if (isTokens) checkIds(batch as Batch, vocabularyOf(rules.model), where);
  const tokens = sequenceLength === undefined ? {} : { tokens: rows * sequenceLength };
  return { rows, counts: { samples: rows, ...tokens, ...info.counts }, fields, after: info.after };
}

/** What a batch says of its rows, else the length of the first field's batch axis, else what the source says. */
function rowsOf(
  info: BatchInfo,
  batch: object,
  source: BatchSource<object> | undefined,
  where: string,
): number {
  const rows = info.batchSize ?? info.counts?.samples ?? firstRows(batch) ?? source?.batchSize;
  if (Number.isSafeInteger(rows) && rows! >= 1) return rows!;
  throw new ArgumentError(
    rows === undefined
      ? `${where}: how many rows the batch has is not said: batchSize is missing, and no field has a shape`
      : `${where}: batchSize is ${String(rows)}`,
    "give batchSize, or a field as { data, shape }",
  );
}

function firstRows(fields: object): number | undefined {
  for (const [name, field] of Object.entries(fields) as [string, unknown][]) {
    if (batchInfoNames.includes(name as keyof BatchInfo) || typeof field !== "object" || field === null)
      continue;
    if (ArrayBuffer.isView(field)) continue;
    const { data, shape, batchAxis = 0 } = field as Partial<ShapedArray>;
    if (!ArrayBuffer.isView(data)) {
      const inner = firstRows(field);
      if (inner !== undefined) return inner;
    } else if (Array.isArray(shape) && batchAxis !== null) return shape[batchAxis];
  }
  return undefined;
}

function checkSizes(
  rows: number,
  sequenceLength: number | undefined,
  call: string,
  source: BatchSource<object> | undefined,
  where: string,
  given: string,
): void {
  if (sequenceLength !== undefined && !(Number.isSafeInteger(sequenceLength) && sequenceLength >= 1))
    throw new ArgumentError(
      `${where}: sequenceLength is ${String(sequenceLength)}`,
      "give a positive integer",
    );
  if (source === undefined) return;
  const { batchSize, sequenceLength: longest } = source;
  const isFixed = call === "data.next()" && longest !== undefined;
  const fits =
    (isFixed ? rows === batchSize : rows <= batchSize) &&
    (longest === undefined || sequenceLength === undefined || sequenceLength <= longest);
  if (fits) return;
  const [one, other] =
    longest === undefined || sequenceLength === undefined
      ? [`${rows} rows`, `${batchSize}`]
      : [`${rows} x ${sequenceLength} tokens`, `${batchSize} x ${longest}`];
  throw new ArgumentError(
    `${where} ${given} a batch of ${one}, the source says ${other}`,
    "give batches of the source's batchSize, and of its sequenceLength at most",
  );
}

function checkTokenKinds(batch: object, size: number, where: string): void {
  for (const [name, kind] of Object.entries(tokenKinds)) {
    const values = (batch as Record<string, unknown>)[name];
    if (values === undefined && name !== "inputs" && name !== "targets") continue;
    if (values instanceof kind && values.length === size) continue;
    const given = values as { length?: number; constructor?: { name: string } } | null | undefined;
    throw new ArgumentError(
      `${where}: ${name} is ${given == null ? String(given) : `${given.constructor?.name} of ${given.length}`}`,
      `give a typed array ${kind.name} of ${size}, row after row; or a loss of your own, which says what the fields are`,
    );
  }
}

function checkIds(batch: Batch, vocabulary: number | undefined, where: string): void {
  if (vocabulary === undefined) return;
  for (const name of ["inputs", "targets"] as const) {
    const ids = batch[name];
    const at = ids.findIndex((id) => (id < 0 && !(name === "targets" && id === -100)) || id >= vocabulary);
    if (at < 0) continue;
    throw new ArgumentError(
      `${where}: ${name} has the id ${ids[at]} in row ${Math.floor(at / batch.sequenceLength)}, the model's ids are 0 to ${vocabulary - 1}`,
      name === "targets" && ids[at]! < 0
        ? "give targets that do not count -100, or any id and `weights` that are 0 there"
        : "take the tokenizer that belongs to the model",
    );
  }
}

interface Sizes {
  readonly rows: number;
  readonly sequenceLength: number | undefined;
  readonly where: string;
}

function fieldsOf(fields: object, above: string, sizes: Sizes): Fields {
  const read: Record<string, Fields[string]> = {};
  for (const [name, field] of Object.entries(fields) as [string, unknown][]) {
    const path = above + name;
    if (field === undefined) continue;
    if (typeof field === "string" || typeof field === "boolean") {
      read[name] = field;
      continue;
    }
    const isObject = typeof field === "object" && field !== null && !Array.isArray(field);
    if (!isObject) {
      throw new ArgumentError(
        `${sizes.where}: the field ${path} is ${Array.isArray(field) ? `an Array of ${field.length}` : String(field)}`,
        "give a typed array, or { data, shape } of one; strings and truth values are static",
      );
    }
    if (ArrayBuffer.isView(field)) read[name] = bare(field as TypedArray, path, sizes);
    else if (ArrayBuffer.isView((field as Partial<ShapedArray>).data))
      read[name] = shaped(field as ShapedArray, path, sizes);
    else read[name] = fieldsOf(field, `${path}.`, sizes);
  }
  return read;
}

/** An array without a shape: of one row after the other. */
function bare(data: TypedArray, path: string, { rows, sequenceLength, where }: Sizes): FieldArray {
  const dtype = dtypeOf(data);
  if (sequenceLength !== undefined && data.length === rows * sequenceLength)
    return { data, dtype, shape: [rows, sequenceLength], axis: 0 };
  if (data.length === rows) return { data, dtype, shape: [rows], axis: 0 };
  if (data.length > 0 && data.length % rows === 0)
    return { data, dtype, shape: [rows, data.length / rows], axis: 0 };
  throw new ArgumentError(
    `${where}: the field ${path} is a ${data.constructor.name} of ${data.length}, and the batch has ${rows} rows`,
    "give as many elements for each row (pad ragged rows, with their lengths in another field), or { data, shape, batchAxis }",
  );
}

function shaped(field: ShapedArray, path: string, { rows, where }: Sizes): FieldArray {
  const { data, shape, batchAxis: axis = 0 } = field;
  const what = `${where}: the field ${path}`;
  const stored = dtypeOf(data);
  const { dtype = stored } = field;
  const isShape =
    Array.isArray(shape) && shape.every((d: unknown) => Number.isSafeInteger(d) && (d as number) >= 0);
  if (!isShape) throw new ArgumentError(`${what} has the shape ${String(shape)}`, "give a list of sizes");
  const size = shape.reduce((n, d) => n * d, 1);
  if (size !== data.length)
    throw new ArgumentError(
      `${what} has the shape [${shape.join(", ")}] and ${data.length} elements`,
      `give ${size} elements, row-major`,
    );
  if (itemSize(dtype) !== itemSize(stored))
    throw new ArgumentError(
      `${what} is ${dtype} in a ${data.constructor.name}`,
      "give a typed array whose elements are as wide as those of the dtype",
    );
  if (axis === null) return { data, shape, dtype, axis };
  if (!(Number.isInteger(axis) && axis >= 0 && axis < shape.length)) {
    throw new ArgumentError(
      `${what} has the shape [${shape.join(", ")}] and batchAxis ${String(axis)}`,
      "give one of its axes, or null for an array that all rows share",
    );
  }
  if (shape[axis] !== rows) {
    throw new ArgumentError(
      `${what} has ${shape[axis]} rows along axis ${axis}, the batch has ${rows}`,
      "give all fields the batch's rows; batchAxis names another axis, or null for an array that all rows share",
    );
  }
  return { data, shape, dtype, axis };
}

/** A batch of zeros of the shapes that a source tells. */
export function emptyBatch({ batchSize, fields }: BatchShapes): HostBatch {
  const empty = (shapes: FieldShapes): Fields =>
    Object.fromEntries(
      Object.entries(shapes).map(([name, field]): [string, Fields[string]] => {
        if (typeof field !== "object") return [name, field];
        return [name, isShape(field) ? zerosOf(field) : empty(field)];
      }),
    );
  return { rows: batchSize, counts: { samples: batchSize }, fields: empty(fields), after: undefined };
}

function isShape(field: FieldShape | FieldShapes): field is FieldShape {
  return Array.isArray(field.shape) && typeof field.dtype === "string";
}

function zerosOf({ shape, dtype, batchAxis: axis = 0 }: FieldShape): FieldArray {
  const size = shape.reduce((n, d) => n * d, 1);
  return { data: new Uint8Array(size * itemSize(dtype)), shape, dtype, axis };
}

/** A batch in parts of at most so many rows. */
export function* inParts(batch: HostBatch, rows: number): Iterable<HostBatch> {
  for (let from = 0; from < batch.rows; from += rows) {
    const to = Math.min(batch.rows, from + rows);
    if (from === 0 && to === batch.rows) yield batch;
    else yield { ...batch, rows: to - from, fields: cut(batch.fields, from, to) };
  }
}

function cut(fields: Fields, from: number, to: number): Fields {
  return Object.fromEntries(
    Object.entries(fields).map(([name, field]): [string, Fields[string]] => {
      if (typeof field !== "object") return [name, field];
      return [name, isArray(field) ? rowsFrom(field, from, to) : cut(field, from, to)];
    }),
  );
}

function rowsFrom(field: FieldArray, from: number, to: number): FieldArray {
  const { data, shape, axis } = field;
  if (axis === null) return field;
  const inner = shape.slice(axis + 1).reduce((n, d) => n * d, 1);
  const outer = shape.slice(0, axis).reduce((n, d) => n * d, 1);
  const cutShape = shape.with(axis, to - from);
  if (outer === 1) return { ...field, shape: cutShape, data: data.subarray(from * inner, to * inner) };
  const kind = data.constructor as new (length: number) => TypedArray;
  const part = new kind(outer * (to - from) * inner);
  for (let o = 0; o < outer; o++) {
    const at = (o * shape[axis]! + from) * inner;
    part.set(data.subarray(at, at + (to - from) * inner) as never, o * (to - from) * inner);
  }
  return { ...field, shape: cutShape, data: part };
}
