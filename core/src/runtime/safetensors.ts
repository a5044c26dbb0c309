/** Safetensors files between the disk and the devices; the bytes do not pass through this process. */
import path from "node:path";
import type { DType } from "../graph/dtype.js";
import type { DeviceBuffer, Runtime } from "./runtime.js";
import type { BufferTag, Sharding } from "./types.js";

export interface SafetensorsIndex {
  /** `dtype` is a name of the framework, or the file's own for an element type that no buffer has. */
  tensors: Record<string, { dtype: DType | string; shape: number[]; file: string }>;
  metadata: Record<string, string>;
  files: string[];
}

export interface LoadTensor {
  /** Name in the file. */
  tensor: string;
  shape: readonly number[];
  /** Converted on the way where the file has another. */
  dtype: DType;
  sharding?: Sharding;
  tag?: BufferTag;
  /** Name of the buffer in reports. */
  name?: string;
}

export interface SaveOptions {
  /** Kept in the header of each file. */
  metadata?: Record<string, string>;
  /** For a folder: bytes after which another file is begun. Default 5 GB. */
  maxFileBytes?: number;
}

/**
 * What a file, an index (`*.index.json`) or a folder with either holds.
 * @throws StorageError if it cannot be read, InvalidArgument if its header lies about it
 */
export async function readSafetensorsIndex(runtime: Runtime, file: string): Promise<SafetensorsIndex> {
  return (await runtime.request({ op: "safetensors.index", path: path.resolve(file) }))
    .result as SafetensorsIndex;
}

/** Loads tensors onto their devices, each with its sharding. Resolves when all are there. */
export async function loadSafetensors(
  runtime: Runtime,
  file: string,
  tensors: readonly LoadTensor[],
): Promise<DeviceBuffer[]> {
  const buffers = runtime.adopt(tensors);
  await runtime.request({
    op: "safetensors.load",
    path: path.resolve(file),
    tensors,
    buffers: buffers[0]?.id ?? 0,
  });
  return buffers;
}

/**
 * Saves buffers to one file (a path that ends in `.safetensors`) or to a folder of files with an index. The values are those of now:
 * later programs may take the buffers at once. Resolves when all is on the disk; until then, and if it fails, what was there before
 * stays as it was.
 */
export async function saveSafetensors(
  runtime: Runtime,
  file: string,
  tensors: Record<string, DeviceBuffer>,
  options: SaveOptions = {},
): Promise<{ files: string[]; bytes: number }> {
  const handles: Record<string, number> = {};
  for (const [name, buffer] of Object.entries(tensors)) handles[name] = runtime.handle(buffer);
  const { result } = await runtime.request({
    op: "safetensors.save",
    path: path.resolve(file),
    tensors: handles,
    ...options,
  });
  return result as { files: string[]; bytes: number };
}
