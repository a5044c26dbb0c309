/**
 * Discrete Fourier transforms over one to three axes: y[k] = Σ x[n] exp(-2πi kn / N); the inverse ones divide by the number of elements.
 * The real ones keep the N / 2 + 1 coefficients of the last axis that determine the others.
 */
import { isComplex } from "../graph/dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../graph/errors.js";
import { functionType } from "../graph/lowering.js";
import { bind, type Op } from "./bind.js";
import { complex, conj, real } from "./complex.js";
import { iota, scalar } from "./creation.js";
import { add, cast, equal, greaterEqual, mul, or, where } from "./elementwise.js";
import { normalizeAxis, sizeOf } from "./shapes.js";
import { inverse, padWith, transpose } from "./shaping.js";
import type { Tensor } from "./tensor.js";

type Kind = "FFT" | "IFFT" | "RFFT" | "IRFFT";

interface Transform {
  readonly [name: string]: unknown;
  readonly kind: Kind;
  /** Of the last axes, in the domain of the untransformed signal. */
  readonly lengths: readonly number[];
}

/** Coefficients that a real signal of `length` elements keeps. */
const half = (length: number): number => Math.floor(length / 2) + 1;

const fftPrimitive: Op<Transform> = {
  name: "fft",
  // Cooley and Tukey's count: 5 N log N for N complex coefficients, half of it for real signals.
  flops({ inputs: [x], outputs: [y], attributes: { kind, lengths } }) {
    const signals = (kind === "IRFFT" ? y! : x!).size / sizeOf(lengths);
    const each = 5 * sizeOf(lengths) * Math.log2(sizeOf(lengths));
    return Math.round(signals * (kind === "RFFT" || kind === "IRFFT" ? each / 2 : each));
  },
  shape([x], { kind, lengths }) {
    const shape = [...x!.shape.slice(0, -lengths.length), ...lengths];
    if (kind === "RFFT") shape[shape.length - 1] = half(lengths.at(-1)!);
    return [{ shape, dtype: kind === "IRFFT" ? "float32" : "complex64" }];
  },
  vjp({ inputs: [x], attributes: { kind, lengths } }, [g]) {
    if (g === undefined) return [undefined];
    switch (kind) {
      case "FFT":
      case "IFFT":
        // The transform's matrix is symmetric.
        return [bind(fftPrimitive, [g], { kind, lengths })];
      case "RFFT":
        return [real(bind(fftPrimitive, [padEnd(g, lengths.at(-1)!)], { kind: "FFT", lengths }))];
      case "IRFFT": {
        // Every coefficient but the first, and the middle one of an even length, stands for its mirror image too.
        const length = lengths.at(-1)!;
        const k = iota(x!.shape, x!.ndim - 1);
        const single = length % 2 === 0 ? or(equal(k, 0), equal(k, length / 2)) : equal(k, 0);
        const weight = mul(where(single, 1, 2), 1 / sizeOf(lengths));
        return [conj(mul(bind(fftPrimitive, [g], { kind: "RFFT", lengths }), cast(weight, "complex64")))];
      }
    }
  },
  batch: ([x], _, attributes) => [bind(fftPrimitive, [x!], attributes)],
  lower: (lowering, { inputs, outputs, attributes: { kind, lengths } }, [x]) =>
    lowering.emit(
      `stablehlo.fft ${x}, type = ${kind}, length = [${lengths.join(", ")}] : ${functionType(inputs, outputs)}`,
    ),
};

/** Zeros after the last axis, up to `length`. */
function padEnd(x: Tensor, length: number): Tensor {
  const none = x.shape.map(() => 0);
  return padWith(x, scalar(0, x.dtype), {
    low: none,
    high: none.with(-1, length - x.shape.at(-1)!),
    interior: none,
  });
}

function transform(
  name: string,
  kind: Kind,
  x: Tensor,
  axes: number | readonly number[],
  length?: number,
): Tensor {
  const along = (typeof axes === "number" ? [axes] : axes).map((a) => normalizeAxis(name, a, x.ndim));
  if (along.length < 1 || along.length > 3 || new Set(along).size !== along.length) {
    throw new ArgumentError(
      `${name}: axes [${along.join(", ")}]`,
      "transform one to three different axes at a time",
    );
  }
  const last = along.at(-1)!;
  const lengths = along.map((a) => x.shape[a]!);
  if (kind === "IRFFT") {
    const signal = length ?? 2 * (x.shape[last]! - 1);
    if (!Number.isInteger(signal) || signal < 1 || half(signal) !== x.shape[last]) {
      throw new ShapeError(
        `${name}: ${x.shape[last]} coefficients along axis ${last} for a signal of ${signal} elements`,
        "a signal of N elements has N / 2 + 1, rounded down: give its length, or slice or pad the coefficients",
      );
    }
    lengths[lengths.length - 1] = signal;
  }
  if (lengths.some((n) => n === 0)) {
    throw new ShapeError(
      `${name} over an axis of length 0 of [${x.shape.join(", ")}]`,
      "a signal has at least one element",
    );
  }
  const order = [...x.shape.keys()].filter((a) => !along.includes(a)).concat(along);
  return transpose(bind(fftPrimitive, [transpose(x, order)], { kind, lengths }), inverse(order));
}

/** `x` as complex64. */
function complexOperand(name: string, x: Tensor): Tensor {
  if (x.dtype === "float64") {
    throw new DTypeError(
      `${name} of float64`,
      'complex64 is the complex type: convert with .astype("float32")',
    );
  }
  return isComplex(x.dtype) ? x : complex(cast(x, "float32"));
}

export type FourierAxes = number | readonly number[];

/** The transform over `axes` (at most three; the last by default) of a complex or real tensor: complex64 of the same shape. */
export function fft(x: Tensor, axes: FourierAxes = -1): Tensor {
  return transform("fft", "FFT", complexOperand("fft", x), axes);
}

/** The inverse of `fft`. */
export function ifft(x: Tensor, axes: FourierAxes = -1): Tensor {
  return transform("ifft", "IFFT", complexOperand("ifft", x), axes);
}

/** `fft` of a real tensor: of the N coefficients along the last of `axes` the first N / 2 + 1 (rounded down). */
export function rfft(x: Tensor, axes: FourierAxes = -1): Tensor {
  if (isComplex(x.dtype) || x.dtype === "float64") {
    throw new DTypeError(
      `rfft of ${x.dtype}`,
      isComplex(x.dtype) ? "it takes real tensors: use fft" : 'convert with .astype("float32")',
    );
  }
  return transform("rfft", "RFFT", cast(x, "float32"), axes);
}

export interface InverseRealOptions {
  /** Elements of the signal along the last of the axes: 2 (N - 1) for N coefficients by default; odd lengths must be given. */
  length?: number;
}

/** The inverse of `rfft`: a real signal from half of its coefficients. */
export function irfft(x: Tensor, axes: FourierAxes = -1, { length }: InverseRealOptions = {}): Tensor {
  return transform("irfft", "IRFFT", complexOperand("irfft", x), axes, length);
}

/** The frequency of each coefficient of `fft` of `length` samples that lie `spacing` apart, in cycles per unit of it. */
export function fftfreq(length: number, spacing = 1): Tensor {
  const k = iota([length], 0);
  return mul(
    cast(where(greaterEqual(k, Math.ceil(length / 2)), add(k, -length), k), "float32"),
    1 / (length * spacing),
  );
}

/** The frequency of each coefficient of `rfft`. */
export function rfftfreq(length: number, spacing = 1): Tensor {
  return mul(cast(iota([half(length)], 0), "float32"), 1 / (length * spacing));
}
