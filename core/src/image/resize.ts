import { ArgumentError } from "../graph/errors.js";
import { checkPicture, type Picture } from "./picture.js";

/** How pixels between pixels are found. */
export type Resampling = "nearest" | "box" | "bilinear" | "hamming" | "bicubic" | "lanczos";

interface Filter {
  /** Pixels on either side, where a picture is not reduced. */
  readonly support: number;
  weight(x: number): number;
}

const sinc = (x: number) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

const filters: Record<Exclude<Resampling, "nearest">, Filter> = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: {
    support: 1,
    weight: (x) => (Math.abs(x) >= 1 ? 0 : sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x))),
  },
  bicubic: {
    support: 2,
    weight(given) {
      const a = -0.5;
      const x = Math.abs(given);
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
    },
  },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** Weights are whole numbers of 2^-22, so that a sum of pixels stays within 32 bits. */
const precision = 22;

/**
 * A picture of another size, with the very bytes that Pillow's `Image.resize` gives: a filter widened by the factor of reduction, across first
 * and then down (the other way round for very tall pictures), rounded to 8 bits between (`Resample.c` of Pillow up to 12; 13 chooses the
 * order by the sizes, which changes single levels).
 *
 * @param how - default "bicubic"
 */
export function resize(
  picture: Picture,
  width: number,
  height: number,
  how: Resampling = "bicubic",
): Picture {
  checkPicture("resize", picture);
  for (const [name, side] of Object.entries({ width, height }))
    if (!Number.isInteger(side) || side < 1)
      throw new ArgumentError(`resize: the ${name} is ${side}`, "give whole numbers from 1");
  if (how !== "nearest" && !Object.hasOwn(filters, how))
    throw new ArgumentError(
      `resize: there is no resampling ${JSON.stringify(how)}`,
      `give one of nearest, ${Object.keys(filters).join(", ")}`,
    );
  if (width === picture.width && height === picture.height) return { ...picture, data: picture.data.slice() };
  if (how === "nearest") return nearest(picture, width, height);
  const filter = filters[how];
  if (picture.height > 100 * picture.width && height < picture.height)
    return acrossRows(downColumns(picture, height, filter), width, filter);
  const across = width === picture.width ? picture : acrossRows(picture, width, filter);
  return height === picture.height ? across : downColumns(across, height, filter);
}

function nearest(picture: Picture, width: number, height: number): Picture {
  const data = new Uint8Array(3 * width * height);
  const places = (out: number, of: number) => {
    const step = of / out;
    return Int32Array.from({ length: out }, (_, i) => Math.min(of - 1, Math.floor((i + 0.5) * step)));
  };
  const [columns, rows] = [places(width, picture.width), places(height, picture.height)];
  let at = 0;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const from = 3 * (rows[y]! * picture.width + columns[x]!);
      data[at++] = picture.data[from]!;
      data[at++] = picture.data[from + 1]!;
      data[at++] = picture.data[from + 2]!;
    }
  return { data, width, height };
}

/** Of each pixel the first that it is made of, how many, and their weights. */
interface Weights {
  readonly first: Int32Array;
  readonly count: Int32Array;
  readonly stride: number;
  readonly values: Int32Array;
}

function weightsOf(size: number, out: number, { support, weight }: Filter): Weights {
  const scale = size / out;
  const widened = Math.max(1, scale);
  const reach = support * widened;
  const stride = Math.ceil(reach) * 2 + 1;
  const [first, count] = [new Int32Array(out), new Int32Array(out)];
  const values = new Int32Array(out * stride);
  const row = new Float64Array(stride);
  for (let i = 0; i < out; i++) {
    const center = (i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - reach + 0.5));
    const length = Math.min(size, Math.trunc(center + reach + 0.5)) - start;
    let sum = 0;
    for (let k = 0; k < length; k++) {
      row[k] = weight((k + start - center + 0.5) / widened);
      sum += row[k]!;
    }
    first[i] = start;
    count[i] = length;
    for (let k = 0; k < length; k++) {
      const value = (sum === 0 ? row[k]! : row[k]! / sum) * 2 ** precision;
      values[i * stride + k] = Math.trunc(value < 0 ? value - 0.5 : value + 0.5);
    }
  }
  return { first, count, stride, values };
}

const half = 1 << (precision - 1);

function toByte(sum: number): number {
  const value = sum >> precision;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

function acrossRows({ data, width, height }: Picture, out: number, filter: Filter): Picture {
  const { first, count, stride, values } = weightsOf(width, out, filter);
  const made = new Uint8Array(3 * out * height);
  let at = 0;
  for (let y = 0; y < height; y++) {
    const row = 3 * y * width;
    for (let x = 0; x < out; x++) {
      let [r, g, b] = [half, half, half];
      let from = row + 3 * first[x]!;
      const end = x * stride + count[x]!;
      for (let k = x * stride; k < end; k++, from += 3) {
        const w = values[k]!;
        r += data[from]! * w;
        g += data[from + 1]! * w;
        b += data[from + 2]! * w;
      }
      made[at++] = toByte(r);
      made[at++] = toByte(g);
      made[at++] = toByte(b);
    }
  }
  return { data: made, width: out, height };
}

function downColumns({ data, width, height }: Picture, out: number, filter: Filter): Picture {
  const { first, count, stride, values } = weightsOf(height, out, filter);
  const length = 3 * width;
  const made = new Uint8Array(length * out);
  const sums = new Int32Array(length);
  for (let y = 0; y < out; y++) {
    sums.fill(half);
    for (let k = 0; k < count[y]!; k++) {
      const w = values[y * stride + k]!;
      const from = (first[y]! + k) * length;
      for (let i = 0; i < length; i++) sums[i]! += data[from + i]! * w;
    }
    for (let i = 0; i < length; i++) made[y * length + i] = toByte(sums[i]!);
  }
  return { data: made, width, height: out };
}
