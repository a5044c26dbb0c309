export {
  type ArrayBatchFields,
  type ArrayFields,
  type ArraysOptions,
  ArraysSource,
  arrays,
} from "./arrays.js";
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
export { alternating, type CombinedFields, CombinedSource, mixture } from "./combined.js";
export { DataError, EndOfData } from "./errors.js";
export { Generated, type GeneratedOptions, generated } from "./generated.js";
export { iterate } from "./iterate.js";
export * from "./loader/index.js";
export { permutation, Sfc32 } from "./random.js";
