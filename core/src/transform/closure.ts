/** Functions as closed graphs: what control flow and checkpoints keep of the functions they are given. */
import { placeholder } from "../array/bind.js";
import type { Tensor } from "../array/tensor.js";
import { hostArray } from "../graph/leaves.js";
import { type Aval, type Graph, type Node, nextNodeId, reachable } from "../graph/node.js";
import { trace } from "./tracing.js";
import { type Flat, flatten } from "./tree.js";

/** A function's graph. Its parameters are the captured values (themselves) and then the placeholders. */
export interface Closure extends Graph<Tensor> {
  /** Values from outside that the function refers to. */
  readonly captured: readonly Tensor[];
  /** What the function returned. */
  readonly result: Flat;
}

/** Operations on nothing but scalars that are cheaper to repeat inside a region than to pass into it. */
const cheap = new Set(["constant", "iota", "broadcast_in_dim"]);

export function isConstant(value: Tensor): boolean {
  const { primitive, inputs } = value.node;
  return cheap.has(primitive.name) && inputs.every((x) => isConstant(x as Tensor));
}

/**
 * Traces `f` on placeholders. Everything that does not depend on them is computed outside, once; with `keepInside`, only what existed
 * before the call.
 */
export function closure(
  transform: string,
  f: (...leaves: Tensor[]) => unknown,
  avals: readonly Aval[],
  { keepInside = false } = {},
): Closure {
  const first = nextNodeId();
  const placeholders = avals.map(placeholder);
  const result = flatten(
    trace(transform, () => f(...placeholders)),
    { sorted: true },
  );
  const own = new Set<Node>(placeholders.map((p) => p.node));
  const inside = new Set<Node>(own);
  const nodes = reachable(result.leaves, (v) => v.node.id < first || own.has(v.node));
  for (const node of nodes) {
    const stays = keepInside
      ? node.primitive !== hostArray && node.inputs.length > 0
      : node.inputs.some((x) => inside.has(x.node));
    if (stays) inside.add(node);
  }
  const captured = new Set<Tensor>();
  const capture = (x: Tensor): void => {
    if (!inside.has(x.node) && !isConstant(x)) captured.add(x);
  };
  for (const node of nodes) if (inside.has(node)) for (const x of node.inputs) capture(x as Tensor);
  for (const x of result.leaves) capture(x);
  return {
    parameters: [...captured, ...placeholders],
    outputs: result.leaves,
    captured: [...captured],
    result,
  };
}
