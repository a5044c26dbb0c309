/** Saying how a value lies on a mesh; the compiler moves the data. */
import { bind, type Op } from "../array/bind.js";
import type { Tensor } from "../array/tensor.js";
import { tensorType } from "../graph/lowering.js";
import { type Mesh, type PartitionSpec, type Placement, placement, shardingText } from "../graph/mesh.js";

interface ConstraintAttributes {
  readonly [name: string]: unknown;
  readonly to: Placement;
  /** Where the cotangent is to lie. */
  readonly cotangent: Placement;
}

const constraintPrimitive: Op<ConstraintAttributes> = {
  name: "sharding_constraint",
  shape: ([x]) => [{ shape: x!.shape, dtype: x!.dtype }],
  vjp: ({ attributes: { to, cotangent } }, [g]) => [g && constrain(g, cotangent, to)],
  batch: ([x], _, { to, cotangent }) => [constrain(x!, mapped(to), mapped(cotangent))],
  placement: ({ to }) => to,
  lower(lowering, { inputs: [x], attributes: { to } }, [name]) {
    lowering.useMesh(to.mesh);
    return lowering.emit(`sdy.sharding_constraint ${name} ${shardingText(to)} : ${tensorType(x!)}`);
  },
};

function mapped({ mesh, spec }: Placement): Placement {
  return { mesh, spec: [[], ...spec] };
}

/** `x`, lying as `to` says; its cotangent lies as `cotangent`. */
export function constrain(x: Tensor, to: Placement, cotangent: Placement = to): Tensor {
  return to.mesh.count === 1 ? x : bind(constraintPrimitive, [x], { to, cotangent });
}

/**
 * `x`, laid over `mesh` as `spec` says: for each dimension the mesh axis or axes that split it, or null. Inside `jit` it tells the compiler
 * where the value is to lie at this point (Xu et al. 2021, GSPMD's annotation); its derivative lies there too.
 *
 * @throws ShapeError if the axes do not divide the dimension
 */
export function shard(x: Tensor, mesh: Mesh, spec: PartitionSpec): Tensor {
  return constrain(x, placement("shard", mesh, spec, x));
}
