/** Plain float64 implementations, written for nothing but to be seen to be right. */

/** A dense row-major array of float64. */
export interface Dense {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** An array whose element at each index is `f(index, flat index)`. */
export function build(
  shape: readonly number[],
  f: (index: readonly number[], flat: number) => number,
): Dense {
  const data = new Float64Array(sizeOf(shape));
  const index = shape.map(() => 0);
  for (let flat = 0; flat < data.length; flat++) {
    data[flat] = f(index, flat);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis]!++;
      if (index[axis]! < shape[axis]!) break;
      index[axis] = 0;
    }
  }
  return { shape, data };
}

/** Reads an element; undefined outside. */
export function read({ shape, data }: Dense, index: readonly number[]): number | undefined {
  let flat = 0;
  for (const [axis, i] of index.entries()) {
    if (i < 0 || i >= shape[axis]!) return undefined;
    flat = flat * shape[axis]! + i;
  }
  return data[flat];
}

export const map = (x: Dense, f: (value: number) => number): Dense => ({
  shape: x.shape,
  data: x.data.map(f),
});

/** A deterministic generator of numbers in [0, 1) (mulberry32). */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Uniform numbers that float32 holds exactly. */
export function draw(shape: readonly number[], seed: number, low = -1, high = 1): Dense {
  const next = generator(seed);
  return build(shape, () => Math.fround(low + (high - low) * next()));
}

/** Numbers in [-2, 2) that bfloat16 holds exactly. */
export function drawCoarse(shape: readonly number[], seed: number): Dense {
  const next = generator(seed);
  return build(shape, () => Math.floor(256 * next() - 128) / 64);
}

/** The identity, or its multiples. */
export const scaledIdentity = (n: number, by = 1): Dense => build([n, n], ([i, j]) => (i === j ? by : 0));

export function transposed(x: Dense): Dense {
  const [m, n] = [x.shape.at(-2)!, x.shape.at(-1)!];
  const block = (flat: number): number => flat - (flat % (m * n));
  return build([...x.shape.slice(0, -2), n, m], (index, flat) => {
    const [i, j] = [index.at(-2)!, index.at(-1)!];
    return x.data[block(flat) + j * n + i]!;
  });
}

/** Matrix products over the last two axes; leading axes are equal. */
export function matmul(a: Dense, b: Dense): Dense {
  const [m, k, n] = [a.shape.at(-2)!, a.shape.at(-1)!, b.shape.at(-1)!];
  const shape = [...a.shape.slice(0, -1), n];
  const data = new Float64Array(sizeOf(shape));
  for (let block = 0; block < sizeOf(a.shape.slice(0, -2)); block++) {
    for (let i = 0; i < m; i++) {
      for (let l = 0; l < k; l++) {
        const x = a.data[(block * m + i) * k + l]!;
        for (let j = 0; j < n; j++) data[(block * m + i) * n + j]! += x * b.data[(block * k + l) * n + j]!;
      }
    }
  }
  return { shape, data };
}

/** Gauss and Jordan with pivots: the inverse and the determinant of one matrix. */
export function invert(x: Dense): { inverse: Dense; determinant: number } {
  const n = x.shape[0]!;
  const rows = Array.from({ length: n }, (_, i) => [
    ...x.data.subarray(i * n, (i + 1) * n),
    ...Array.from({ length: n }, (_, j) => (i === j ? 1 : 0)),
  ]);
  let determinant = 1;
  for (let c = 0; c < n; c++) {
    let pivot = c;
    for (let r = c; r < n; r++) if (Math.abs(rows[r]![c]!) > Math.abs(rows[pivot]![c]!)) pivot = r;
    if (pivot !== c) determinant = -determinant;
    [rows[c], rows[pivot]] = [rows[pivot]!, rows[c]!];
    const by = rows[c]![c]!;
    determinant *= by;
    rows[c] = rows[c]!.map((v) => v / by);
    for (let r = 0; r < n; r++) {
      const factor = rows[r]![c]!;
      if (r !== c && factor !== 0) rows[r] = rows[r]!.map((v, i) => v - factor * rows[c]![i]!);
    }
  }
  return { inverse: build([n, n], ([i, j]) => rows[i!]![n + j!]!), determinant };
}

export interface ConvolutionShape {
  readonly strides: number;
  readonly dilation: number;
  /** Zeros before each spatial axis, and after. */
  readonly padding: readonly [number, number];
  readonly groups: number;
}

/**
 * A convolution with channels last and, for a cotangent of its output, both cotangents. Without one the cotangents are those of the output
 * itself.
 */
export function convolution(
  x: Dense,
  w: Dense,
  { strides, dilation, padding, groups }: ConvolutionShape,
  cotangent?: Dense,
): { y: Dense; dx: Dense; dw: Dense } {
  const rank = x.shape.length - 2;
  const [batch, channels] = [x.shape[0]!, x.shape.at(-1)!];
  const [inputs, outputs] = [w.shape.at(-2)!, w.shape.at(-1)!];
  const image = x.shape.slice(1, -1);
  const kernel = w.shape.slice(0, rank);
  const out = image.map(
    (d, i) => Math.floor((d + padding[0] + padding[1] - (kernel[i]! - 1) * dilation - 1) / strides) + 1,
  );
  const y = build([batch, ...out, outputs], () => 0);
  const dx = map(x, () => 0);
  const dw = map(w, () => 0);
  const perGroup = outputs / groups;
  /** Calls `f` for each place of an output, element of the kernel and place of the input that it meets there. */
  const everywhere = (f: (outAt: number, kernelAt: number, inAt: number) => void): void => {
    build([batch, ...out], (o, outFlat) => {
      build(kernel, (k, kernelFlat) => {
        let inFlat = o[0]!;
        for (let axis = 0; axis < rank; axis++) {
          const at = o[axis + 1]! * strides + k[axis]! * dilation - padding[0];
          if (at < 0 || at >= image[axis]!) return 0;
          inFlat = inFlat * image[axis]! + at;
        }
        f(outFlat, kernelFlat, inFlat);
        return 0;
      });
      return 0;
    });
  };
  const each = (
    outAt: number,
    kernelAt: number,
    inAt: number,
    f: (yAt: number, wAt: number, xAt: number) => void,
  ): void => {
    for (let o = 0; o < outputs; o++) {
      const first = Math.floor(o / perGroup) * inputs;
      for (let i = 0; i < inputs; i++)
        f(outAt * outputs + o, (kernelAt * inputs + i) * outputs + o, inAt * channels + first + i);
    }
  };
  everywhere((...at) =>
    each(...at, (yAt, wAt, xAt) => {
      y.data[yAt]! += x.data[xAt]! * w.data[wAt]!;
    }),
  );
  const g = (cotangent ?? y).data;
  everywhere((...at) =>
    each(...at, (yAt, wAt, xAt) => {
      dx.data[xAt]! += g[yAt]! * w.data[wAt]!;
      dw.data[wAt]! += g[yAt]! * x.data[xAt]!;
    }),
  );
  return { y, dx, dw };
}

/** The windows of pooling with channels last, no padding: for each output the flat places of its elements. */
export function poolingWindows(
  shape: readonly number[],
  window: number,
  strides: number,
): { shape: number[]; places: number[][] } {
  const out = shape.map((d, i) =>
    i === 0 || i === shape.length - 1 ? d : Math.floor((d - window) / strides) + 1,
  );
  const places: number[][] = [];
  const inside = shape.slice(1, -1).map(() => window);
  build(out, (o) => {
    const found: number[] = [];
    build(inside, (k) => {
      let flat = o[0]!;
      for (const [axis, offset] of k.entries())
        flat = flat * shape[axis + 1]! + o[axis + 1]! * strides + offset;
      found.push(flat * shape.at(-1)! + o.at(-1)!);
      return 0;
    });
    places.push(found);
    return 0;
  });
  return { shape: out, places };
}

/** The discrete Fourier transform along the last axis, by its definition. */
export function fourier(re: Dense, im: Dense, sign: 1 | -1 = -1): { re: Dense; im: Dense } {
  const n = re.shape.at(-1)!;
  const part = (which: "re" | "im"): Dense =>
    build(re.shape, (index, flat) => {
      const [row, k] = [flat - index.at(-1)!, index.at(-1)!];
      let sum = 0;
      for (let t = 0; t < n; t++) {
        const angle = (sign * 2 * Math.PI * ((k * t) % n)) / n;
        const [c, s] = [Math.cos(angle), Math.sin(angle)];
        const [x, y] = [re.data[row + t]!, im.data[row + t]!];
        sum += which === "re" ? x * c - y * s : x * s + y * c;
      }
      return sum;
    });
  return { re: part("re"), im: part("im") };
}

/** Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). */
export function threefry(
  key: readonly [number, number],
  counter: readonly [number, number],
): [number, number] {
  const keys = [key[0], key[1], (key[0] ^ key[1] ^ 0x1bd11bda) >>> 0];
  const rotations = [13, 15, 26, 6, 17, 29, 16, 24];
  let [a, b] = [(counter[0] + keys[0]!) >>> 0, (counter[1] + keys[1]!) >>> 0];
  for (let round = 0; round < 20; round++) {
    a = (a + b) >>> 0;
    const r = rotations[round % 8]!;
    b = (((b << r) | (b >>> (32 - r))) ^ a) >>> 0;
    if (round % 4 === 3) {
      const step = (round + 1) / 4;
      a = (a + keys[step % 3]!) >>> 0;
      b = (b + keys[(step + 1) % 3]! + step) >>> 0;
    }
  }
  return [a, b];
}

/** erf by its series near 0 and erfc's continued fraction beyond (Abramowitz & Stegun 7.1.6, 7.1.14). */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a < 3) {
    let [term, sum] = [a, a];
    for (let n = 1; Math.abs(term) > 1e-17 * sum; n++) {
      term *= (2 * a * a) / (2 * n + 1);
      sum += term;
    }
    return (Math.sign(x) * 2 * Math.exp(-a * a) * sum) / Math.sqrt(Math.PI);
  }
  let fraction = a;
  for (let n = 60; n >= 1; n--) fraction = a + n / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-a * a) / (fraction * Math.sqrt(Math.PI)));
}

/** log Γ(x) for x > 0, by Stirling's series above 15 and the recurrence below. */
export function lgamma(x: number): number {
  let [shifted, correction] = [x, 0];
  while (shifted < 15) correction += Math.log(shifted++);
  const z = 1 / (shifted * shifted);
  const series = (1 / 12 - z * (1 / 360 - z * (1 / 1260 - z / 1680))) / shifted;
  return (shifted - 0.5) * Math.log(shifted) - shifted + 0.5 * Math.log(2 * Math.PI) + series - correction;
}

/** The derivative of `lgamma`, by the same means. */
export function digamma(x: number): number {
  let [shifted, correction] = [x, 0];
  while (shifted < 15) correction += 1 / shifted++;
  const z = 1 / (shifted * shifted);
  return (
    Math.log(shifted) - 0.5 / shifted - z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z / 240))) - correction
  );
}

/** The value of each bit pattern of an 8-bit float with `mantissa` bits; E4M3FN has no infinities. */
export function smallFloats(mantissa: 2 | 3): number[] {
  const exponent = 7 - mantissa;
  const bias = 2 ** (exponent - 1) - 1;
  return Array.from({ length: 256 }, (_, bits) => {
    const sign = bits >> 7 ? -1 : 1;
    const e = (bits >> mantissa) & (2 ** exponent - 1);
    const m = bits & (2 ** mantissa - 1);
    const top = e === 2 ** exponent - 1;
    if (mantissa === 2 && top) return m === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
    if (mantissa === 3 && top && m === 7) return Number.NaN;
    return (
      sign * (e === 0 ? (m / 2 ** mantissa) * 2 ** (1 - bias) : (1 + m / 2 ** mantissa) * 2 ** (e - bias))
    );
  });
}
