/** Pictures: files to pixels, other sizes, and what models take. */

export { type DecodeOptions, decode } from "./decode.js";
export { centerCrop, crop, type Picture, padToSquare } from "./picture.js";
export { ImageProcessor, type ProcessorConfig, type SizeJson } from "./processor.js";
export { type Resampling, resize } from "./resize.js";
