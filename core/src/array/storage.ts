/** Tensors between safetensors files and the devices; the bytes do not pass through this process. */
import type { DType } from "../graph/dtype.js";
import { type Placement, toSharding } from "../graph/mesh.js";
import { Node, type Primitive, type Shape } from "../graph/node.js";
import { type BufferTag, type DeviceBuffer, Runtime } from "../runtime/runtime.js";
import {
  loadSafetensors,
  readSafetensorsIndex,
  type SaveOptions,
  saveSafetensors,
} from "../runtime/safetensors.js";
import { bufferOf, materialize } from "./evaluate.js";
import { Tensor } from "./tensor.js";

/** An array that is on the device already: a node without inputs whose buffer is there. */
const result: Primitive = {
  name: "result",
  shape: () => [],
  lower: () => {
    throw new Error("a result has a buffer");
  },
};

/** A Tensor on a buffer. */
export function fromBuffer(buffer: DeviceBuffer): Tensor {
  const node = new Node(result, [], {}, [{ shape: buffer.shape, dtype: buffer.dtype }], null);
  const tensor = new Tensor(node, 0);
  node.outputs = [tensor];
  node.materialize(0, buffer);
  return tensor;
}

/** The same array laid over the devices of a mesh, in memory of its own. */
export function copyTo(tensor: Tensor, placement: Placement): Tensor {
  materialize([tensor]);
  return fromBuffer(Runtime.default().copy(bufferOf(tensor), toSharding(placement)));
}

/** What a safetensors file, an index or a folder with either holds, by name; `dtype` may be one that no Tensor has. */
export async function listTensors(path: string): Promise<Map<string, { shape: Shape; dtype: string }>> {
  return new Map(Object.entries((await readSafetensorsIndex(Runtime.default(), path)).tensors));
}

export interface StoredTensor {
  readonly name: string;
  readonly shape: Shape;
  /** Converted on the way where the file has another. */
  readonly dtype: DType;
  /** Default: whole on the first device. */
  readonly to?: Placement;
}

/** Loads tensors of a file, an index or a folder onto the device, in the order asked for. */
export async function loadTensors(
  path: string,
  wanted: readonly StoredTensor[],
  tag: BufferTag,
): Promise<Tensor[]> {
  if (wanted.length === 0) return [];
  const requests = wanted.map(({ name, shape, dtype, to }) => ({
    tensor: name,
    shape,
    dtype,
    tag,
    name,
    ...(to !== undefined && { sharding: toSharding(to) }),
  }));
  return (await loadSafetensors(Runtime.default(), path, requests)).map(fromBuffer);
}

/** Saves tensors, as they are now, to a `.safetensors` file or, in several files with an index, to a folder. */
export async function saveTensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  options: SaveOptions = {},
): Promise<void> {
  materialize([...tensors.values()]);
  const buffers = Object.fromEntries([...tensors].map(([name, tensor]) => [name, bufferOf(tensor)]));
  await saveSafetensors(Runtime.default(), path, buffers, options);
}
