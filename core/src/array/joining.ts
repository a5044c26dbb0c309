/** Joining tensors and cutting them apart. */
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { functionType } from "../graph/lowering.js";
import { bind, type Op } from "./bind.js";
import { addBatchAxis } from "./broadcast.js";
import { checkInteger, described, fixFor } from "./given.js";
import { normalizeAxis } from "./shapes.js";
import { expandDims, sliceRanges } from "./shaping.js";
import { Tensor } from "./tensor.js";

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

/** Checks for a list of Tensors. */
function checkList(operation: string, xs: readonly Tensor[]): void {
  if (!Array.isArray(xs))
    throw new ArgumentError(
      `${operation} of ${described(xs)}`,
      fixFor(xs, `give a list: ${operation}([x, y], axis)`),
    );
  if (xs.length === 0) throw new ArgumentError(`${operation} of no tensors`, "give a list of at least one");
  const other = xs.findIndex((x) => !(x instanceof Tensor));
  if (other < 0) return;
  throw new ArgumentError(
    `${operation}: element ${other} of the list is ${described(xs[other])}`,
    fixFor(xs[other], "give Tensors: make one with tensor()"),
  );
}

/** Joins tensors of one dtype along an existing axis. */
export function concatenate(xs: readonly Tensor[], axis = 0): Tensor {
  checkList("concatenate", xs);
  const [first] = xs as readonly [Tensor];
  const along = normalizeAxis("concatenate", axis, first.ndim);
  return xs.length === 1 ? first : bind(concatenatePrimitive, xs, { axis: along });
}

/** Joins tensors of one shape along a new axis. */
export function stack(xs: readonly Tensor[], axis = 0): Tensor {
  checkList("stack", xs);
  return concatenate(
    xs.map((x) => expandDims(x, axis)),
    axis,
  );
}

/** Cuts an axis into `parts` equal pieces, or into pieces of the given sizes. */
export function split(x: Tensor, parts: number | readonly number[], axis = 0): Tensor[] {
  const along = normalizeAxis("split", axis, x.ndim);
  if (!Array.isArray(parts))
    checkInteger("split: the number of parts", parts, "give a number, or a list of sizes", 1);
  const length = x.shape[along]!;
  const sizes = typeof parts === "number" ? new Array<number>(parts).fill(length / parts) : parts;
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
  checkInteger("roll: the shift", shift, "elements move by whole places: give an integer");
  const length = x.shape[along]!;
  const by = length === 0 ? 0 : ((shift % length) + length) % length;
  if (by === 0) return x;
  const [head, tail] = split(x, [length - by, by], along);
  return concatenate([tail!, head!], along);
}
