/**
 * Random numbers with explicit keys: threefry-2x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), counted by
 * position, so that the bits of an element depend on its key and index only: the same on every device layout, and the same as
 * `jax.random` with `jax_threefry_partitionable`.
 */
import { type DType, isFloat, isUnsigned } from "../graph/dtype.js";
import { ArgumentError, DTypeError } from "../graph/errors.js";
import { tensorType } from "../graph/lowering.js";
import type { Shape } from "../graph/node.js";
import { bindAll, type Op } from "./bind.js";
import { broadcastInDim, full } from "./broadcast.js";
import { fromBytes, iota, scalar } from "./creation.js";
import {
  add,
  bitcast,
  cast,
  clip,
  erfinv,
  less,
  log,
  maximum,
  mul,
  neg,
  or,
  rem,
  shiftLeft,
  shiftRightLogical,
  sub,
  type TensorLike,
  uniform as uniformBatch,
  xor,
} from "./elementwise.js";
import { stack } from "./joining.js";
import { argmax } from "./reductions.js";
import { checkShape, sizeOf } from "./shapes.js";
import { reshape, sliceRanges } from "./shaping.js";
import { Tensor } from "./tensor.js";

const rotations = [
  [13, 15, 26, 6],
  [17, 29, 16, 24],
] as const;

/** The block cipher on pairs of 32-bit words: inputs key0, key1, x0, x1 of one shape. */
const threefryPrimitive: Op<Record<string, never>> = {
  name: "threefry2x32",
  zeroDerivative: true,
  shape: ([, , x]) => [
    { shape: x!.shape, dtype: "uint32" },
    { shape: x!.shape, dtype: "uint32" },
  ],
  batch: (inputs, batched, _, size) => bindAll(threefryPrimitive, uniformBatch(inputs, batched, size), {}),
  lower(lowering, { outputs: [y] }, operands) {
    const type = tensorType(y!);
    const symbol = lowering.helper(`threefry2x32_${y!.shape.join("x") || "scalar"}`, () =>
      threefryFunction(y!.shape),
    );
    return lowering.emit(
      `func.call ${symbol}(${operands.join(", ")}) : (${type}, ${type}, ${type}, ${type}) -> (${type}, ${type})`,
      2,
    );
  },
};

/** The twenty rounds as a function of its own, so that a program with many draws holds them once a shape. */
function threefryFunction(shape: Shape): string {
  const type = tensorType({ shape, dtype: "uint32" });
  const lines: string[] = [];
  let next = 0;
  const emit = (text: string): string => {
    const name = `%${next++}`;
    lines.push(`    ${name} = ${text}`);
    return name;
  };
  const op = (name: string, a: string, b: string): string => emit(`stablehlo.${name} ${a}, ${b} : ${type}`);
  const word = (value: number): string => emit(`stablehlo.constant dense<${value}> : ${type}`);
  const keys = ["%k0", "%k1", op("xor", op("xor", "%k0", "%k1"), word(0x1bd11bda))];
  let x0 = op("add", "%x0", keys[0]!);
  let x1 = op("add", "%x1", keys[1]!);
  for (let block = 0; block < 5; block++) {
    for (const r of rotations[block % 2]!) {
      x0 = op("add", x0, x1);
      const left = op("shift_left", x1, word(r));
      const right = op("shift_right_logical", x1, word(32 - r));
      x1 = op("xor", x0, op("or", left, right));
    }
    x0 = op("add", x0, keys[(block + 1) % 3]!);
    x1 = op("add", op("add", x1, keys[(block + 2) % 3]!), word(block + 1));
  }
  const name = `threefry2x32_${shape.join("x") || "scalar"}`;
  return `  func.func private @${name}(%k0: ${type}, %k1: ${type}, %x0: ${type}, %x1: ${type}) -> (${type}, ${type}) {\n${lines.join("\n")}\n    return ${x0}, ${x1} : ${type}, ${type}\n  }\n`;
}

/** A random key: a uint32 Tensor of shape [2]. */
export type Key = Tensor;

/** A key from a seed, an integer of up to 53 bits. Equal to `jax.random.PRNGKey(seed)`. */
export function key(seed: number): Key {
  if (!Number.isSafeInteger(seed))
    throw new ArgumentError(`random key from ${seed}`, "the seed must be an integer");
  const wide = BigInt.asUintN(64, BigInt(seed));
  // JAX takes the low 32 bits of a negative or small seed; both words of a larger one.
  const high = seed < 0 ? 0n : wide >> 32n;
  const words = Uint32Array.of(Number(high), Number(wide & 0xffffffffn));
  return fromBytes(new Uint8Array(words.buffer), [2], "uint32");
}

function asKey(k: Key | number): Key {
  if (typeof k === "number") return key(k);
  if (!(k instanceof Tensor) || k.dtype !== "uint32" || k.shape.length !== 1 || k.shape[0] !== 2) {
    throw new ArgumentError(
      `a random key is a uint32[2], not ${k}`,
      "make one with random.key(seed), random.split() or random.foldIn()",
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
  checkShape("random.bits", shape);
  if (!isUnsigned(dtype)) throw new DTypeError(`random bits of ${dtype}`, "use an unsigned integer type");
  const [a, b] = blocks(asKey(k), shape);
  if (dtype === "uint64") {
    return or(shiftLeft(cast(a, "uint64"), 32), cast(b, "uint64"));
  }
  return cast(xor(a, b), dtype);
}

export interface RandomOptions {
  dtype?: DType;
}

const formats: Partial<Record<DType, { bits: DType; width: number; mantissa: number }>> = {
  float32: { bits: "uint32", width: 32, mantissa: 23 },
  float64: { bits: "uint64", width: 64, mantissa: 52 },
  bfloat16: { bits: "uint16", width: 16, mantissa: 7 },
  float16: { bits: "uint16", width: 16, mantissa: 10 },
};

/** Uniform in [`low`, `high`). */
export function uniform(
  k: Key | number,
  shape: Shape,
  { dtype = "float32", low = 0, high = 1 }: RandomOptions & { low?: number; high?: number } = {},
): Tensor {
  const format = formats[dtype];
  if (format === undefined) throw new DTypeError(`random.uniform of ${dtype}`, "draw float32 and convert");
  const raw = bits(k, shape, { dtype: format.bits });
  const mantissa = shiftRightLogical(raw, format.width - format.mantissa);
  // The mantissa of a number in [1, 2).
  const one = { float32: 0x3f800000, bfloat16: 0x3f80, float16: 0x3c00, float64: 0x3ff0000000000000n }[
    dtype as "float32"
  ];
  const unit = sub(bitcast(or(mantissa, scalar(one, format.bits)), dtype), 1);
  if (low === 0 && high === 1) return unit;
  return maximum(add(mul(unit, high - low), low), low);
}

/** Standard normal, by the inverse error function. */
export function normal(k: Key | number, shape: Shape, { dtype = "float32" }: RandomOptions = {}): Tensor {
  if (!isFloat(dtype)) throw new DTypeError(`random.normal of ${dtype}`, "use a floating-point type");
  // The open interval: -1 itself would give -infinity.
  const low =
    dtype === "float64"
      ? -1 + 2 ** -53
      : dtype === "float32"
        ? -1 + 2 ** -24
        : dtype === "float16"
          ? -1 + 2 ** -11
          : -1 + 2 ** -8;
  return mul(erfinv(uniform(k, shape, { dtype, low, high: 1 })), Math.SQRT2);
}

/** Standard normal restricted to [`low`, `high`]. */
export function truncatedNormal(
  k: Key | number,
  shape: Shape,
  { dtype = "float32", low = -2, high = 2 }: RandomOptions & { low?: number; high?: number } = {},
): Tensor {
  const [a, b] = [erfHost(low / Math.SQRT2), erfHost(high / Math.SQRT2)];
  const drawn = mul(erfinv(uniform(k, shape, { dtype, low: a, high: b })), Math.SQRT2);
  return clip(drawn, low, high);
}

/** erf on the host, to double precision: series for small arguments, continued fraction for large. */
function erfHost(x: number): number {
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = a;
    let total = a;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(total); n++) {
      term *= (-a * a) / n;
      total += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * total) / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / ((a + fraction) * Math.sqrt(Math.PI)));
}

/** True with probability `p`. */
export function bernoulli(k: Key | number, p: TensorLike, shape: Shape): Tensor {
  return less(uniform(k, shape), p);
}

/** Gumbel(0, 1). */
export function gumbel(k: Key | number, shape: Shape, { dtype = "float32" }: RandomOptions = {}): Tensor {
  const tiny =
    dtype === "float64"
      ? 2.2250738585072014e-308
      : dtype === "float16"
        ? 6.103515625e-5
        : 1.1754943508222875e-38;
  return neg(log(neg(log(uniform(k, shape, { dtype, low: tiny, high: 1 })))));
}

/** Indices (int32) drawn with probabilities softmax(`logits`) along `axis`, by the Gumbel-max trick. */
export function categorical(k: Key | number, logits: Tensor, axis = -1): Tensor {
  return argmax(add(logits, gumbel(k, logits.shape, { dtype: logits.dtype })), axis);
}

/** Integers uniform in [`low`, `high`). The range must be below 2^32; its bias is below 2^-32. */
export function integers(
  k: Key | number,
  shape: Shape,
  low: number,
  high: number,
  { dtype = "int32" as DType } = {},
): Tensor {
  const range = high - low;
  if (!Number.isInteger(low) || !Number.isInteger(high) || range < 1 || range > 2 ** 32) {
    throw new ArgumentError(`random.integers in [${low}, ${high})`, "give integers with low < high");
  }
  const wide = bits(k, shape, { dtype: "uint64" });
  return cast(add(cast(rem(wide, scalar(range, "uint64")), "int64"), scalar(low, "int64")), dtype);
}
