export {
  type CheckpointContent,
  CheckpointStore,
  type StoreOptions,
  type TensorFolder,
  tensorsOf,
} from "./checkpoint-store.js";
export { CheckpointError, SafetensorsError } from "./errors.js";
export { type NamedTensor, SafetensorsFile, type WrittenFile, writeSafetensors } from "./safetensors-file.js";
export type { SafetensorsHeader, TensorDescription, TensorEntry } from "./safetensors-header.js";
export type { Checkpoint } from "./stored-checkpoint.js";
export { TensorFiles, type WriteOptions, writeTensorFiles } from "./tensor-files.js";
export {
  type LoadTreeOptions,
  loadTree,
  type SaveTreeOptions,
  saveTree,
  type TensorNames,
  type TreeReport,
} from "./trees.js";
