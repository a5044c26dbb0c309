/** Pictures: files to pixels, other sizes, and what models take. */

export {
  type AugmentOptions,
  adjustBrightness,
  adjustContrast,
  adjustHue,
  adjustSaturation,
  adjustSharpness,
  affine,
  augment,
  autoContrast,
  type Boxes,
  mix,
  mixingShare,
  posterize,
  resizedCrop,
  solarize,
} from "./augment.js";
export {
  batches,
  type PictureBatches,
  type PictureBatchOptions,
  type PictureFields,
} from "./batches.js";
export { type DecodeOptions, decode } from "./decode.js";
export type { ProcessorConfig, SizeJson } from "./geometry.js";
export { centerCrop, crop, type Picture, padToSquare } from "./picture.js";
export { ImageProcessor } from "./processor.js";
export { type Resampling, resize } from "./resize.js";
export {
  type FolderOptions,
  folder,
  type PictureItem,
  type PictureList,
  type TableOptions,
  table,
  tar,
} from "./sources.js";
