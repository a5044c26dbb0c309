/** Computing all Tensors of a tree in one program. */
import { bufferOf, materialize } from "../array/evaluate.js";
import { leaves } from "./tree.js";

/**
 * Computes every Tensor of `tree` in one program, which shares what they have in common; asking each for its data would compile and run one
 * for each. Resolves to the same tree when all are there, rejects with the error of the device.
 */
export async function evaluate<T>(tree: T): Promise<T> {
  const values = leaves(tree);
  materialize(values);
  const buffers = values.map(bufferOf);
  await buffers[0]?.runtime.sync(buffers);
  return tree;
}
