/** Element-wise functions, conversions, reductions and complex numbers against the host's mathematics. */

import type { DType, Tensor } from "aronnax";
import * as a from "aronnax";
import { decode, encode, limits } from "../../../core/src/array/hostdata.js";
import { type Check, check, type Pair, upload } from "../check.js";
import { build, type Dense, digamma, draw, drawCoarse, erf, lgamma, map, smallFloats } from "../reference.js";

interface Function1 {
  readonly ours: (x: Tensor) => Tensor;
  readonly theirs: (x: number) => number;
  readonly derivative?: (x: number) => number;
  /** Where it is tried. */
  readonly on?: readonly [low: number, high: number];
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const gaussian = (x: number): number => (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x);

const functions: Record<string, Function1> = {
  exp: { ours: a.exp, theirs: Math.exp, derivative: Math.exp },
  expm1: { ours: a.expm1, theirs: Math.expm1, derivative: Math.exp, on: [-0.01, 0.01] },
  log: { ours: a.log, theirs: Math.log, derivative: (x) => 1 / x, on: [0.1, 9] },
  log1p: { ours: a.log1p, theirs: Math.log1p, derivative: (x) => 1 / (1 + x), on: [-0.01, 0.01] },
  sqrt: { ours: a.sqrt, theirs: Math.sqrt, derivative: (x) => 0.5 / Math.sqrt(x), on: [0.1, 9] },
  rsqrt: {
    ours: a.rsqrt,
    theirs: (x) => 1 / Math.sqrt(x),
    derivative: (x) => -0.5 * x ** -1.5,
    on: [0.1, 9],
  },
  cbrt: { ours: a.cbrt, theirs: Math.cbrt, derivative: (x) => 1 / (3 * Math.cbrt(x) ** 2), on: [0.1, 9] },
  sin: { ours: a.sin, theirs: Math.sin, derivative: Math.cos, on: [-100, 100] },
  cos: { ours: a.cos, theirs: Math.cos, derivative: (x) => -Math.sin(x), on: [-100, 100] },
  tan: { ours: a.tan, theirs: Math.tan, derivative: (x) => 1 / Math.cos(x) ** 2, on: [-1.2, 1.2] },
  asin: { ours: a.asin, theirs: Math.asin, derivative: (x) => 1 / Math.sqrt(1 - x * x), on: [-0.9, 0.9] },
  acos: { ours: a.acos, theirs: Math.acos, derivative: (x) => -1 / Math.sqrt(1 - x * x), on: [-0.9, 0.9] },
  atan: { ours: a.atan, theirs: Math.atan, derivative: (x) => 1 / (1 + x * x) },
  sinh: { ours: a.sinh, theirs: Math.sinh, derivative: Math.cosh },
  cosh: { ours: a.cosh, theirs: Math.cosh, derivative: Math.sinh },
  tanh: { ours: a.tanh, theirs: Math.tanh, derivative: (x) => 1 - Math.tanh(x) ** 2 },
  asinh: { ours: a.asinh, theirs: Math.asinh, derivative: (x) => 1 / Math.sqrt(1 + x * x) },
  acosh: { ours: a.acosh, theirs: Math.acosh, derivative: (x) => 1 / Math.sqrt(x * x - 1), on: [1.2, 5] },
  atanh: { ours: a.atanh, theirs: Math.atanh, derivative: (x) => 1 / (1 - x * x), on: [-0.9, 0.9] },
  sigmoid: { ours: a.sigmoid, theirs: sigmoid, derivative: (x) => sigmoid(x) * (1 - sigmoid(x)) },
  erf: { ours: a.erf, theirs: erf, derivative: gaussian },
  erfc: { ours: a.erfc, theirs: (x) => 1 - erf(x), derivative: (x) => -gaussian(x), on: [-2, 2] },
  lgamma: { ours: a.lgamma, theirs: lgamma, derivative: digamma, on: [0.2, 9] },
  digamma: { ours: a.digamma, theirs: digamma, on: [0.2, 9] },
  floor: { ours: a.floor, theirs: Math.floor },
  ceil: { ours: a.ceil, theirs: Math.ceil },
  abs: { ours: a.abs, theirs: Math.abs, derivative: Math.sign },
  gelu: { ours: (x) => a.gelu(x), theirs: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)) },
  softplus: { ours: a.softplus, theirs: (x) => Math.log1p(Math.exp(x)), derivative: sigmoid },
};

// A derivative may be a product of three values that are each rounded to bfloat16's 2^-8.
const precision: Partial<Record<DType, number>> = { float32: 5e-6, float64: 1e-12, bfloat16: 2.4e-2 };

const unary: Check[] = Object.entries(functions).flatMap(
  ([name, { ours, theirs, derivative, on = [-4, 4] }]) =>
    (["float32", "float64", "bfloat16"] as const).map((dtype) =>
      check(`${name} of ${dtype}${derivative ? ", and its derivative" : ""}`, precision[dtype]!, () => {
        const drawn = dtype === "bfloat16" ? drawCoarse([4, 101], 1) : draw([4, 101], 1);
        const inside = dtype === "bfloat16" && on[0] >= -2 && (on[0] > -2 || on[1] < 2);
        // bfloat16 numbers go through the function as they are rounded.
        const x = inside
          ? map(drawn, (v) => bfloat16(on[0] + ((v + 2) / 4) * (on[1] - on[0])))
          : map(drawn, (v) =>
              bfloat16Or(
                dtype,
                on[0] +
                  ((v + (dtype === "bfloat16" ? 2 : 1)) / (dtype === "bfloat16" ? 4 : 2)) * (on[1] - on[0]),
              ),
            );
        const pairs: Pair[] = [[ours(upload(x, dtype)), map(x, theirs)]];
        if (derivative !== undefined)
          pairs.push([a.grad((t: Tensor) => ours(t).sum())(upload(x, dtype)), map(x, derivative)]);
        return pairs;
      }),
    ),
);

/** The nearest number of so many significant bits, a multiple of 2^-24. */
function significant(x: number, bits: number): number {
  if (x === 0) return 0;
  const unit = Math.max(2 ** -24, 2 ** (Math.floor(Math.log2(Math.abs(x))) - bits + 1));
  return Math.round(x / unit) * unit;
}

const bfloat16 = (x: number): number => significant(x, 8);

const bfloat16Or = (dtype: DType, x: number): number => (dtype === "bfloat16" ? bfloat16(x) : Math.fround(x));

const special: Check[] = [
  check("special values: infinities, NaN, zeros", 0, () => {
    const x = [Number.NEGATIVE_INFINITY, -1, -0, 0, 1, Number.POSITIVE_INFINITY, Number.NaN];
    const t = a.tensor(x);
    return [
      [a.exp(t.mul(1000)), x.map((v) => (v > 0 ? Number.POSITIVE_INFINITY : v < 0 ? 0 : Math.exp(v)))],
      [a.log(t), x.map(Math.log)],
      [a.sqrt(t), x.map(Math.sqrt)],
      [a.maximum(t, 0), x.map((v) => Math.max(v, 0))],
      [a.sign(t), x.map(Math.sign)],
      [a.isnan(t), x.map((v) => Number(Number.isNaN(v)))],
      [a.isfinite(t), x.map((v) => Number(Number.isFinite(v)))],
      [a.relu(t), x.map((v) => (v <= 0 ? 0 : v))],
      [a.sigmoid(t.mul(1000)), x.map((v) => (Number.isNaN(v) ? v : v > 0 ? 1 : v < 0 ? 0 : 0.5))],
      [t.round(), x.map((v) => (Number.isFinite(v) ? Math.round(v) : v))],
    ];
  }),
  check("erfinv undoes erf", 1e-5, () => {
    const x = draw([500], 2, -2, 2);
    return [a.erfinv(a.erf(upload(x))), x];
  }),
  check("pow, atan2, rem, mod, floorDiv, hypot, logaddexp", 5e-6, () => {
    const [x, y] = [draw([300], 3, 0.1, 4), draw([300], 4, -3, 3)];
    const [s, t] = [upload(x), upload(y)];
    const both = (f: (p: number, q: number) => number): Float64Array =>
      x.data.map((v, i) => f(v, y.data[i]!));
    const mod = (p: number, q: number): number => p - q * Math.floor(p / q);
    return [
      [a.pow(s, t), both(Math.pow)],
      [a.atan2(s, t), both(Math.atan2)],
      [a.rem(s, t.add(5)), both((p, q) => p % (q + 5))],
      [a.mod(t, s.add(1)), both((p, q) => mod(q, Math.fround(p + 1)))],
      [
        a.floorDiv(t.mul(7), s.add(0.013)),
        both((p, q) => Math.floor(Math.fround(q * 7) / Math.fround(p + 0.013))),
      ],
      [a.hypot(s, t), both(Math.hypot)],
      [a.logaddexp(s, t), both((p, q) => Math.log(Math.exp(p) + Math.exp(q)))],
      [a.grad((u: Tensor) => a.pow(u, t).sum())(s), both((p, q) => q * p ** (q - 1))],
    ];
  }),
  check("bits and integer division of int32 and uint32", 0, () => {
    const x = map(draw([200], 5, -1e6, 1e6), Math.floor);
    const y = map(draw([200], 6, 1, 1000), Math.floor);
    const [s, t] = [upload(x, "int32"), upload(y, "int32")];
    const both = (f: (p: number, q: number) => number): Float64Array =>
      x.data.map((v, i) => f(v, y.data[i]!));
    const u = s.astype("uint32");
    const ones = (v: number): number => (v >>> 0).toString(2).replaceAll("0", "").length;
    return [
      [s.and(t), both((p, q) => p & q)],
      [s.or(t), both((p, q) => p | q)],
      [s.xor(t), both((p, q) => p ^ q)],
      [s.not(), both((p) => ~p)],
      [a.popcount(u), both(ones)],
      [a.clz(u), both((p) => Math.clz32(p))],
      [a.shiftLeft(s, 3), both((p) => p << 3)],
      [a.shiftRightArithmetic(s, 3), both((p) => p >> 3)],
      [a.shiftRightLogical(u, 3), both((p) => p >>> 3)],
      [s.floorDiv(t), both((p, q) => Math.floor(p / q))],
      [s.mod(t), both((p, q) => p - q * Math.floor(p / q))],
      [a.rem(s, t), both((p, q) => p % q)],
    ];
  }),
  check("int64 and uint64 beyond 2^53", 0, () => {
    const x = a.tensor(BigInt64Array.of(2n ** 60n + 1n, -(2n ** 62n)));
    const y = a.tensor(BigUint64Array.of(2n ** 63n + 5n));
    // The low 32 bits tell whether any were lost.
    return [
      [
        a.and(x.add(x.floorDiv(3)), 0xffff),
        [Number((((2n ** 60n + 1n) * 4n) / 3n) % 65536n) - 0, 0].map((_, i) =>
          Number(
            ([2n ** 60n + 1n, -(2n ** 62n)][i]! + floorDivide([2n ** 60n + 1n, -(2n ** 62n)][i]!, 3n)) &
              0xffffn,
          ),
        ),
      ],
      [a.and(y.mul(3), 0xff), [15]],
      [a.shiftRightLogical(y, 60), [8]],
    ];
  }),
];

function floorDivide(p: bigint, q: bigint): bigint {
  const quotient = p / q;
  return p % q !== 0n && p < 0n !== q < 0n ? quotient - 1n : quotient;
}

const numeric: readonly DType[] = [
  "float32",
  "bfloat16",
  "float16",
  "float64",
  "float8_e4m3fn",
  "float8_e5m2",
  "int8",
  "int16",
  "int32",
  "int64",
  "uint8",
  "uint16",
  "uint32",
  "uint64",
];

/** The nearest of the finite values, ties to the one with an even mantissa (an even bit pattern). */
function nearestSmall(x: number, values: readonly number[]): number {
  let best = 0;
  for (const [bits, v] of values.entries()) {
    if (!Number.isFinite(v)) continue;
    const [d, old] = [Math.abs(v - x), Math.abs(values[best]! - x)];
    if (d < old || (d === old && bits % 2 === 0)) best = bits;
  }
  return values[best]!;
}

const conversions: Check[] = [
  ...numeric.map((from) =>
    check(`${from} to every type and back`, 0, () => {
      const x = Float64Array.of(0, 1, 2, 3, 4, 6, 8, 12);
      return numeric.map((to): Pair => [a.tensor(x, { dtype: from }).astype(to).astype("float32"), x]);
    }),
  ),
  ...(
    [
      [3, "float8_e4m3fn", 448],
      [2, "float8_e5m2", 57344],
    ] as const
  ).flatMap(([mantissa, dtype, top]) => {
    const values = smallFloats(mantissa);
    const finite = [...new Set(values.filter(Number.isFinite))].sort((p, q) => p - q);
    const halves = finite.slice(1).map((v, i) => (v + finite[i]!) / 2);
    const beside = halves.flatMap((v) => [v * (1 - 2 ** -12), v * (1 + 2 ** -12), v * (1 + 2 ** -23)]);
    const drawn = (): number[] => [...draw([2000], 7, -1, 1).data].map((v) => v ** 3 * top * 1.2);
    return numeric.map((from) =>
      check(`${from} to ${dtype} with saturation: the nearest, ties to even`, 0, () => {
        const whole = from.includes("int");
        const { min, max } = limits(from);
        const within = [...finite, ...halves, ...beside, ...drawn()].filter((v) =>
          whole ? v >= Math.max(-top, Number(min)) && v <= Math.min(top, Number(max)) : true,
        );
        // As the type has them.
        const given = Array.from(
          decode(encode(whole ? within.map(Math.round) : within, from), from),
          Number,
        ).filter(Number.isFinite);
        const nearest = given.map((v) => nearestSmall(Math.max(-top, Math.min(top, v)), values));
        return [
          a
            .tensor(Float64Array.from(given), { dtype: from })
            .astype(dtype, { saturate: true })
            .astype("float32"),
          nearest,
        ];
      }),
    );
  }),
  check("float32 to bfloat16 and float16: the nearest, ties to even", 0, () => {
    const bits = a.arange(0, 65536, 1, { dtype: "int32" }).astype("uint16");
    const pattern = (dtype: "bfloat16" | "float16"): Tensor => a.bitcast(bits, dtype);
    const back = (dtype: "bfloat16" | "float16"): Pair => {
      const [x, finite] = [pattern(dtype), a.isfinite(pattern(dtype))];
      const again = a.bitcast(x.astype("float32").astype(dtype), "uint16");
      return [
        a.where(finite, again.astype("int32"), bits.astype("int32")),
        Float64Array.from({ length: 65536 }, (_, i) => i),
      ];
    };
    const halfway = Float32Array.of(1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20);
    return [
      back("bfloat16"),
      back("float16"),
      [a.tensor(halfway).astype("bfloat16"), [1, 1 + 2 ** -6, 1 + 2 ** -7]],
    ];
  }),
];

const reductions: Check[] = [
  check("sum, mean, variance, prod, max and min over axes of [7, 300, 11]", 2e-5, () => {
    const x = draw([7, 300, 11], 8);
    const columns = (f: (values: number[]) => number): Dense =>
      build([7, 11], ([i, k]) => f(Array.from({ length: 300 }, (_, j) => x.data[(i! * 300 + j) * 11 + k!]!)));
    const total = (v: number[]): number => v.reduce((p, q) => p + q, 0);
    const t = upload(x);
    return [
      [t.sum(1), columns(total)],
      [t.mean(1), columns((v) => total(v) / 300)],
      [t.variance(1), columns((v) => total(v.map((u) => (u - total(v) / 300) ** 2)) / 300)],
      [t.max(1), columns((v) => Math.max(...v))],
      [t.min(1), columns((v) => Math.min(...v))],
      [t.mul(0.01).add(1).prod(1), columns((v) => v.reduce((p, q) => p * (1 + 0.01 * q), 1))],
      [a.logsumexp(t, 1), columns((v) => Math.log(total(v.map(Math.exp))))],
    ];
  }),
  check("sum of ten million float32", 1e-5, () => {
    const x = a.iota([10_000_000], 0).mod(7).astype("float32");
    let expected = 0;
    for (let i = 0; i < 10_000_000; i++) expected += i % 7;
    return [x.sum(), [expected]];
  }),
  ...(["bfloat16", "float16"] as const).map((dtype) =>
    check(`sum of 4,096 ${dtype} to the last bit, added in float32`, 4e-3, () => {
      const x = map(drawCoarse([4096, 3], 9), (v) => Math.abs(v) / 16);
      const sums = [0, 1, 2].map((j) => x.data.reduce((s, v, i) => (i % 3 === j ? s + v : s), 0));
      return [upload(x, dtype).sum(0), sums];
    }),
  ),
  check("softmax, logSoftmax and the gradient of cross-entropy", 1e-5, () => {
    const x = draw([20, 1000], 10, -8, 8);
    const weights = build([20, 1000], ([i], flat) => {
      const row = x.data.subarray(i! * 1000, (i! + 1) * 1000);
      return Math.exp(x.data[flat]!) / row.reduce((s, v) => s + Math.exp(v), 0);
    });
    const loss = (t: Tensor): Tensor => t.logSoftmax().slice(null, 3).sum().neg();
    return [
      [upload(x).softmax(), weights],
      [upload(x).logSoftmax(), map(weights, Math.log)],
      [a.grad(loss)(upload(x)), build([20, 1000], ([, j], flat) => weights.data[flat]! - (j === 3 ? 1 : 0))],
    ];
  }),
  check("reductions of bools, and of empty axes", 0, () => {
    const x = a.tensor([
      [true, false],
      [true, true],
    ]);
    return [
      [x.all(1), [0, 1]],
      [x.any(0), [1, 1]],
      [a.zeros([3, 0]).sum(1), [0, 0, 0]],
      [a.zeros([0, 2]).prod(0), [1, 1]],
    ];
  }),
];

const complexNumbers: Check[] = [
  check("complex64: product, quotient, exp, log, abs, angle and the gradient of |z|²", 5e-6, () => {
    const [x, y, u, v] = [11, 12, 13, 14].map((seed) => draw([150], seed, 0.2, 2)) as [
      Dense,
      Dense,
      Dense,
      Dense,
    ];
    const [z, w] = [a.complex(upload(x), upload(y)), a.complex(upload(u), upload(v))];
    const all = (f: (x: number, y: number, u: number, v: number) => number): Float64Array =>
      x.data.map((p, i) => f(p, y.data[i]!, u.data[i]!, v.data[i]!));
    const [product, quotient, e, l] = [a.mul(z, w), a.div(z, w), a.exp(z), a.log(z)];
    const energy = (p: Tensor): Tensor => {
      const both = a.complex(p, upload(y));
      return a.real(a.mul(both, a.conj(both))).sum();
    };
    return [
      [a.real(product), all((p, q, r, s) => p * r - q * s)],
      [a.imag(product), all((p, q, r, s) => p * s + q * r)],
      [a.real(quotient), all((p, q, r, s) => (p * r + q * s) / (r * r + s * s))],
      [a.imag(quotient), all((p, q, r, s) => (q * r - p * s) / (r * r + s * s))],
      [a.real(e), all((p, q) => Math.exp(p) * Math.cos(q))],
      [a.imag(e), all((p, q) => Math.exp(p) * Math.sin(q))],
      [a.real(l), all((p, q) => Math.log(Math.hypot(p, q)))],
      [a.imag(l), all((p, q) => Math.atan2(q, p))],
      [a.angle(z), all((p, q) => Math.atan2(q, p))],
      [a.grad(energy)(upload(x)), all((p) => 2 * p)],
    ];
  }),
];

export const elements: readonly Check[] = [
  ...unary,
  ...special,
  ...conversions,
  ...reductions,
  ...complexNumbers,
];
