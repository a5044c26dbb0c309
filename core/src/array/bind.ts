/** Applying primitives: every operation of the language goes through here. */
import { parameter } from "../graph/leaves.js";
import { type Attributes, type Aval, type Graph, Node, type Primitive, reachable } from "../graph/node.js";
import { captureSite } from "../graph/site.js";
import { Tensor } from "./tensor.js";

/** A primitive whose rules compute with Tensors. */
export type Op<A extends Attributes = Attributes> = Primitive<A, Tensor>;

/** Applies a primitive: checks the inputs, records a node, returns its outputs. Nothing runs. */
export function bindAll<A extends Attributes>(
  op: Op<A>,
  inputs: readonly Tensor[],
  attributes: A,
): readonly Tensor[] {
  const site = captureSite();
  const avals = op.shape(inputs, attributes);
  const node = new Node(op as Primitive, inputs, attributes, avals, site);
  const outputs = avals.map((_, i) => new Tensor(node, i));
  node.outputs = outputs;
  return outputs;
}

/** `bindAll` for primitives of one output. */
export function bind<A extends Attributes>(op: Op<A>, inputs: readonly Tensor[], attributes: A): Tensor {
  return bindAll(op, inputs, attributes)[0]!;
}

/** A fresh parameter of a trace. */
export function placeholder(aval: Aval): Tensor {
  return bind(parameter as Op<{ aval: Aval }>, [], { aval: { shape: aval.shape, dtype: aval.dtype } });
}

/** The inputs and outputs of a node as Tensors, which is what the array layer always puts there. */
export function application(node: Node): {
  inputs: readonly Tensor[];
  outputs: readonly Tensor[];
  attributes: Attributes;
} {
  return {
    inputs: node.inputs as readonly Tensor[],
    outputs: node.outputs as readonly Tensor[],
    attributes: node.attributes,
  };
}

/** Applies every operation of `graph` again to other arguments: its outputs as functions of `args`. */
export function replay(graph: Graph<Tensor>, args: readonly Tensor[]): Tensor[] {
  const known = new Map<Node, readonly (Tensor | undefined)[]>();
  for (const [i, p] of graph.parameters.entries()) {
    const outputs = [...(known.get(p.node) ?? [])];
    outputs[p.index] = args[i];
    known.set(p.node, outputs);
  }
  const lookup = (value: Tensor): Tensor => known.get(value.node)?.[value.index] ?? value;
  const depends = (value: Tensor): boolean => known.get(value.node)?.[value.index] !== undefined;
  const first = Math.min(...graph.parameters.map((p) => p.node.id), Number.POSITIVE_INFINITY);
  for (const node of reachable(graph.outputs, (v) => v.node.id < first || depends(v as Tensor))) {
    const { inputs, attributes } = application(node);
    if (!inputs.some(depends)) continue;
    known.set(node, bindAll(node.primitive as Op, inputs.map(lookup), attributes));
  }
  return graph.outputs.map(lookup);
}
