/**
 * Random numbers with explicit keys: threefry-2x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), counted by
 * position, so that the bits of an element depend on its key and index only: the same on every device layout, and the same as
 * `jax.random` with `jax_threefry_partitionable`.
 */
import { type DType, isInteger, isUnsigned, itemSize } from "../graph/dtype.js";
import { ArgumentError, DTypeError } from "../graph/errors.js";
import { tensorType } from "../graph/lowering.js";
import type { Shape } from "../graph/node.js";
import { bindAll, type Op } from "./bind.js";
import { broadcastInDim, full } from "./broadcast.js";
import { fromBytes, iota, type Scalar, scalar } from "./creation.js";
import {
  add,
  bitcast,
  cast,
  clip,
  div,
  erf,
  erfinv,
  less,
  log,
  log1p,
  maximum,
  mul,
  neg,
  or,
  rem,
  shiftLeft,
  shiftRightLogical,
  sqrt,
  sub,
  type TensorLike,
  uniform as uniformBatch,
  xor,
} from "./elementwise.js";
import { described, fixFor, INTEGERS } from "./given.js";
import { decode, encode, limits } from "./hostdata.js";
import { take } from "./indexing.js";
import { stack } from "./joining.js";
import { argmax } from "./reductions.js";
import { checkShape, normalizeAxis, sizeOf } from "./shapes.js";
import { reshape, sliceRanges } from "./shaping.js";
import { sortBy } from "./sorting.js";
import { Tensor } from "./tensor.js";

const rotations = [
  [13, 15, 26, 6],
  [17, 29, 16, 24],
] as const;

/** Names of the two words of a block. */
type Words = readonly [x0: string, x1: string];

const INDEX = "tensor<ui32>";

const threefryName = (shape: Shape): string => `threefry2x32_${shape.join("x") || "scalar"}`;

/** The block cipher on pairs of 32-bit words: inputs key0, key1, x0, x1 of one shape. */
const threefryPrimitive: Op<Record<string, never>> = {
  name: "threefry2x32",
  // 20 rounds of addition, rotation (three) and exclusive or, and 6 additions of keys with a word each, 5 of them with a counter.
  flops: ({ outputs: [y] }) => 117 * y!.size,
  zeroDerivative: true,
  shape: ([, , x]) => [
    { shape: x!.shape, dtype: "uint32" },
    { shape: x!.shape, dtype: "uint32" },
  ],
  batch: (inputs, batched, _, size) => bindAll(threefryPrimitive, uniformBatch(inputs, batched, size), {}),
  lower(lowering, { outputs: [y] }, operands) {
    const type = tensorType(y!);
    const symbol = lowering.helper(threefryName(y!.shape), () =>
      threefryFunction(y!.shape, lowering.platform === "cpu"),
    );
    return lowering.emit(
      `func.call ${symbol}(${operands.join(", ")}) : (${type}, ${type}, ${type}, ${type}) -> (${type}, ${type})`,
      2,
    );
  },
};

/**
 * The twenty rounds as a function of its own, so that a program with many draws holds them once a shape. On CPUs a loop over the five blocks, as
 * in JAX: written out, XLA's fusion copies the rounds of one draw into each of the next, and a key made of keys takes minutes to compile.
 */
function threefryFunction(shape: Shape, rolled: boolean): string {
  const type = tensorType({ shape, dtype: "uint32" });
  const lines: string[] = [];
  let next = 0;
  const emit = (text: string): string => {
    const name = `%${next++}`;
    lines.push(`    ${name} = ${text}`);
    return name;
  };
  const op = (name: string, a: string, b: string, of = type): string =>
    emit(`stablehlo.${name} ${a}, ${b} : ${of}`);
  const constant = (value: number, of = type): string => emit(`stablehlo.constant dense<${value}> : ${of}`);
  const round = ([x0, x1]: Words, left: string, right: string): Words => {
    const sum = op("add", x0, x1);
    const turned = op("or", op("shift_left", x1, left), op("shift_right_logical", x1, right));
    return [sum, op("xor", sum, turned)];
  };
  const inject = ([x0, x1]: Words, a: string, b: string, counter: string): Words => [
    op("add", x0, a),
    op("add", op("add", x1, b), counter),
  ];
  const keys = ["%k0", "%k1", op("xor", op("xor", "%k0", "%k1"), constant(0x1bd11bda))];
  let x: Words = [op("add", "%x0", keys[0]!), op("add", "%x1", keys[1]!)];
  if (rolled) {
    const [zero, one] = [constant(0, INDEX), constant(1, INDEX)];
    const limit = constant(5, INDEX);
    const [two, three, width] = [constant(2, INDEX), constant(3, INDEX), constant(32, INDEX)];
    const spread = (scalar: string): string =>
      emit(`stablehlo.broadcast_in_dim ${scalar}, dims = [] : (${INDEX}) -> ${type}`);
    const is = (a: string, b: string): string =>
      emit(`stablehlo.compare EQ, ${a}, ${b}, UNSIGNED : (${INDEX}, ${INDEX}) -> tensor<i1>`);
    const choose = (condition: string, a: string, b: string, of = type): string =>
      emit(`stablehlo.select ${condition}, ${a}, ${b} : tensor<i1>, ${of}`);
    const loop = `%${next++}`;
    lines.push(
      `    ${loop}:3 = stablehlo.while(%i = ${zero}, %a = ${x[0]}, %b = ${x[1]}) : ${INDEX}, ${type}, ${type} cond {`,
    );
    const going = emit(`stablehlo.compare LT, %i, ${limit}, UNSIGNED : (${INDEX}, ${INDEX}) -> tensor<i1>`);
    lines.push(`    stablehlo.return ${going} : tensor<i1>`, "    } do {");
    x = ["%a", "%b"];
    const even = is(op("remainder", "%i", two, INDEX), zero);
    for (const [i, first] of rotations[0].entries()) {
      const by = choose(even, constant(first, INDEX), constant(rotations[1][i]!, INDEX), INDEX);
      x = round(x, spread(by), spread(op("subtract", width, by, INDEX)));
    }
    const third = op("remainder", "%i", three, INDEX);
    const [at0, at1] = [is(third, zero), is(third, one)];
    const key = (i: number): string =>
      choose(at0, keys[i % 3]!, choose(at1, keys[(i + 1) % 3]!, keys[(i + 2) % 3]!));
    const count = op("add", "%i", one, INDEX);
    x = inject(x, key(1), key(2), spread(count));
    lines.push(`    stablehlo.return ${count}, ${x.join(", ")} : ${INDEX}, ${type}, ${type}`, "    }");
    x = [`${loop}#1`, `${loop}#2`];
  } else {
    for (let block = 0; block < 5; block++) {
      for (const r of rotations[block % 2]!) x = round(x, constant(r), constant(32 - r));
      x = inject(x, keys[(block + 1) % 3]!, keys[(block + 2) % 3]!, constant(block + 1));
    }
  }
  return `  func.func private @${threefryName(shape)}(%k0: ${type}, %k1: ${type}, %x0: ${type}, %x1: ${type}) -> (${type}, ${type}) {\n${lines.join("\n")}\n    return ${x.join(", ")} : ${type}, ${type}\n  }\n`;
}

/** A random key: a uint32 Tensor of shape [2]. */
export type Key = Tensor;

/** A key from a seed, an integer of up to 53 bits. Equal to `jax.random.PRNGKey(seed)`. */
export function key(seed: number): Key {
  return fromBytes(new Uint8Array(keyWords(seed).buffer), [2], "uint32");
}

/** The two words of `key(seed)`. */
export function keyWords(seed: number): Uint32Array {
  if (!Number.isSafeInteger(seed))
    throw new ArgumentError(
      `random key from ${described(seed)}`,
      fixFor(seed, "the seed must be an integer"),
    );
  const wide = BigInt.asUintN(64, BigInt(seed));
  // JAX takes the low 32 bits of a negative or small seed; both words of a larger one.
  const high = seed < 0 ? 0n : wide >> 32n;
  return Uint32Array.of(Number(high), Number(wide & 0xffffffffn));
}

function asKey(k: Key | number): Key {
  if (typeof k === "number") return key(k);
  if (!(k instanceof Tensor) || k.dtype !== "uint32" || k.shape.length !== 1 || k.shape[0] !== 2) {
    throw new ArgumentError(
      `a random key is a uint32[2], not ${described(k)}`,
      fixFor(
        k,
        Array.isArray(k)
          ? `the key comes first, then the shape: random.normal(random.key(0), [${(k as unknown[]).map(described).join(", ")}])`
          : typeof k === "object" && k !== null && "training" in k
            ? "a loss gets a context as its third argument: take the key of it, (model, batch, { key }) => ..."
            : "make one with random.key(seed), random.splitKeys() or random.foldIn()",
      ),
    );
  }
  return k;
}

function word(k: Key, i: 0 | 1, shape: Shape): Tensor {
  return broadcastInDim(reshape(sliceRanges(k, [i], [i + 1]), []), shape, []);
}

/** The cipher on the counters 0 … n-1 of `shape`, each as a pair (high, low) of 32-bit words. */
function blocks(k: Key, shape: Shape): readonly [Tensor, Tensor] {
  const size = sizeOf(shape);
  if (size > 2 ** 32)
    throw new ArgumentError(`random: ${size} elements in one draw`, "draw at most 2^32 at a time");
  const counter = reshape(iota([size], 0, { dtype: "uint32" }), shape);
  const high = full(shape, 0, { dtype: "uint32" });
  return bindAll(threefryPrimitive, [word(k, 0, shape), word(k, 1, shape), high, counter], {}) as readonly [
    Tensor,
    Tensor,
  ];
}

/** `count` independent keys, as a uint32 Tensor of shape [count, 2]. Equal to `jax.random.split`. */
export function splitKey(k: Key | number, count = 2): Tensor {
  const [a, b] = blocks(asKey(k), [count]);
  return stack([a, b], 1);
}

/** The keys of `splitKey` one by one. */
export function splitKeys(k: Key | number, count = 2): Key[] {
  const keys = splitKey(k, count);
  return Array.from({ length: count }, (_, i) => reshape(sliceRanges(keys, [i, 0], [i + 1, 2]), [2]));
}

/** A key that depends on `data` (a 32-bit integer or integer scalar Tensor) too. Equal to `jax.random.fold_in`. */
export function foldIn(k: Key | number, data: number | Tensor): Key {
  const base = asKey(k);
  if (data instanceof Tensor ? !isInteger(data.dtype) || data.ndim !== 0 : !Number.isInteger(data))
    throw new ArgumentError(`foldIn of ${described(data)}`, `give an integer scalar: ${INTEGERS}`);
  const low = data instanceof Tensor ? cast(data, "uint32") : scalar(data >>> 0, "uint32");
  const [a, b] = bindAll(
    threefryPrimitive,
    [word(base, 0, []), word(base, 1, []), scalar(0, "uint32"), low],
    {},
  );
  return stack([a!, b!], 0);
}

/** Uniform random bits of an unsigned type. */
export function bits(k: Key | number, shape: Shape, { dtype = "uint32" as DType } = {}): Tensor {
  const own = asKey(k);
  checkShape("random.bits", shape);
  if (!isUnsigned(dtype)) throw new DTypeError(`random bits of ${dtype}`, "use an unsigned integer type");
  const [a, b] = blocks(own, shape);
  if (dtype === "uint64") {
    return or(shiftLeft(cast(a, "uint64"), 32), cast(b, "uint64"));
  }
  return cast(xor(a, b), dtype);
}

export interface RandomOptions {
  dtype?: DType;
}

/** How a uniform number is made from random bits: how many, and the width of the mantissa they fill. */
const formats: Partial<
  Record<DType, { bits: DType; width: number; mantissa: number; word: DType; one: Scalar }>
> = {
  float32: { bits: "uint32", width: 32, mantissa: 23, word: "uint32", one: 0x3f800000 },
  float64: { bits: "uint64", width: 64, mantissa: 52, word: "uint64", one: 0x3ff0000000000000n },
  bfloat16: { bits: "uint8", width: 8, mantissa: 7, word: "uint16", one: 0x3f80 },
  float16: { bits: "uint16", width: 16, mantissa: 10, word: "uint16", one: 0x3c00 },
};

/** Uniform in [`low`, `high`). Equal to `jax.random.uniform`. */
export function uniform(
  k: Key | number,
  shape: Shape,
  { dtype = "float32", low = 0, high = 1 }: RandomOptions & { low?: number; high?: number } = {},
): Tensor {
  const format = formats[dtype];
  if (format === undefined) throw new DTypeError(`random.uniform of ${dtype}`, "draw float32 and convert");
  const raw = cast(bits(k, shape, { dtype: format.bits }), format.word);
  const mantissa = shiftRightLogical(raw, format.width - format.mantissa);
  // A number in [1, 2), whose mantissa is random.
  const unit = sub(bitcast(or(mantissa, scalar(format.one, format.word)), dtype), 1);
  if (low === 0 && high === 1) return unit;
  const [from, to] = [scalar(low, dtype), scalar(high, dtype)];
  return maximum(add(mul(unit, sub(to, from)), from), from);
}

/** Standard normal, by the inverse error function. Equal to `jax.random.normal`. */
export function normal(k: Key | number, shape: Shape, { dtype = "float32" }: RandomOptions = {}): Tensor {
  checkFloat("normal", dtype);
  // The open interval: -1 itself would give -infinity.
  const low = nextAfter(-1, 1, dtype);
  return mul(erfinv(uniform(k, shape, { dtype, low, high: 1 })), Math.SQRT2);
}

/**
 * Standard normal restricted to the open interval (`low`, `high`). Equal to `jax.random.truncated_normal` where the interval begins within 2 of
 * 0; farther out in a tail, where that has but few distinct numbers, the same distribution in full precision.
 */
export function truncatedNormal(
  k: Key | number,
  shape: Shape,
  { dtype = "float32", low = -2, high = 2 }: RandomOptions & { low?: number; high?: number } = {},
): Tensor {
  checkFloat("truncatedNormal", dtype);
  if (!(low < high))
    throw new ArgumentError(`random.truncatedNormal in (${low}, ${high})`, "give low below high");
  const inside = (x: Tensor): Tensor => clip(x, nextAfter(low, 1, dtype), nextAfter(high, -1, dtype));
  if (low >= 2) return inside(tail(k, shape, low, high, dtype));
  if (high <= -2) return inside(neg(tail(k, shape, -high, -low, dtype)));
  const root = scalar(Math.SQRT2, dtype);
  const [from, to] = [erf(div(scalar(low, dtype), root)), erf(div(scalar(high, dtype), root))];
  const unit = uniform(k, shape, { dtype });
  return inside(mul(erfinv(maximum(add(mul(unit, sub(to, from)), from), from)), root));
}

/**
 * Standard normal in [`low`, `high`], 2 <= low: where the chance of a larger number, relative to that at `low`, is the uniform number drawn.
 * Newton's method finds the distance d from `low`, on the logarithm of that chance, which does not underflow.
 */
function tail(k: Key | number, shape: Shape, low: number, high: number, dtype: DType): Tensor {
  const wide = dtype === "float64" ? dtype : "float32";
  const numbers = { add: (x: number, y: number) => x + y, divide: (x: number, y: number) => x / y };
  const tensors = { add, divide: (x: number, y: Tensor) => div(x, y) };
  const millsAtLow = millsRatio(low, numbers);
  const atHigh =
    high === Number.POSITIVE_INFINITY
      ? 0
      : (millsRatio(high, numbers) / millsAtLow) * Math.exp((-(high - low) * (high + low)) / 2);
  const wanted = log1p(mul(cast(uniform(k, shape, { dtype }), wide), atHigh - 1));
  // Where the ratio of Mills were that at `low`; below the solution, from where Newton's steps do not overshoot much.
  const below = (logChance: Tensor): Tensor => {
    const twice = mul(logChance, -2);
    return div(twice, add(sqrt(add(twice, low * low)), low));
  };
  let d = mul(below(wanted), low * millsAtLow);
  for (let step = 0; step < 4; step++) {
    const mills = millsRatio(add(d, low), tensors);
    const logChance = sub(log(mul(mills, 1 / millsAtLow)), mul(mul(d, add(d, 2 * low)), 0.5));
    d = maximum(add(d, mul(sub(logChance, wanted), mills)), 0);
  }
  return cast(add(d, low), dtype);
}

/** (1 - Φ(x)) / φ(x) for x >= 2, by Laplace's continued fraction 1/(x + 1/(x + 2/(x + 3/(x + …)))); its error is below 1e-12. */
function millsRatio<T extends number | Tensor>(
  x: T,
  { add: plus, divide }: { add: (x: T, y: T) => T; divide: (x: number, y: T) => T },
): T {
  let rest = x;
  for (let n = 32; n >= 1; n--) rest = plus(x, divide(n, rest));
  return divide(1, rest);
}

/** The neighbour of `x` among the numbers of `dtype`, above it or below; of an infinity, the largest. */
function nextAfter(x: number, direction: 1 | -1, dtype: DType): number {
  if (!Number.isFinite(x)) return Math.sign(x) * Number(limits(dtype).max);
  if (dtype === "float64") {
    const view = new DataView(new ArrayBuffer(8));
    view.setFloat64(0, x);
    const away = x === 0 || x > 0 === direction > 0;
    if (x === 0) return direction * Number.MIN_VALUE;
    view.setBigInt64(0, view.getBigInt64(0) + (away ? 1n : -1n));
    return view.getFloat64(0);
  }
  const { mantissa } = formats[dtype]!;
  const rounded = Number(decode(encode([x], dtype), dtype)[0]);
  const exponent = Math.floor(Math.log2(Math.abs(rounded)));
  // Towards zero from a power of two the spacing is that of the binade below.
  const inward = rounded > 0 !== direction > 0 && Math.abs(rounded) === 2 ** exponent;
  return rounded + direction * 2 ** (exponent - mantissa - (inward ? 1 : 0));
}

function checkFloat(name: string, dtype: DType): void {
  if (formats[dtype] === undefined)
    throw new DTypeError(`random.${name} of ${dtype}`, "draw float32 and convert");
}

/** True with probability `p`. */
export function bernoulli(k: Key | number, p: TensorLike, shape: Shape): Tensor {
  return less(uniform(k, shape), p);
}

/** Gumbel(0, 1). Equal to `jax.random.gumbel`. */
export function gumbel(k: Key | number, shape: Shape, { dtype = "float32" }: RandomOptions = {}): Tensor {
  checkFloat("gumbel", dtype);
  const tiny = { float64: 2 ** -1022, float16: 2 ** -14 }[dtype as string] ?? 2 ** -126;
  return neg(log(neg(log(uniform(k, shape, { dtype, low: tiny, high: 1 })))));
}

/** Indices (int32) drawn with probabilities softmax(`logits`) along `axis`, by the Gumbel-max trick. */
export function categorical(k: Key | number, logits: Tensor, axis = -1): Tensor {
  return argmax(add(logits, gumbel(k, logits.shape, { dtype: logits.dtype })), axis);
}

/** Integers uniform in [`low`, `high`), from twice the bits of the type, so that the bias is negligible. Equal to `jax.random.randint`. */
export function integers(
  k: Key | number,
  shape: Shape,
  low: number,
  high: number,
  { dtype = "int32" as DType } = {},
): Tensor {
  if (!isInteger(dtype)) throw new DTypeError(`random.integers of ${dtype}`, "use an integer type");
  const { min, max } = limits(dtype);
  if (!Number.isInteger(low) || !Number.isInteger(high) || low >= high || low < min || high - 1 > max) {
    throw new ArgumentError(
      `random.integers in [${low}, ${high}) of ${dtype}`,
      `give integers with ${min} <= low < high <= ${max} + 1`,
    );
  }
  const wide = itemSize(dtype) === 8;
  const word = wide ? "uint64" : "uint32";
  const width = wide ? 64n : 32n;
  const [first, second] = splitKeys(k);
  const [upper, lower] = [bits(first!, shape, { dtype: word }), bits(second!, shape, { dtype: word })];
  const span = BigInt(high) - BigInt(low);
  let offset = lower;
  if (span < 1n << width) {
    const divisor = scalar(span, word);
    const multiplier = scalar(((1n << (width / 2n)) % span) ** 2n % span, word);
    offset = rem(add(mul(rem(upper, divisor), multiplier), rem(lower, divisor)), divisor);
  }
  return add(cast(offset, dtype), scalar(low, dtype));
}

/** The integers below `x` in random order, or `x` with its slices along an axis in random order. Equal to `jax.random.permutation`. */
export function permutation(k: Key | number, x: number | Tensor, axis = 0): Tensor {
  if (x instanceof Tensor && x.ndim !== 1) {
    return take(x, permutation(k, x.shape[normalizeAxis("permutation", axis, x.ndim)]!), axis);
  }
  let shuffled = x instanceof Tensor ? x : iota([x], 0);
  let key = asKey(k);
  // Sorting by random 32-bit keys, again until collisions do not matter any more.
  const rounds = Math.ceil((3 * Math.log(Math.max(1, shuffled.size))) / Math.log(2 ** 32 - 1));
  for (let round = 0; round < rounds; round++) {
    const [next, own] = splitKeys(key) as [Key, Key];
    key = next;
    shuffled = sortBy(bits(own, shuffled.shape), [shuffled], 0)[1]!;
  }
  return shuffled;
}
