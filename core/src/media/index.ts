/** Images, sounds and videos in a cell; a run keeps them with `training.image(…)` and its kin. */

export type { AudioOptions } from "./audio.js";
export type { Layout, RangeOptions } from "./frames.js";
export type { HistogramOptions } from "./histogram.js";
export type { ImageOptions } from "./image.js";
export { audio, type DisplayedMedia, image, video } from "./show.js";
export type { TableCell, TableOptions, TableValue } from "./table.js";
export type { MediaValue } from "./values.js";
export type { VideoOptions } from "./video.js";
