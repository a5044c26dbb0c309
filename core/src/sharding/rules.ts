/** From the logical axes that a model declares to the axes of a mesh: the model file knows nothing of the layout. */
import type { Mesh, Placement } from "../graph/mesh.js";
import type { Aval } from "../graph/node.js";

/** The mesh axes that split each logical axis, outermost first. What is not named is not split. */
export type Rules = Readonly<Record<string, string | readonly string[] | null>>;

/**
 * Batches over `data` and `fsdp`; weights over `fsdp` along their width (Zhao et al. 2023, "PyTorch FSDP") and over `tensor` along heads,
 * feed-forward and vocabulary (Shoeybi et al. 2019, "Megatron-LM"); experts over `expert`.
 */
export const defaultRules: Rules = {
  batch: ["data", "fsdp"],
  embed: "fsdp",
  vocab: "tensor",
  mlp: "tensor",
  heads: "tensor",
  kv: "tensor",
  expert: "expert",
};

/**
 * Where an array with these logical axes lies. A mesh axis that splits an earlier dimension already, or that does not divide the
 * dimension, is left out.
 *
 * @param axes - one a dimension, null where nothing is to split it
 */
export function placeAxes(
  axes: readonly (string | null)[],
  { shape }: Aval,
  mesh: Mesh,
  rules: Rules = defaultRules,
): Placement {
  const used = new Set<string>();
  const spec = shape.map((size, i) => {
    const rule = rules[axes[i] ?? ""] ?? [];
    let rest = size;
    return (typeof rule === "string" ? [rule] : rule).filter((axis) => {
      const parts = mesh.size(axis);
      if (parts === 1 || used.has(axis) || rest % parts !== 0) return false;
      used.add(axis);
      rest /= parts;
      return true;
    });
  });
  return { mesh, spec };
}

/** The placement without some mesh axes: whole along them. */
export function without({ mesh, spec }: Placement, axes: readonly string[]): Placement {
  return { mesh, spec: spec.map((entry) => entry.filter((axis) => !axes.includes(axis))) };
}
