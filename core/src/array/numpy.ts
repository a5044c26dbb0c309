/** More of NumPy's vocabulary, written with the operations of the other files. */
import { isFloat } from "../graph/dtype.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { broadcastInDim, broadcastTo, reduceSum, zerosLike } from "./broadcast.js";
import { dotGeneral } from "./contraction.js";
import { iota } from "./creation.js";
import {
  add,
  and,
  cast,
  equal,
  expm1,
  greater,
  greaterEqual,
  isnan,
  maximum,
  minimum,
  mul,
  or,
  promote,
  sub,
  type TensorLike,
  where,
} from "./elementwise.js";
import { checkInteger, described, fixFor } from "./given.js";
import { limits } from "./hostdata.js";
import { concatenate } from "./joining.js";
import { any, max, min } from "./reductions.js";
import { normalizeAxis } from "./shapes.js";
import { expandDims, moveAxis, reshape, sliceRanges } from "./shaping.js";
import type { Tensor } from "./tensor.js";

/** The whole of `x` repeated `counts[i]` times along each axis (new leading axes where there are more counts). */
export function tile(x: Tensor, counts: readonly number[]): Tensor {
  if (!Array.isArray(counts)) {
    const example = typeof counts === "number" ? `[${counts as number}]` : "[2, 1]";
    throw new ArgumentError(
      `tile: the counts are ${described(counts)}`,
      fixFor(
        counts,
        `give a list, one for each axis: tile(x, ${example}); repeat(x, n, axis) repeats each element`,
      ),
    );
  }
  for (const count of counts) checkInteger("tile: a count", count, "counts are integers of at least 0", 0);
  const rank = Math.max(x.ndim, counts.length);
  const shape = [...new Array<number>(rank - x.ndim).fill(1), ...x.shape];
  const times = [...new Array<number>(rank - counts.length).fill(1), ...counts];
  const spread = shape.flatMap((d, i) => [times[i]!, d]);
  const apart = broadcastInDim(
    reshape(x, shape),
    spread,
    shape.map((_, i) => 2 * i + 1),
  );
  return reshape(
    apart,
    shape.map((d, i) => d * times[i]!),
  );
}

/** Each element along an axis `count` times in a row. */
export function repeat(x: Tensor, count: number, axis = 0): Tensor {
  const along = normalizeAxis("repeat", axis, x.ndim);
  checkInteger("repeat: the count", count, "give an integer of at least 0; tile() repeats the whole", 0);
  const apart = expandDims(x, along + 1);
  const shape = apart.shape.with(along + 1, count);
  return reshape(broadcastTo(apart, shape), x.shape.with(along, x.shape[along]! * count));
}

/** The cells [i, i + offset] of two axes, as a new last axis. */
export function diagonal(x: Tensor, { offset = 0, axes = [0, 1] as readonly [number, number] } = {}): Tensor {
  const [a, b] = axes.map((axis) => normalizeAxis("diagonal", axis, x.ndim)) as [number, number];
  if (a === b) throw new ArgumentError(`diagonal of axes ${axes[0]} and ${axes[1]}`, "name two axes");
  checkInteger("diagonal: the offset", offset, "give an integer");
  const last = moveAxis(moveAxis(x, a, x.ndim - 1), b > a ? b - 1 : b, x.ndim - 1);
  const [rows, columns] = last.shape.slice(-2) as [number, number];
  const first = Math.max(0, -offset);
  const length = Math.max(0, Math.min(rows - first, columns - Math.max(0, offset)));
  if (length === 0) return zerosLike({ shape: last.shape.slice(0, -1).with(-1, 0), dtype: x.dtype });
  // [..., rows, columns] with the other columns masked, summed: one element of each row stays.
  const start = last.shape.map((_, i) => (i === last.ndim - 2 ? first : 0));
  const band = sliceRanges(last, start, last.shape.with(-2, first + length));
  const onIt = equal(add(iota(band.shape, band.ndim - 2), first + offset), iota(band.shape, band.ndim - 1));
  if (x.dtype === "bool") return any(and(onIt, band), -1);
  return reduceSum(where(onIt, band, zerosLike(band)), [band.ndim - 1]);
}

/** The sum of the diagonal; of bools a count. */
export function trace(x: Tensor, offset = 0): Tensor {
  const d = diagonal(x.dtype === "bool" ? cast(x, "int32") : x, { offset });
  return reduceSum(d, [d.ndim - 1]);
}

/** A matrix with the vector `x` on its diagonal. */
export function diag(x: Tensor): Tensor {
  if (x.ndim !== 1) throw new ShapeError(`diag of [${x.shape.join(", ")}]`, "give a vector; see diagonal()");
  const n = x.size;
  const rows = broadcastInDim(x, [n, n], [0]);
  return where(equal(iota([n, n], 0), iota([n, n], 1)), rows, zerosLike(rows));
}

/** Sums of products over the last `axes` axes of `x` and the first of `y`, or over the named ones of each. */
export function tensordot(
  x: Tensor,
  y: Tensor,
  axes: number | readonly [readonly number[], readonly number[]] = 2,
): Tensor {
  const [a, b] =
    typeof axes === "number"
      ? [Array.from({ length: axes }, (_, i) => x.ndim - axes + i), Array.from({ length: axes }, (_, i) => i)]
      : [
          axes[0].map((i) => normalizeAxis("tensordot", i, x.ndim)),
          axes[1].map((i) => normalizeAxis("tensordot", i, y.ndim)),
        ];
  if (a.length !== b.length || (typeof axes === "number" && (axes > x.ndim || axes > y.ndim))) {
    throw new ArgumentError(
      `tensordot of [${x.shape.join(", ")}] and [${y.shape.join(", ")}] over ${JSON.stringify(axes)}`,
      "name as many axes of the one as of the other, and no more than they have",
    );
  }
  return dotGeneral(x, y, { contract: [a, b], batch: [[], []] });
}

/** Products of all pairs of elements: [size of x, size of y]. */
export function outer(x: Tensor, y: Tensor): Tensor {
  return mul(reshape(x, [x.size, 1]), reshape(y, [1, y.size]));
}

/** The Kronecker product of two tensors of one rank. */
export function kron(x: Tensor, y: Tensor): Tensor {
  if (x.ndim !== y.ndim)
    throw new ShapeError(
      `kron of [${x.shape.join(", ")}] and [${y.shape.join(", ")}]`,
      "reshape to one rank",
    );
  const left = reshape(
    x,
    x.shape.flatMap((d) => [d, 1]),
  );
  const right = reshape(
    y,
    y.shape.flatMap((d) => [1, d]),
  );
  return reshape(
    mul(left, right),
    x.shape.map((d, i) => d * y.shape[i]!),
  );
}

/** Differences of neighbours along an axis. */
export function diff(x: Tensor, axis = -1): Tensor {
  const along = normalizeAxis("diff", axis, x.ndim);
  const length = x.shape[along]!;
  const zeros = x.shape.map(() => 0);
  if (length === 0) return x;
  return sub(
    sliceRanges(x, zeros.with(along, 1), x.shape),
    sliceRanges(x, zeros, x.shape.with(along, length - 1)),
  );
}

/** The products of vectors along the last axis, of length 3. */
export function cross(x: Tensor, y: Tensor): Tensor {
  if (x.shape.at(-1) !== 3 || y.shape.at(-1) !== 3)
    throw new ShapeError(
      `cross of [${x.shape.join(", ")}] and [${y.shape.join(", ")}]`,
      "the last axes have length 3",
    );
  const [a, b] = promote("cross", x, y) as [Tensor, Tensor];
  const part = (t: Tensor, i: number): Tensor =>
    sliceRanges(
      t,
      t.shape.map((_, d) => (d === t.ndim - 1 ? i % 3 : 0)),
      t.shape.with(-1, (i % 3) + 1),
    );
  const cell = (i: number): Tensor =>
    sub(mul(part(a, i + 1), part(b, i + 2)), mul(part(a, i + 2), part(b, i + 1)));
  return concatenate([cell(0), cell(1), cell(2)], -1);
}

/** Coordinates of all points of a grid, one tensor for each vector ("ij" order). */
export function meshgrid(...vectors: readonly Tensor[]): Tensor[] {
  const shape = vectors.map((v) => v.size);
  return vectors.map((v, i) => broadcastInDim(reshape(v, [v.size]), shape, [i]));
}

/** The largest minus the smallest element. */
export function peakToPeak(x: Tensor, axes?: number | readonly number[]): Tensor {
  return sub(max(x, axes), min(x, axes));
}

/** `x` with NaN replaced by `nan` and infinities by the largest numbers of the type. */
export function nanToNum(x: Tensor, nan = 0): Tensor {
  if (!isFloat(x.dtype)) return x;
  const { max: top } = limits(x.dtype);
  return where(isnan(x), nan, minimum(maximum(x, -Number(top)), top));
}

/** Logical or of bools, of numbers whether they are not 0. */
export function logicalOr(x: TensorLike, y: TensorLike): Tensor {
  return or(truth(x), truth(y));
}

/** Logical and of bools, of numbers whether they are not 0. */
export function logicalAnd(x: TensorLike, y: TensorLike): Tensor {
  return and(truth(x), truth(y));
}

function truth(x: TensorLike): Tensor {
  return cast(promote("truth", x)[0]!, "bool");
}

/** x from 0 up, else `slope`·x. */
export function leakyRelu(x: Tensor, slope = 0.01): Tensor {
  return where(greaterEqual(x, 0), x, mul(x, slope));
}

/** x above 0, else `alpha`·(exp(x) - 1). */
export function elu(x: Tensor, alpha = 1): Tensor {
  // The unused branch must not overflow: its derivative would be NaN.
  const below = where(greater(x, 0), 0, x);
  return where(greater(x, 0), x, mul(expm1(below), alpha));
}
