import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { tensor } from "../array/creation.js";
import { div, mul, sub } from "../array/elementwise.js";
import type { Tensor } from "../array/tensor.js";
import { DataError } from "../data/errors.js";
import { ArgumentError } from "../graph/errors.js";
import { type ProcessorConfig, prepared, resamplings, type SizeJson, sides } from "./geometry.js";
import type { Picture } from "./picture.js";

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
    return prepared(given, this.config);
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
