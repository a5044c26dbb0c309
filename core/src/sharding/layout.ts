/** Where the leaves of a tree lie, and weights that are whole only where they are used. */
import type { Placement } from "../graph/mesh.js";
import type { Aval } from "../graph/node.js";
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
 * Where a leaf of a tree lies that repeats parts of another, as an optimizer's state repeats the parameters: as the leaf whose path its own
 * ends with, if the shapes are of one rank.
 */
export function placeLike(layout: Layout, path: string, { shape }: Aval): Placement | undefined {
  for (let rest = path; ; rest = rest.slice(rest.indexOf(".") + 1)) {
    const found = layout.get(rest);
    if (found?.spec.length === shape.length) return found;
    if (!rest.includes(".")) return undefined;
  }
}
