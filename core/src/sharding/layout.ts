/** Where the leaves of a tree lie, and weights that are whole only where they are used. */
import type { Placement } from "../graph/mesh.js";
import { mapNamed } from "../transform/tree.js";
import { constrain } from "./constraint.js";
import { without } from "./rules.js";

/** Where leaves lie, by path. */
export type Layout = ReadonlyMap<string, Placement>;

/**
 * The tree with leaves that are split along `axes` gathered whole along them, inside a program: fully sharded data parallelism (Rajbhandari
 * et al. 2020, "ZeRO", stage 3). Their cotangents come back in the parts of `layout`: what was gathered forwards is reduce-scattered
 * backwards.
 */
export function gathered<T>(tree: T, layout: Layout, axes: readonly string[]): T {
  return mapNamed((leaf, path) => {
    const from = layout.get(path);
    if (from === undefined) return leaf;
    const split = from.spec.some((entry) => entry.some((axis) => axes.includes(axis)));
    return split ? constrain(leaf, without(from, axes), from) : leaf;
  }, tree);
}

/**
 * The layout for a tree that repeats parts of another, as an optimizer's state repeats the parameters: a leaf lies as the one whose path its
 * own ends with, if the shapes are equal.
 */
export function layoutLike(
  layout: Layout,
): (path: string, leaf: { readonly shape: readonly number[] }) => Placement | undefined {
  return (path, { shape }) => {
    for (let at = 0; at >= 0 && at < path.length; at = path.indexOf(".", at) + 1 || -1) {
      const found = layout.get(path.slice(at));
      if (found !== undefined) return found.spec.length === shape.length ? found : undefined;
    }
    return undefined;
  };
}
