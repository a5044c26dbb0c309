/** How a `preprocessor_config.json` resizes and cuts pictures; without Tensors, so that worker threads load little. */
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

/** Pillow's numbers of its filters. */
export const resamplings: readonly Resampling[] = [
  "nearest",
  "lanczos",
  "bilinear",
  "bicubic",
  "box",
  "hamming",
];

/** What of a processor decides the shape of its pictures. */
export type Geometry = Pick<
  ProcessorConfig,
  "do_resize" | "do_center_crop" | "crop_size" | "do_pad" | "crop_pct"
> &
  Required<Pick<ProcessorConfig, "size" | "resample" | "image_mean">>;

/** Resized and cut; 8-bit RGB as before. */
export function prepared(given: Picture, config: Geometry): Picture {
  const { do_resize, size, do_center_crop, crop_size, do_pad, image_mean } = config;
  let picture = given;
  if (do_pad === true) {
    const colour = image_mean.map((mean) => Math.trunc(mean * 255)) as [number, number, number];
    picture = padToSquare(picture, colour);
  }
  if (do_resize) picture = resized(picture, config);
  if (do_center_crop) {
    const { width, height } = sides(crop_size ?? size);
    picture = centerCrop(picture, width, height);
  }
  return picture;
}

function resized(picture: Picture, { size, resample, crop_pct: kept }: Geometry): Picture {
  const how = resamplings[resample]!;
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

export function sides(size: SizeJson): { width: number; height: number } {
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
