/**
 * NormalFloat, 4 bits (Dettmers et al. 2023, "QLoRA", section 3): the quantiles of a normal distribution as codes, with the largest magnitude of
 * each block of 64 weights, which is itself quantized to 8 bits ("double quantization"). Bit for bit as bitsandbytes keeps them.
 */
import { tensor } from "../array/creation.js";
import { abs, add, cast, div, equal, greater, mul, or, shiftLeft, sub, where } from "../array/elementwise.js";
import { slice, take } from "../array/indexing.js";
import { max, mean } from "../array/reductions.js";
import { expandDims, pad, reshape } from "../array/shaping.js";
import { searchSorted } from "../array/sorting.js";
import type { Tensor } from "../array/tensor.js";
import type { DType } from "../graph/dtype.js";
import { jit } from "../transform/jit.js";
import { barrier } from "../transform/remat.js";
import { QuantizedWeight } from "./weight.js";

/** The sixteen values, as bitsandbytes has them (`get_4bit_type("nf4")`). */
export const nf4Codes = Float32Array.of(
  -1.0,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0.0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1.0,
);

/** Where one value ends and the next begins: the middles, in float32. */
const nf4Borders = Array.from({ length: 15 }, (_, i) => Math.fround((nf4Codes[i]! + nf4Codes[i + 1]!) / 2));

/** Signed values of 8 bits with seven powers of ten (Dettmers 2016, "8-bit approximations for parallelism in deep learning"): `create_dynamic_map()`. */
export const dynamicCodes: Float32Array = dynamicMap();

function dynamicMap(): Float32Array {
  const values: number[] = [0, 1];
  const f = Math.fround;
  for (let i = 0; i < 7; i++) {
    const items = 2 ** i + 1;
    // torch's linspace in float32: from both ends to the middle, product and sum rounded once.
    const step = f(f(1 - f(0.1)) / (items - 1));
    const border = (k: number): number =>
      k < Math.floor(items / 2) ? f(f(0.1) + step * k) : f(1 - step * (items - k - 1));
    for (let k = 0; k + 1 < items; k++) {
      const middle = f(f(border(k) + border(k + 1)) / 2);
      const value = f(f(10 ** (i - 6)) * middle);
      values.push(value, -value);
    }
  }
  return Float32Array.from(values).sort();
}

const block = 64;
const outerBlock = 256;

/** Parts of the blocks, float32 or with their own quantization. */
interface Parts {
  /** uint8, two codes each, the first in the upper half: [outputs, inputs / 2], or [n / 2] where a row has an odd number. */
  readonly codes: Tensor;
  /** Largest magnitudes of the blocks, float32; of double quantization their 8-bit codes. */
  readonly absmax: Tensor;
  /** float32 [blocks / 256], and the mean of all, a scalar. */
  readonly nested: { readonly absmax: Tensor; readonly offset: Tensor } | null;
}

/** [n] in rows of `size`, filled up with zeros. */
function inBlocks(flat: Tensor, size: number): Tensor {
  const rows = Math.ceil(flat.size / size);
  const missing = rows * size - flat.size;
  return reshape(missing === 0 ? flat : pad(flat, [[0, missing]]), [rows, size]);
}

const encode = jit(
  (weight: Tensor, double: boolean): Parts => {
    const flat = reshape(cast(weight, "float32"), [-1]);
    const blocks = inBlocks(flat, block);
    const absmax = max(abs(blocks), 1);
    const scaled = div(blocks, expandDims(where(equal(absmax, 0), 1, absmax), 1));
    const index = nf4Borders
      .map((border) => cast(greater(scaled, border), "uint8"))
      .reduce((sum, above) => add(sum, above));
    const pairs = reshape(slice(reshape(index, [-1]), [0, flat.size + (flat.size % 2)]), [-1, 2]);
    const packed = or(shiftLeft(slice(pairs, null, 0), 4), slice(pairs, null, 1));
    const [outputs, inputs] = weight.shape as [number, number];
    const codes = inputs % 2 === 0 ? reshape(packed, [outputs, inputs / 2]) : packed;
    if (!double) return { codes, absmax, nested: null };
    const offset = mean(absmax);
    const centred = inBlocks(sub(absmax, offset), outerBlock);
    const outer = max(abs(centred), 1);
    const normed = div(centred, expandDims(where(equal(outer, 0), 1, outer), 1));
    const borders = tensor(Float32Array.from(dynamicCodes.subarray(1), (c, i) => (c + dynamicCodes[i]!) / 2));
    const nearest = cast(searchSorted(borders, normed), "uint8");
    return {
      codes,
      absmax: slice(reshape(nearest, [-1]), [0, absmax.size]),
      nested: { absmax: outer, offset },
    };
  },
  { name: "quantize_nf4", tag: () => "parameter", manyTraces: true },
);

export interface Nf4Options {
  /** Quantizes the magnitudes of the blocks too. Default true. */
  double?: boolean;
}

export class Nf4Weight extends QuantizedWeight {
  readonly format = "nf4";
  codes: Tensor;
  absmax: Tensor;
  nestedAbsmax: Tensor | null;
  offset: Tensor | null;
  /** The two values of each byte, float32 [256, 2]; and those of 8-bit magnitudes, float32 [256]. */
  pairs: Tensor;
  dynamic: Tensor | null;

  constructor(
    { codes, absmax, nested }: Parts,
    [outputs, inputs]: readonly [number, number],
    dtype: DType,
    axes: readonly (string | null)[] = [null, null],
  ) {
    super(outputs, inputs, dtype);
    const whole = codes.ndim === 2;
    this.codes = this.fixed("codes", codes, { axes: whole ? axes : [null], weights: outputs * inputs });
    this.absmax = this.fixed("absmax", absmax);
    this.nestedAbsmax = nested && this.fixed("nestedAbsmax", nested.absmax);
    this.offset = nested && this.fixed("offset", nested.offset);
    this.pairs = this.fixed("pairs", tensor(pairCodes, { shape: [256, 2] }));
    this.dynamic = nested && this.fixed("dynamic", tensor(dynamicCodes));
  }

  /** A matrix quantized. */
  static of(
    weight: Tensor,
    { double = true }: Nf4Options = {},
    axes?: readonly (string | null)[],
  ): Nf4Weight {
    const shape = weight.shape as readonly [number, number];
    return new Nf4Weight(encode(weight, double), shape, weight.dtype, axes);
  }

  /** The blocks' largest magnitudes, float32. */
  private magnitudes(): Tensor {
    if (this.nestedAbsmax === null) return this.absmax;
    const values = inBlocks(take(this.dynamic!, this.absmax), outerBlock);
    const product = reshape(mul(values, expandDims(this.nestedAbsmax, 1)), [-1]);
    // Rounded before the mean is added, as bitsandbytes does; and looked up once for each block, not for each weight.
    const [rounded] = barrier([product]) as [Tensor];
    return add(slice(rounded, [0, this.absmax.size]), this.offset!);
  }

  value(dtype: DType = this.dtype): Tensor {
    // Both values of a byte stand side by side in one table.
    const values = reshape(take(this.pairs, reshape(this.codes, [-1])), [-1]);
    const n = this.outputs * this.inputs;
    const scaled = mul(inBlocks(values, block), expandDims(this.magnitudes(), 1));
    return cast(reshape(slice(reshape(scaled, [-1]), [0, n]), [this.outputs, this.inputs]), dtype);
  }
}

const pairCodes = Float32Array.from(
  { length: 512 },
  (_, i) => nf4Codes[i % 2 === 0 ? i >> 5 : (i >> 1) & 15]!,
);
