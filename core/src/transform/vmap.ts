/** Vectorising: a function of one example as a function of many, by each primitive's `batch` rule. */
import { application, bindAll, type Op, placeholder } from "../array/bind.js";
import { addBatchAxis } from "../array/broadcast.js";
import { normalizeAxis } from "../array/shapes.js";
import { moveAxis } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { type Graph, type Node, reachable } from "../graph/node.js";
import { withSite } from "../graph/site.js";
import { refusingUpdates } from "./buffers.js";
import { trace } from "./tracing.js";
import { flatten } from "./tree.js";

/** A graph for many examples at once; a batched value has the examples along its first axis. */
export interface BatchedGraph extends Graph<Tensor> {
  readonly batched: readonly boolean[];
}

/** Applies the operations of `graph` to parameters of which those with `batched[i]` have a leading axis of `size`. */
export function applyBatched(
  graph: Graph<Tensor>,
  args: readonly Tensor[],
  batched: readonly boolean[],
  size: number,
): { outputs: Tensor[]; batched: boolean[] } {
  interface Known {
    readonly value: Tensor;
    readonly batched: boolean;
  }
  const known = new Map<Node, (Known | undefined)[]>();
  for (const [i, p] of graph.parameters.entries()) {
    const entry = known.get(p.node) ?? [];
    entry[p.index] = { value: args[i]!, batched: batched[i]! };
    known.set(p.node, entry);
  }
  const lookup = (x: Tensor): Known => known.get(x.node)?.[x.index] ?? { value: x, batched: false };
  const first = Math.min(...graph.parameters.map((p) => p.node.id));
  const isLeaf = (x: Tensor): boolean => x.node.id < first || known.get(x.node)?.[x.index] !== undefined;
  for (const node of reachable(graph.outputs, (v) => isLeaf(v as Tensor))) {
    const { inputs, attributes } = application(node);
    const given = inputs.map(lookup);
    if (!given.some((g, i) => g.batched || g.value !== inputs[i])) continue;
    const primitive = node.primitive as Op;
    if (!given.some((g) => g.batched)) {
      const again = withSite(node.site, () =>
        bindAll(
          primitive,
          given.map((g) => g.value),
          attributes,
        ),
      );
      known.set(
        node,
        again.map((value) => ({ value, batched: false })),
      );
      continue;
    }
    if (primitive.batch === undefined) {
      const at = node.site?.toString();
      throw new ArgumentError(
        `${primitive.name}${at ? ` (${at})` : ""} cannot be vectorised`,
        "compute it outside vmap, or loop over the examples with scan",
      );
    }
    const results = withSite(node.site, () =>
      primitive.batch?.(
        given.map((g) => g.value),
        given.map((g) => g.batched),
        attributes,
        size,
      ),
    );
    known.set(
      node,
      (results as readonly Tensor[]).map((value) => ({ value, batched: true })),
    );
  }
  const found = graph.outputs.map(lookup);
  return { outputs: found.map((f) => f.value), batched: found.map((f) => f.batched) };
}

/** `graph` as a graph of batched parameters; outputs with `force[i]` are batched in any case. */
export function batchGraph(
  graph: Graph<Tensor>,
  batched: readonly boolean[],
  size: number,
  force: readonly boolean[] = [],
): BatchedGraph {
  const parameters = graph.parameters.map((p, i) =>
    batched[i] ? placeholder({ shape: [size, ...p.shape], dtype: p.dtype }) : p,
  );
  const result = applyBatched(graph, parameters, batched, size);
  return {
    parameters,
    outputs: result.outputs.map((x, i) => (force[i] && !result.batched[i] ? addBatchAxis(x, size) : x)),
    batched: result.batched.map((b, i) => b || force[i] === true),
  };
}

export interface VmapOptions {
  /** The mapped axis of each argument's leaves, null for arguments that every example shares. Default 0 for all. */
  in?: number | readonly (number | null)[];
  /** Where the examples' axis stands in the results. Default 0. */
  out?: number;
}

/**
 * `f` of one example as a function of many: the given axis of each argument goes, and `f` sees the rest. Nests; composes with grad,
 * jit and control flow.
 */
export function vmap<A extends unknown[], R>(
  f: (...args: A) => R,
  { in: axes = 0, out = 0 }: VmapOptions = {},
): (...args: A) => R {
  return (...args) => {
    if (typeof axes !== "number" && axes.length !== args.length) {
      throw new ArgumentError(
        `vmap: ${axes.length} axes for ${args.length} arguments`,
        "give one axis, or one for each argument (null for those that all examples share)",
      );
    }
    let size: number | undefined;
    let origin = "";
    const mapped: Tensor[] = [];
    const parameters: Tensor[] = [];
    const inner = args.map((arg, i) => {
      const axis = typeof axes === "number" ? axes : axes[i]!;
      if (axis === null) return arg;
      const flat = flatten(arg);
      return flat.rebuild(
        flat.leaves.map((leaf, k) => {
          const path = flat.paths[k];
          const what = `${path ? `"${path}" of ` : ""}argument ${i}, ${leaf}`;
          const at = normalizeAxis(`vmap: ${what}`, axis, leaf.ndim);
          const length = leaf.shape[at]!;
          if (size !== undefined && size !== length) {
            throw new ShapeError(
              `vmap: axis ${axis} of ${what}, has length ${length}, but that of ${origin} has ${size}`,
              "all mapped axes must have one length",
            );
          }
          [size, origin] = [length, what];
          mapped.push(moveAxis(leaf, at, 0));
          const parameter = placeholder({ shape: leaf.shape.filter((_, d) => d !== at), dtype: leaf.dtype });
          parameters.push(parameter);
          return parameter;
        }),
      );
    }) as A;
    if (size === undefined) {
      throw new ArgumentError(
        "vmap: no argument holds a Tensor with a mapped axis",
        "map at least one argument",
      );
    }
    const count = size;
    const result = flatten(
      refusingUpdates("vmap computes many examples at once, each with a value of its own", () =>
        trace("vmap", () => f(...inner)),
      ),
    );
    const { outputs, batched } = applyBatched(
      { parameters, outputs: result.leaves },
      mapped,
      mapped.map(() => true),
      count,
    );
    return result.rebuild(
      outputs.map((x, i) => {
        const full = batched[i] ? x : addBatchAxis(x, count);
        return moveAxis(full, 0, normalizeAxis("vmap: out", out, full.ndim));
      }),
    ) as R;
  };
}
