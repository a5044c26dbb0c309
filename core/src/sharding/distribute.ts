/** Laying the values of a tree over a mesh. */
import { copyTo } from "../array/storage.js";
import type { Tensor } from "../array/tensor.js";
import { type Mesh, type PartitionSpec, type Placement, placement } from "../graph/mesh.js";
import { mapNamed } from "../transform/tree.js";

/** The tree with each leaf computed and copied to where `place` says; leaves without a placement stay where they are. */
export function distributeBy<T>(tree: T, place: (path: string, leaf: Tensor) => Placement | undefined): T {
  return mapNamed((leaf, path) => {
    const to = place(path, leaf);
    return to === undefined || to.mesh.count === 1 ? leaf : copyTo(leaf, to);
  }, tree);
}

/**
 * The tree with each leaf computed and laid over `mesh` as `spec` says (default: whole on every device). Compiled functions then run on
 * all its devices.
 */
export function distribute<T>(tree: T, mesh: Mesh, spec: PartitionSpec = []): T {
  return distributeBy(tree, (path, leaf) =>
    placement(`distribute: ${path || "the tensor"}`, mesh, spec, leaf),
  );
}
