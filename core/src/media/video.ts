import { slice } from "../array/indexing.js";
import { ArgumentError } from "../graph/errors.js";
import { type Frames, type Layout, pictures, type RangeOptions, readFrames } from "./frames.js";
import type { MediaValue } from "./values.js";

export interface VideoOptions extends RangeOptions {
  /** Frames a second; default 8. */
  fps?: number;
  /** Where the channels are; default last. */
  layout?: Layout;
  caption?: string;
}

/** Larger frames are reduced, later ones left out. */
const maxSide = 1024;
const maxBytes = 128 << 20;
const maxFrames = 2048;

/** The frames of a video [t, h, w, c], c 1 (gray), 3 (RGB) or 4 (RGBA). */
export function readVideo(value: MediaValue, options: VideoOptions = {}): Promise<Frames> {
  const { layout, fps = 8 } = options;
  if (!(fps > 0 && fps <= 1000)) throw new ArgumentError(`video: fps is ${fps}`, "give 0 < fps <= 1000");
  let { x, shape } = pictures("video", value, layout);
  if (x.ndim !== 4) {
    throw new ArgumentError(`video of shape [${x.shape.join(", ")}]`, "give [frames, h, w, c]");
  }
  if (shape[0] > maxFrames) {
    x = slice(x, [0, maxFrames]);
    shape = [maxFrames, shape[1], shape[2], shape[3]];
  }
  return readFrames(x, shape, options, { maxSide, maxBytes });
}
