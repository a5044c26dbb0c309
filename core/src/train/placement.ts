/**
 * Where a training's arrays lie: a batch on the device, and the state before the first step. All placing that the Trainer does is here.
 */
import { fromBytes } from "../array/creation.js";
import { moveAxis, reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import type { BatchInfo, HostArray, ShapedArray, TokenFields } from "../data/batch.js";
import { ArgumentError } from "../graph/errors.js";
import { mapNamed, named } from "../transform/tree.js";
import { type FieldArray, type Fields, type HostBatch, isArray } from "./batches.js";
import type { ParallelPlan } from "./parallel.js";

/** A batch's fields on the device: a Tensor for each array; static values as they are. */
export type OnDevice<F> = {
  readonly [K in keyof F as K extends keyof BatchInfo ? never : K]: F[K] extends HostArray | undefined
    ? Tensor | Extract<F[K], undefined>
    : F[K] extends ShapedArray
      ? Tensor
      : F[K] extends object
        ? OnDevice<F[K]>
        : F[K];
};

/** A batch of tokens on the device: int32 and float32 Tensors [batch, time]. What is absent on the host is absent here. */
export type DeviceBatch = OnDevice<TokenFields>;

/** The fields of any batch on the device. */
export interface DeviceFields {
  readonly [name: string]: Tensor | string | boolean | DeviceFields;
}

/**
 * A batch as a step takes it. In parts, each array has an axis of the parts before that of its rows, `[parts, rows / parts, ...]`: laid out so on the
 * host, since a mesh splits the second.
 */
export interface PlacedBatch {
  readonly fields: DeviceFields;
  readonly parts: string;
  /** The axis of each array's rows by path, as JSON: static, as programs depend on it. */
  readonly axes: string;
}

/** A batch on its way to the devices, in so many parts. */
export function placeBatch(batch: HostBatch, parts = 1, plan?: ParallelPlan): PlacedBatch {
  const axes: Record<string, number | null> = {};
  const place = (field: FieldArray, path: string): Tensor => {
    const { data, shape, dtype, axis } = field;
    if (axis !== 0) axes[path] = axis;
    const split = parts === 1 || axis === null ? shape : splitShape(shape, axis, parts, path);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const at = axis === null ? null : parts === 1 ? axis : axis + 1;
    return fromBytes(bytes, split, dtype, "data", plan?.batch(split, dtype, at));
  };
  const visit = (fields: Fields, above: string): DeviceFields =>
    Object.fromEntries(
      Object.entries(fields).map(([name, field]): [string, DeviceFields[string]] => {
        const path = above + name;
        if (typeof field !== "object") return [name, field];
        return [name, isArray(field) ? place(field, path) : visit(field, `${path}.`)];
      }),
    );
  const fields = visit(batch.fields, "");
  return { fields, parts: String(parts), axes: JSON.stringify(axes) };
}

function splitShape(shape: readonly number[], axis: number, parts: number, path: string): number[] {
  const rows = shape[axis]!;
  if (rows % parts !== 0) {
    throw new ArgumentError(
      `Trainer: accumulate is ${parts}, and the field ${path} has ${rows} rows, which have no ${parts} equal parts`,
      "give a divisor of the batch's rows",
    );
  }
  return [...shape.slice(0, axis), parts, rows / parts, ...shape.slice(axis + 1)];
}

/** The arrays of a placed batch that have rows, the parts along axis 0; and the whole batch of a part's arrays. */
export function inPieces({ fields, axes }: PlacedBatch): {
  pieces: Readonly<Record<string, Tensor>>;
  assemble(piece: Readonly<Record<string, Tensor>>): DeviceFields;
} {
  const axisOf = axisBy(axes);
  const arrays = named(fields);
  const split = [...arrays].filter(([path]) => axisOf(path) !== null);
  return {
    pieces: Object.fromEntries(split.map(([path, x]) => [path, moveAxis(x, axisOf(path)!, 0)])),
    assemble: (piece) => mapNamed((x, path) => piece[path] ?? x, fields),
  };
}

/** The fields of a placed batch as the source gave them, whatever the parts. */
export function wholeFields({ fields, axes, parts }: PlacedBatch): DeviceFields {
  if (parts === "1") return fields;
  const axisOf = axisBy(axes);
  return mapNamed((x, path) => {
    const axis = axisOf(path);
    if (axis === null) return x;
    const { shape } = x;
    return reshape(x, [...shape.slice(0, axis), shape[axis]! * shape[axis + 1]!, ...shape.slice(axis + 2)]);
  }, fields);
}

function axisBy(axes: string): (path: string) => number | null {
  const known = JSON.parse(axes) as Record<string, number | null>;
  return (path) => (path in known ? known[path]! : 0);
}
