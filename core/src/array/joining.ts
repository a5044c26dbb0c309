/** Joining tensors and cutting them apart. */
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { functionType } from "../graph/lowering.js";
import { bind, type Op } from "./bind.js";
import { addBatchAxis } from "./broadcast.js";
import { normalizeAxis } from "./shapes.js";
import { expandDims, sliceRanges } from "./shaping.js";
import type { Tensor } from "./tensor.js";

const concatenatePrimitive: Op<{ axis: number }> = {
  name: "concatenate",
  fusion: "element",
  shape(inputs, { axis }) {
    const [first] = inputs;
    for (const x of inputs) {
      const fits =
        x.shape.length === first!.shape.length &&
        x.shape.every((d, i) => i === axis || d === first!.shape[i]);
      if (!fits || x.dtype !== first!.dtype) {
        throw new ShapeError(
          `concatenate along axis ${axis}: ${inputs.map((v) => `${v.dtype}[${v.shape.join(", ")}]`).join(", ")}`,
          "dtypes and all other axes must be equal",
        );
      }
    }
    return [
      {
        shape: first!.shape.with(
          axis,
          inputs.reduce((sum, x) => sum + x.shape[axis]!, 0),
        ),
        dtype: first!.dtype,
      },
    ];
  },
  vjp({ inputs, attributes: { axis } }, [g]) {
    if (g === undefined) return inputs.map(() => undefined);
    let at = 0;
    return inputs.map((x) => {
      const start = x.shape.map((_, i) => (i === axis ? at : 0));
      at += x.shape[axis]!;
      return sliceRanges(g, start, g.shape.with(axis, at));
    });
  },
  batch: (inputs, batched, { axis }, size) => [
    concatenate(
      inputs.map((x, i) => (batched[i] ? x : addBatchAxis(x, size))),
      axis + 1,
    ),
  ],
  lower: (lowering, { inputs, outputs, attributes: { axis } }, names) =>
    lowering.emit(
      `stablehlo.concatenate ${names.join(", ")}, dim = ${axis} : ${functionType(inputs, outputs)}`,
    ),
};

/** Joins tensors of one dtype along an existing axis. */
export function concatenate(xs: readonly Tensor[], axis = 0): Tensor {
  const [first] = xs;
  if (first === undefined) throw new ArgumentError("concatenate of no tensors");
  const along = normalizeAxis("concatenate", axis, first.ndim);
  return xs.length === 1 ? first : bind(concatenatePrimitive, xs, { axis: along });
}

/** Joins tensors of one shape along a new axis. */
export function stack(xs: readonly Tensor[], axis = 0): Tensor {
  return concatenate(
    xs.map((x) => expandDims(x, axis)),
    axis,
  );
}

/** Cuts an axis into `parts` equal pieces, or into pieces of the given sizes. */
export function split(x: Tensor, parts: number | readonly number[], axis = 0): Tensor[] {
  const along = normalizeAxis("split", axis, x.ndim);
  const length = x.shape[along]!;
  const count = typeof parts === "number" && Number.isInteger(parts) && parts > 0 ? parts : 1;
  const sizes = typeof parts === "number" ? new Array<number>(count).fill(length / parts) : parts;
  if (sizes.some((s) => !Number.isInteger(s) || s < 0) || sizes.reduce((a, b) => a + b, 0) !== length) {
    throw new ArgumentError(
      `split: axis ${along} of length ${length} into ${typeof parts === "number" ? `${parts} equal parts` : `[${parts.join(", ")}]`}`,
      "the sizes must be integers that add up to the axis",
    );
  }
  let at = 0;
  return sizes.map((size) => {
    const start = x.shape.map((_, i) => (i === along ? at : 0));
    at += size;
    return sliceRanges(x, start, x.shape.with(along, at));
  });
}

/** Shifts the elements along `axis` by `shift` places, the last ones coming first again. */
export function roll(x: Tensor, shift: number, axis = 0): Tensor {
  const along = normalizeAxis("roll", axis, x.ndim);
  const length = x.shape[along]!;
  const by = length === 0 ? 0 : ((shift % length) + length) % length;
  if (by === 0) return x;
  const [head, tail] = split(x, [length - by, by], along);
  return concatenate([tail!, head!], along);
}
