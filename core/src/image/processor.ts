import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { tensor } from "../array/creation.js";
import { div, mul, sub } from "../array/elementwise.js";
import type { Tensor } from "../array/tensor.js";
import { DataError } from "../data/errors.js";
import { ArgumentError } from "../graph/errors.js";
import { centerCrop, type Picture, padToSquare } from "./picture.js";
import { type Resampling, resize } from "./resize.js";

/** A size as `preprocessor_config.json` has it. */
export type SizeJson =
  | number
  | { height: number; width: number }
  | { shortest_edge: number; longest_edge?: number };

/** What of a `preprocessor_config.json` says how pictures become numbers. */
export interface ProcessorConfig {
  image_processor_type?: string;
  do_resize?: boolean;
  size?: SizeJson;
  /** Pillow's number of the filter. */
  resample?: number;
  do_center_crop?: boolean;
  crop_size?: SizeJson;
  do_rescale?: boolean;
  rescale_factor?: number;
  do_normalize?: boolean;
  image_mean?: number[];
  image_std?: number[];
  /** LLaVA: to a square of the mean's colour first. */
  do_pad?: boolean;
  /** ConvNeXt: what of a resized picture is kept, below 384. */
  crop_pct?: number;
  [field: string]: unknown;
}

const clip = { mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711] };
const halves = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] };

type Defaults = Required<
  Pick<
    ProcessorConfig,
    | "do_resize"
    | "size"
    | "resample"
    | "do_center_crop"
    | "do_rescale"
    | "rescale_factor"
    | "do_normalize"
    | "image_mean"
    | "image_std"
  >
> &
  ProcessorConfig;

const [bilinear, bicubic] = [2, 3];

function defaults(
  { mean, std }: { mean: number[]; std: number[] },
  size: SizeJson,
  resample: number,
  more: ProcessorConfig = {},
): Defaults {
  return {
    do_resize: true,
    size,
    resample,
    do_center_crop: false,
    do_rescale: true,
    rescale_factor: 1 / 255,
    do_normalize: true,
    image_mean: mean,
    image_std: std,
    ...more,
  } as Defaults;
}

const square = (side: number) => ({ height: side, width: side });

/** The defaults of transformers' classes, by the name without `ImageProcessor`, `FeatureExtractor`, `Fast` and `Pil`. */
const known: Readonly<Record<string, Defaults>> = {
  CLIP: defaults(clip, { shortest_edge: 224 }, bicubic, { do_center_crop: true, crop_size: square(224) }),
  Llava: defaults(clip, { shortest_edge: 224 }, bicubic, { do_center_crop: true, crop_size: square(224) }),
  ViT: defaults(halves, square(224), bilinear),
  DeiT: defaults(halves, square(256), bicubic, { do_center_crop: true, crop_size: square(224) }),
  Siglip: defaults(halves, square(224), bicubic),
  ConvNext: defaults(halves, { shortest_edge: 384 }, bicubic, { crop_pct: 224 / 256 }),
  Bit: defaults(clip, { shortest_edge: 224 }, bicubic, { do_center_crop: true, crop_size: square(224) }),
};

const resamplings: readonly Resampling[] = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"];

/**
 * Makes pictures into what a model takes, as transformers' image processors of that name: `prepare` on the host gives pictures of one size (uint8,
 * a quarter of the bytes of float32), `normalize` on the device the numbers. CLIP, ViT, DeiT, SigLIP, ConvNeXt, BiT (which DINOv2 uses) and
 * LLaVA 1.5.
 */
export class ImageProcessor {
  readonly config: Defaults;

  /** @throws DataError for a processor that is not known, or a size that makes no sense */
  constructor(config: ProcessorConfig) {
    const type = config.image_processor_type ?? (config.feature_extractor_type as string | undefined);
    const name = String(type).replace(/(ImageProcessor|FeatureExtractor)(Fast|Pil)?$/, "");
    const given = known[name];
    if (given === undefined)
      throw new DataError(
        `The image processor ${JSON.stringify(type)} is not known.`,
        `Known are ${Object.keys(known)
          .map((each) => `${each}ImageProcessor`)
          .join(", ")}.`,
      );
    this.config = { ...given, ...config };
    if (resamplings[this.config.resample] === undefined)
      throw new DataError(`The processor's resample is ${this.config.resample}.`, "Pillow has 0 to 5.");
  }

  /** Reads a `preprocessor_config.json`, or that of a folder. */
  static async load(path: string): Promise<ImageProcessor> {
    const file = path.endsWith(".json") ? path : join(path, "preprocessor_config.json");
    let text: string;
    try {
      text = await readFile(file, "utf8");
    } catch (error) {
      throw new DataError(
        `The image processor ${file} cannot be read: ${(error as Error).message}`,
        "Give a preprocessor_config.json, or the folder that holds it.",
        { cause: error },
      );
    }
    let config: unknown;
    try {
      config = JSON.parse(text);
    } catch (error) {
      throw new DataError(`${file} is not valid JSON: ${(error as Error).message}`, undefined, {
        cause: error,
      });
    }
    return new ImageProcessor(config as ProcessorConfig);
  }

  /** The size of the pictures that the model takes; undefined where it follows from each. */
  get size(): { width: number; height: number } | undefined {
    const { do_resize, size, do_center_crop, crop_size } = this.config;
    if (do_center_crop && crop_size !== undefined) return sides(crop_size);
    if (this.config.crop_pct !== undefined && typeof size === "object" && "shortest_edge" in size)
      return { width: size.shortest_edge, height: size.shortest_edge };
    return do_resize && typeof size === "object" && "height" in size ? sides(size) : undefined;
  }

  /** Resized and cut; 8-bit RGB as before. */
  prepare(given: Picture): Picture {
    const { do_resize, size, do_center_crop, crop_size, do_pad, image_mean } = this.config;
    let picture = given;
    if (do_pad === true) {
      const colour = image_mean.map((mean) => Math.trunc(mean * 255)) as [number, number, number];
      picture = padToSquare(picture, colour);
    }
    if (do_resize) picture = this.resized(picture, size);
    if (do_center_crop) {
      const { width, height } = sides(crop_size ?? size);
      picture = centerCrop(picture, width, height);
    }
    return picture;
  }

  private resized(picture: Picture, size: SizeJson): Picture {
    const how = resamplings[this.config.resample]!;
    const { crop_pct: kept } = this.config;
    if (kept !== undefined && typeof size === "object" && "shortest_edge" in size) {
      const side = size.shortest_edge;
      if (side >= 384) return resize(picture, side, side, how);
      const { width, height } = byShortest(picture, Math.trunc(side / kept));
      return centerCrop(resize(picture, width, height, how), side, side);
    }
    const { width, height } =
      typeof size === "number"
        ? byShortest(picture, size)
        : "height" in size
          ? size
          : byShortest(picture, size.shortest_edge, size.longest_edge);
    return resize(picture, width, height, how);
  }

  /** [n, height, width, 3] of pictures of one size, as they are sent to the device. */
  batch(pictures: readonly Picture[]): { data: Uint8Array; shape: [number, number, number, number] } {
    const [first] = pictures;
    if (first === undefined) throw new ArgumentError("a batch of no pictures", "give one at least");
    const { width, height } = first;
    const size = 3 * width * height;
    const data = new Uint8Array(pictures.length * size);
    pictures.forEach((picture, i) => {
      if (picture.width !== width || picture.height !== height)
        throw new ArgumentError(
          `picture ${i} of a batch is ${picture.width} x ${picture.height}, the first ${width} x ${height}`,
          "prepare() them with a processor of a fixed size, or make batches of pictures of one size",
        );
      data.set(picture.data, i * size);
    });
    return { data, shape: [pictures.length, height, width, 3] };
  }

  /** float32 [n, 3, height, width] of uint8 [n, height, width, 3]: scaled, and standardized by channel. Runs on the device. */
  normalize(pixels: Tensor): Tensor {
    if (pixels.ndim !== 4 || pixels.shape[3] !== 3)
      throw new ArgumentError(
        `normalize: the pixels have shape [${pixels.shape.join(", ")}]`,
        "give [n, height, width, 3]",
      );
    const { do_rescale, rescale_factor, do_normalize, image_mean, image_std } = this.config;
    let x = pixels.astype("float32");
    if (do_rescale) x = mul(x, rescale_factor);
    if (do_normalize) x = div(sub(x, tensor(image_mean)), tensor(image_std));
    return x.transpose([0, 3, 1, 2]);
  }

  /** float32 [n, 3, height, width] of pictures. */
  process(pictures: readonly Picture[]): Tensor {
    const { data, shape } = this.batch(pictures.map((picture) => this.prepare(picture)));
    return this.normalize(tensor(data, { shape, dtype: "uint8" }));
  }
}

function sides(size: SizeJson): { width: number; height: number } {
  if (typeof size === "number") return { width: size, height: size };
  if ("height" in size) return { width: size.width, height: size.height };
  return { width: size.shortest_edge, height: size.shortest_edge };
}

/** The sides with the shorter one given, as transformers computes them: the longer is cut to a whole number. */
function byShortest(
  { width, height }: Picture,
  shortest: number,
  longest?: number,
): { width: number; height: number } {
  const [short, long] = width <= height ? [width, height] : [height, width];
  let [a, b] = [shortest, Math.trunc((shortest * long) / short)];
  if (longest !== undefined && b > longest) [a, b] = [Math.trunc((longest * shortest) / b), longest];
  return width <= height ? { width: a, height: b } : { width: b, height: a };
}
