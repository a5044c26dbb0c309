export type {
  Batch,
  BatchCounts,
  BatchFields,
  BatchInfo,
  BatchShapes,
  BatchSource,
  DataPosition,
  FieldShape,
  FieldShapes,
  HostArray,
  PrepareOptions,
  ShapedArray,
  SourceProgress,
} from "./batch.js";
export { DataError, EndOfData } from "./errors.js";
export { iterate } from "./iterate.js";
export * from "./loader/index.js";
export { permutation, Sfc32 } from "./random.js";
