/** Sums of products: dot_general and what is written with it. */
import { type DType, isComplex, promoteTypes } from "../graph/dtype.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { functionType } from "../graph/lowering.js";
import { bind, type Op } from "./bind.js";
import { addBatchAxis, broadcastTo } from "./broadcast.js";
import { cast } from "./elementwise.js";
import { AWAIT, described, isPromise } from "./given.js";
import { broadcastShapes } from "./shapes.js";
import { inverse, transpose } from "./shaping.js";
import { Tensor } from "./tensor.js";

/** Which axes of the two operands are paired; `batch` ones are kept, `contract` ones summed over. */
export interface DotDimensions {
  readonly contract: readonly [readonly number[], readonly number[]];
  readonly batch: readonly [readonly number[], readonly number[]];
}

/** How float32 operands are multiplied on devices with faster, less exact units. */
export type Precision = "default" | "high" | "highest";

interface DotAttributes extends DotDimensions {
  readonly [name: string]: unknown;
  /** Element type of the result, and so of the sums. */
  readonly dtype: DType;
  readonly precision: Precision;
}

const free = (rank: number, ...taken: (readonly number[])[]): number[] =>
  Array.from({ length: rank }, (_, i) => i).filter((i) => !taken.some((axes) => axes.includes(i)));

/** A product and its sum: two operations, eight of complex numbers. */
export const fusedMultiplyAdd = (dtype: DType): number => (isComplex(dtype) ? 8 : 2);

const dotGeneralPrimitive: Op<DotAttributes> = {
  name: "dot_general",
  flops: ({ inputs: [x], outputs: [y], attributes: { contract } }) =>
    fusedMultiplyAdd(y!.dtype) * y!.size * contract[0].reduce((n, axis) => n * x!.shape[axis]!, 1),
  shape([x, y], { contract, batch, dtype }) {
    for (const [kind, [left, right]] of [
      ["contracting", contract],
      ["batch", batch],
    ] as const) {
      for (const [i, a] of left.entries()) {
        if (x!.shape[a] !== y!.shape[right[i]!]) {
          throw new ShapeError(
            `dot of [${x!.shape.join(", ")}] and [${y!.shape.join(", ")}]: ${kind} axes ${a} and ${right[i]} have lengths ${x!.shape[a]} and ${y!.shape[right[i]!]}`,
            "the lengths of paired axes must be equal; transpose or reshape one operand",
          );
        }
      }
    }
    return [
      {
        shape: [
          ...batch[0].map((a) => x!.shape[a]!),
          ...free(x!.shape.length, contract[0], batch[0]).map((a) => x!.shape[a]!),
          ...free(y!.shape.length, contract[1], batch[1]).map((a) => y!.shape[a]!),
        ],
        dtype,
      },
    ];
  },
  vjp({ inputs: [x, y], attributes }, [g]) {
    if (g === undefined) return [undefined, undefined];
    return [dotTranspose(g, x!, y!, attributes, false), dotTranspose(g, y!, x!, attributes, true)];
  },
  batch([x, y], [xBatched, yBatched], { contract, batch, dtype, precision }, size) {
    const left = xBatched ? x! : addBatchAxis(x!, size);
    const right = yBatched ? y! : addBatchAxis(y!, size);
    const up = (axes: readonly number[]): number[] => axes.map((a) => a + 1);
    return [
      bind(dotGeneralPrimitive, [left, right], {
        contract: [up(contract[0]), up(contract[1])],
        batch: [
          [0, ...up(batch[0])],
          [0, ...up(batch[1])],
        ],
        dtype,
        precision,
      }),
    ];
  },
  lower(lowering, { inputs, outputs, attributes: { contract, batch, precision } }, [x, y]) {
    const pair = ([a, b]: readonly [readonly number[], readonly number[]]): string =>
      `[${a.join(", ")}] x [${b.join(", ")}]`;
    const batching = batch[0].length === 0 ? "" : `batching_dims = ${pair(batch)}, `;
    const config = precision.toUpperCase();
    return lowering.emit(
      `stablehlo.dot_general ${x}, ${y}, ${batching}contracting_dims = ${pair(contract)}, precision = [${config}, ${config}] : ${functionType(inputs, outputs)}`,
    );
  },
};

/** The cotangent of operand `x` (the second one if `swapped`), in the operand's own axis order and type. */
function dotTranspose(
  g: Tensor,
  x: Tensor,
  other: Tensor,
  attributes: DotAttributes,
  swapped: boolean,
): Tensor {
  const side = swapped ? 1 : 0;
  const [contractX, contractOther] = [attributes.contract[side]!, attributes.contract[1 - side]!];
  const [batchX, batchOther] = [attributes.batch[side]!, attributes.batch[1 - side]!];
  const keptX = free(x.ndim, contractX, batchX);
  const keptOther = free(other.ndim, contractOther, batchOther);
  const batchRange = Array.from({ length: batchX.length }, (_, i) => i);
  // g's axes: batch, then the kept ones of the first operand, then of the second.
  const start = batchX.length + (swapped ? keptX.length : 0);
  const keptInG = Array.from({ length: keptOther.length }, (_, i) =>
    swapped ? batchX.length + i : start + keptX.length + i,
  );
  const first = cast(g, other.dtype);
  const product = bind(dotGeneralPrimitive, [first, other], {
    contract: [keptInG, keptOther],
    batch: [batchRange, batchOther],
    dtype: x.dtype,
    precision: attributes.precision,
  });
  // The product's axes: batch, x's kept axes, then x's contracted axes in the order in which `other` has theirs.
  const order = [...contractOther.keys()].sort((a, b) => contractOther[a]! - contractOther[b]!);
  const axes = [...batchX, ...keptX, ...order.map((i) => contractX[i]!)];
  return transpose(product, inverse(axes));
}

export interface DotOptions {
  /** Element type of the result; default the operands' common type. bfloat16 operands accumulate in float32 either way. */
  dtype?: DType;
  precision?: Precision;
}

/** XLA's general dot product: batch axes first, then the free axes of `x`, then those of `y`. */
export function dotGeneral(
  x: Tensor,
  y: Tensor,
  { contract, batch }: DotDimensions,
  options: DotOptions = {},
): Tensor {
  // float8 operands of different kinds multiply as they are; all else is brought to one type.
  const mixed = x.dtype !== y.dtype && !(x.dtype.startsWith("float8") && y.dtype.startsWith("float8"));
  const common = mixed ? promoteTypes(x.dtype, y.dtype) : x.dtype;
  return bind(dotGeneralPrimitive, mixed ? [cast(x, common), cast(y, common)] : [x, y], {
    contract: [[...contract[0]], [...contract[1]]],
    batch: [[...batch[0]], [...batch[1]]],
    dtype: options.dtype ?? common,
    precision: options.precision ?? "default",
  });
}

/** Matrix product of the last two axes with NumPy's rules: leading axes broadcast, vectors are rows on the left and columns on the right. */
export function matmul(x: Tensor, y: Tensor, options: DotOptions = {}): Tensor {
  if (!(x instanceof Tensor && y instanceof Tensor)) {
    throw new ArgumentError(
      `matmul of ${described(x)} and ${described(y)}`,
      isPromise(x) || isPromise(y)
        ? AWAIT
        : "multiply by numbers with mul(); make a Tensor of nested arrays with tensor()",
    );
  }
  if (x.ndim === 0 || y.ndim === 0) {
    throw new ShapeError(
      `matmul of [${x.shape.join(", ")}] and [${y.shape.join(", ")}]`,
      "multiply by scalars with mul()",
    );
  }
  const inner = y.ndim === 1 ? 0 : y.ndim - 2;
  if (x.shape[x.ndim - 1] !== y.shape[inner]) {
    throw new ShapeError(
      `matmul of [${x.shape.join(", ")}] and [${y.shape.join(", ")}]: the last axis of the first is ${x.shape[x.ndim - 1]} and axis ${inner} of the second is ${y.shape[inner]}`,
      "they must be equal; transpose or reshape one operand",
    );
  }
  if (y.ndim <= 2) return dotGeneral(x, y, { contract: [[x.ndim - 1], [inner]], batch: [[], []] }, options);
  if (x.ndim === 1) {
    const product = dotGeneral(y, x, { contract: [[inner], [0]], batch: [[], []] }, options);
    return product;
  }
  const lead = broadcastShapes("matmul", x.shape.slice(0, -2), y.shape.slice(0, -2));
  const left = broadcastTo(x, [...lead, ...x.shape.slice(-2)]);
  const right = broadcastTo(y, [...lead, ...y.shape.slice(-2)]);
  const batch = lead.map((_, i) => i);
  return dotGeneral(
    left,
    right,
    { contract: [[lead.length + 1], [lead.length]], batch: [batch, batch] },
    options,
  );
}
