/** Sums of products: dot_general and what is written with it. */
import { type DType, promoteTypes } from "../graph/dtype.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { functionType } from "../graph/lowering.js";
import { bind, type Op } from "./bind.js";
import { addBatchAxis, broadcastTo, reduceSum, zerosLike } from "./broadcast.js";
import { iota } from "./creation.js";
import { cast, equal, mul, where } from "./elementwise.js";
import { broadcastShapes } from "./shapes.js";
import { inverse, reshape, transpose } from "./shaping.js";
import type { Tensor } from "./tensor.js";

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

const dotGeneralPrimitive: Op<DotAttributes> = {
  name: "dot_general",
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

/**
 * Einstein summation, `einsum("btd,df->btf", x, w)`. Any number of operands, contracted from the left, each label summed as soon as
 * no later operand and no output needs it; `...` stands for leading axes that broadcast.
 */
export function einsum(equation: string, ...operands: readonly Tensor[]): Tensor {
  const [left, right] = equation.replaceAll(" ", "").split("->");
  let terms = left!.split(",");
  if (terms.length !== operands.length) {
    throw new ArgumentError(`einsum "${equation}": ${terms.length} terms for ${operands.length} operands`);
  }
  const ellipsis = Math.max(
    0,
    ...terms.map((t, i) => (t.includes("...") ? operands[i]!.ndim - t.length + 3 : 0)),
  );
  const dots = Array.from({ length: ellipsis }, (_, i) => String.fromCharCode(0x2460 + i)).join("");
  terms = terms.map((t, i) => {
    if (!t.includes("...")) return t;
    return t.replace("...", dots.slice(ellipsis - (operands[i]!.ndim - t.length + 3)));
  });
  const sizes = new Map<string, number>();
  for (const [i, term] of terms.entries()) {
    if ([...term].length !== operands[i]!.ndim) {
      throw new ShapeError(
        `einsum "${equation}": term "${term}" has ${term.length} labels for shape [${operands[i]!.shape.join(", ")}]`,
      );
    }
    for (const [axis, label] of [...term].entries()) {
      const length = operands[i]!.shape[axis]!;
      const known = sizes.get(label);
      if (known !== undefined && known !== length && known !== 1 && length !== 1) {
        throw new ShapeError(
          `einsum "${equation}": label "${label}" is ${known} in one operand and ${length} in "${term}"`,
        );
      }
      sizes.set(label, Math.max(known ?? 0, length));
    }
  }
  const counts = [...terms.join("")].filter((c, _, all) => all.filter((d) => d === c).length === 1);
  const output =
    right === undefined
      ? dots +
        [...new Set(counts)]
          .filter((c) => !dots.includes(c))
          .sort()
          .join("")
      : right.replace("...", dots);
  for (const label of output) {
    if (!sizes.has(label))
      throw new ArgumentError(`einsum "${equation}": output label "${label}" is in no operand`);
  }
  if (new Set(output).size !== [...output].length) {
    throw new ArgumentError(`einsum "${equation}": an output label is repeated`);
  }
  let [current, labels] = [operands[0]!, terms[0]!];
  [current, labels] = prepare(current, labels, terms.slice(1).join("") + output);
  for (let i = 1; i < operands.length; i++) {
    const later = terms.slice(i + 1).join("") + output;
    const [next, nextLabels] = prepare(operands[i]!, terms[i]!, labels + later);
    [current, labels] = contractPair(current, labels, next, nextLabels, later);
  }
  const missing = [...output].filter((c) => !labels.includes(c));
  if (missing.length > 0)
    throw new ArgumentError(`einsum "${equation}": labels ${missing.join(", ")} were lost`);
  return transpose(
    current,
    [...output].map((c) => labels.indexOf(c)),
  );
}

/** Takes diagonals of repeated labels and sums labels that nothing else needs. */
function prepare(x: Tensor, labels: string, needed: string): [Tensor, string] {
  let [value, names] = [x, [...labels]];
  for (const label of new Set(names)) {
    while (names.filter((c) => c === label).length > 1) [value, names] = diagonal(value, names, label);
  }
  const summed = names.flatMap((c, i) => (needed.includes(c) ? [] : [i]));
  return [reduceSum(value, summed), names.filter((_, i) => !summed.includes(i)).join("")];
}

/** Keeps the elements with equal indices along both axes of a repeated label. */
function diagonal(x: Tensor, names: string[], label: string): [Tensor, string[]] {
  const i = names.indexOf(label);
  const j = names.indexOf(label, i + 1);
  const same = equal(iota(x.shape, i), iota(x.shape, j));
  return [reduceSum(where(same, x, zerosLike(x)), [j]), names.filter((_, k) => k !== j)];
}

function contractPair(x: Tensor, xl: string, y: Tensor, yl: string, later: string): [Tensor, string] {
  const shared = [...xl].filter((c) => yl.includes(c));
  const broadcasting = shared.filter((c) => x.shape[xl.indexOf(c)] !== y.shape[yl.indexOf(c)]);
  if (broadcasting.length > 0) {
    const squeezeOnes = (v: Tensor, names: string): [Tensor, string] => {
      const ones = [...names].flatMap((c, i) => (broadcasting.includes(c) && v.shape[i] === 1 ? [i] : []));
      return [
        reshape(
          v,
          v.shape.filter((_, i) => !ones.includes(i)),
        ),
        [...names].filter((_, i) => !ones.includes(i)).join(""),
      ];
    };
    const [a, al] = squeezeOnes(x, xl);
    const [b, bl] = squeezeOnes(y, yl);
    return contractPair(a, al, b, bl, later);
  }
  const contracted = shared.filter((c) => !later.includes(c));
  const batch = shared.filter((c) => later.includes(c));
  const result = [
    ...batch,
    ...[...xl].filter((c) => !shared.includes(c)),
    ...[...yl].filter((c) => !shared.includes(c)),
  ];
  if (contracted.length === 0 && batch.length === result.length) {
    const aligned = transpose(
      y,
      [...xl].map((c) => yl.indexOf(c)),
    );
    return [mul(x, aligned), xl];
  }
  const positions = (labels: string[], names: string): number[] => labels.map((c) => names.indexOf(c));
  return [
    dotGeneral(x, y, {
      contract: [positions(contracted, xl), positions(contracted, yl)],
      batch: [positions(batch, xl), positions(batch, yl)],
    }),
    result.join(""),
  ];
}
