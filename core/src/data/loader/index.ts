export { Loader, loader } from "./loader.js";
export type { SkippedItem } from "./pipeline.js";
export type {
  BucketBound,
  BucketOptions,
  Decode,
  DecodeInfo,
  DecodeModule,
  ItemStream,
  LoadedFields,
  LoaderOptions,
  OnError,
  PadOptions,
  Sample,
} from "./types.js";
