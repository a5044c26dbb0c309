/** Samples put together to the fields of a batch. */
import { checkElements, dtypeOf, type TypedArray, toBfloat16 } from "../../array/hostdata.js";
import type { DType } from "../../graph/dtype.js";
import type { BatchFields, FieldShapes, HostArray, ShapedArray } from "../batch.js";
import { DataError } from "../errors.js";
import type { BucketBound, PadOptions, Sample } from "./types.js";

export interface CollateOptions {
  /** By a field's path. */
  readonly pad: Readonly<Record<string, PadOptions>>;
  readonly dtypes: Readonly<Record<string, DType>>;
}

/** A sample and how errors call it. */
export interface Row {
  readonly sample: Sample;
  name(): string;
}

/** A field of a row. */
interface Cell<V = Sample[string]> {
  readonly row: Row;
  readonly value: V;
}

type Field = Sample[string];

export function isHostArray(field: Field): field is HostArray {
  return (
    typeof field === "object" &&
    field !== null &&
    (ArrayBuffer.isView(field) || ("data" in field && "shape" in field))
  );
}

/** A sample's array with its shape. */
export function shaped(array: HostArray): ShapedArray {
  return ArrayBuffer.isView(array) ? { data: array, shape: [array.length] } : array;
}

/** The field at a path such as `audio` or `inputs.audio`. */
export function fieldAt(sample: Sample, path: string): Field {
  let field: Field = sample;
  for (const name of path.split(".")) {
    if (typeof field !== "object" || field === null || isHostArray(field)) return undefined;
    field = field[name];
  }
  return field;
}

/** The length of a padded field in a sample. */
export function lengthOf(sample: Sample, path: string, { axis = 0 }: PadOptions): number {
  const field = fieldAt(sample, path);
  const length = isHostArray(field) ? shaped(field).shape[axis] : undefined;
  if (length === undefined) {
    throw new DataError(
      `pad names ${path}, ${field === undefined ? "which decode does not give" : `which has no axis ${axis}`}`,
      `decode gives ${Object.keys(sample).join(", ")}`,
    );
  }
  return length;
}

/** The length that a bucket fills a field up to. */
export function boundOf(bound: BucketBound | undefined, path: string): number | undefined {
  return typeof bound === "object" ? bound[path] : bound;
}

const arraysOf = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  bool: Uint8Array,
} as const;

/** The array of numbers that are a field of a batch. */
function numbers(values: readonly number[], path: string, dtype: DType): ShapedArray {
  const Kind = (arraysOf as Partial<Record<DType, (typeof arraysOf)[keyof typeof arraysOf]>>)[dtype];
  if (Kind === undefined) {
    throw new DataError(
      `dtypes: ${path} cannot be made of numbers as ${dtype}`,
      `take one of ${Object.keys(arraysOf).join(", ")}, or return a typed array`,
    );
  }
  if (!dtype.startsWith("float")) {
    const fraction = values.find((value) => !Number.isInteger(value));
    if (fraction !== undefined)
      throw new DataError(
        `${path} is ${fraction}, and dtypes says ${dtype}`,
        "give whole numbers, or float32",
      );
    checkElements(values, dtype);
  }
  return { data: Kind.from(values), shape: [values.length], ...(dtype === "bool" && { dtype }) };
}

/** Puts rows together, each field of them with an axis of rows in front. */
export function collate(rows: readonly Row[], options: CollateOptions, bound?: BucketBound): BatchFields {
  for (const path of Object.keys(options.pad)) lengthOf(rows[0]!.sample, path, options.pad[path]!);
  return collateFields(rows, options, bound, "");
}

function collateFields(
  rows: readonly Row[],
  options: CollateOptions,
  bound: BucketBound | undefined,
  within: string,
): BatchFields {
  const first = rows[0]!;
  const names = Object.keys(first.sample).filter((name) => first.sample[name] !== undefined);
  for (const row of rows) {
    const { sample } = row;
    const own = Object.keys(sample).filter((field) => sample[field] !== undefined);
    const differs = [
      ...own.filter((field) => !names.includes(field)),
      ...names.filter((field) => !own.includes(field)),
    ];
    if (differs.length === 0) continue;
    throw new DataError(
      `${row.name()} and ${first.name()} differ in ${within}${differs.join(", ")}, which one of them does not have`,
      "give the same fields of all items",
    );
  }
  const fields: Record<string, BatchFields[string]> = {};
  for (const name of names) {
    const path = within + name;
    const field = first.sample[name];
    const cells: Cell[] = rows.map((row) => ({ row, value: row.sample[name] }));
    const kind = kindOf(field);
    const other = cells.find(({ value }) => kindOf(value) !== kind);
    if (other !== undefined) {
      throw new DataError(
        `${path} is ${kindOf(other.value)} in ${other.row.name()} and ${kind} in ${first.name()}`,
        "give the same kind of value for all items",
      );
    }
    if (kind === "a number") {
      fields[name] = numbers(
        cells.map(({ value }) => value as number),
        path,
        options.dtypes[path] ?? "float32",
      );
    } else if (kind === "an array") {
      const padding = options.pad[path];
      const arrays = cells.map(({ row, value }) => ({ row, value: shaped(value as HostArray) }));
      fields[name] = stacked(arrays, path, padding, boundOf(bound, path));
      const lengths = padding === undefined ? false : (padding.lengths ?? `${name}Lengths`);
      if (lengths !== false) {
        if (names.includes(lengths))
          throw new DataError(
            `the lengths of ${path} are named ${lengths}, as another field`,
            "name them otherwise with `pad: { field: { lengths } }`",
          );
        const own = arrays.map(({ value }) => value.shape[padding!.axis ?? 0]!);
        fields[lengths] = { data: Int32Array.from(own), shape: [rows.length] };
      }
    } else if (kind === "an object") {
      const inner = rows.map((row) => ({ name: row.name, sample: row.sample[name] as Sample }));
      fields[name] = collateFields(inner, options, bound, `${path}.`);
    } else {
      const differs = cells.find(({ value }) => value !== field);
      if (differs !== undefined) {
        throw new DataError(
          `${path} is ${JSON.stringify(differs.value)} in ${differs.row.name()} and ${JSON.stringify(field)} in ${first.name()}: such a value is the same in all rows of a batch`,
          "give a number, leave it out, or make a loader for each value and take them by turns with data.alternating",
        );
      }
      fields[name] = field as string | boolean;
    }
  }
  return fields;
}

function kindOf(field: Field): string {
  if (typeof field === "object") return isHostArray(field) ? "an array" : "an object";
  return `a ${typeof field}`;
}

/** Arrays of one shape, but for the padded axis, as one array. */
function stacked(
  cells: readonly Cell<ShapedArray>[],
  path: string,
  padding: PadOptions | undefined,
  bound: number | undefined,
): ShapedArray {
  const { row: firstRow, value: first } = cells[0]!;
  const axis = padding === undefined ? -1 : (padding.axis ?? 0);
  const dtype = first.dtype ?? dtypeOf(first.data);
  let longest = 0;
  for (const { row, value: array } of cells) {
    const own = array.dtype ?? dtypeOf(array.data);
    if (own !== dtype || array.data.constructor !== first.data.constructor) {
      throw new DataError(
        `${path} is ${own} in ${row.name()} and ${dtype} in ${firstRow.name()}`,
        "give one element type for all items",
      );
    }
    const fits =
      array.shape.length === first.shape.length &&
      array.shape.every((length, i) => i === axis || length === first.shape[i]);
    if (!fits) {
      throw new DataError(
        `${path} is [${array.shape.join(", ")}] in ${row.name()} and [${first.shape.join(", ")}] in ${firstRow.name()}`,
        padding === undefined
          ? `give arrays of one shape, or fill them up with \`pad: { ${path}: true }\``
          : `they may differ in axis ${axis} alone`,
      );
    }
    if (axis >= 0) longest = Math.max(longest, array.shape[axis]!);
  }
  const shape = paddedShape(first.shape, path, padding, bound, longest);
  const over = axis >= 0 && cells.find(({ value }) => value.shape[axis]! > shape[axis]!);
  if (over) {
    throw new DataError(
      `${path} of ${over.row.name()} is ${over.value.shape[axis]} long, more than the ${shape[axis]} that it is filled up to`,
      "allow more with `pad: { field: { length } }` or the buckets' bounds, or cut it in decode",
    );
  }
  const size = shape.reduce((product, n) => product * n, 1) * (dtype === "complex64" ? 2 : 1);
  const Kind = first.data.constructor as new (length: number) => TypedArray;
  const data = new Kind(size * cells.length);
  const value = padding?.value ?? 0;
  if (value !== 0) fill(data, dtype, value);
  for (const [i, { value }] of cells.entries()) copyInto(data, i * size, size, value, axis, shape);
  return { data, shape: [cells.length, ...shape], ...(first.dtype !== undefined && { dtype }) };
}

function fill(data: TypedArray, dtype: DType, value: number): void {
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) data.fill(BigInt(value));
  else data.fill(dtype === "bfloat16" ? toBfloat16(value) : value);
}

/** Copies a sample's array to `at`, where there is room for `shape`, which is longer along `axis`. */
function copyInto(
  data: TypedArray,
  at: number,
  size: number,
  { data: from, shape: own }: ShapedArray,
  axis: number,
  shape: readonly number[],
): void {
  const set = (values: TypedArray, offset: number) =>
    (data as { set(values: TypedArray, offset: number): void }).set(values, offset);
  if (from.length === size) {
    set(from, at);
    return;
  }
  const outer = own.slice(0, Math.max(0, axis)).reduce((product, n) => product * n, 1);
  const inner = outer === 0 ? 0 : from.length / outer;
  const room = shape[axis] === 0 ? 0 : size / outer;
  for (let i = 0; i < outer; i++) set(from.subarray(i * inner, (i + 1) * inner), at + i * room);
}

/** The shape of a row of a field. */
function paddedShape(
  shape: readonly number[],
  path: string,
  padding: PadOptions | undefined,
  bound: number | undefined,
  longest: number,
): readonly number[] {
  if (padding === undefined) return shape;
  const { axis = 0, multiple = 1 } = padding;
  if (axis < 0 || axis >= shape.length)
    throw new DataError(`pad: ${path} has no axis ${axis}; its shape is [${shape.join(", ")}]`);
  const to = padding.length ?? bound ?? Math.ceil(longest / multiple) * multiple;
  return shape.with(axis, to);
}

/** The shapes that a batch of so many rows has, told by one sample; undefined where a length depends on the rows. */
export function shapesOf(
  sample: Sample,
  rows: number,
  options: CollateOptions,
  bound: BucketBound | undefined,
  within = "",
): FieldShapes | undefined {
  const fields: Record<string, FieldShapes[string]> = {};
  for (const [name, field] of Object.entries(sample)) {
    const path = within + name;
    if (field === undefined) continue;
    if (typeof field === "number") fields[name] = { shape: [rows], dtype: options.dtypes[path] ?? "float32" };
    else if (typeof field === "string" || typeof field === "boolean") fields[name] = field;
    else if (isHostArray(field)) {
      const array = shaped(field);
      const padding = options.pad[path];
      const limit = boundOf(bound, path);
      if (padding !== undefined && padding.length === undefined && limit === undefined) return undefined;
      const shape = paddedShape(array.shape, path, padding, limit, 0);
      fields[name] = { shape: [rows, ...shape], dtype: array.dtype ?? dtypeOf(array.data) };
      const lengths = padding === undefined ? false : (padding.lengths ?? `${name}Lengths`);
      if (lengths !== false) fields[lengths] = { shape: [rows], dtype: "int32" };
    } else {
      const inner = shapesOf(field, rows, options, bound, `${path}.`);
      if (inner === undefined) return undefined;
      fields[name] = inner;
    }
  }
  return fields;
}
