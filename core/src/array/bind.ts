/** Applying primitives: every operation of the language goes through here. */
import { parameter } from "../graph/leaves.js";
import { type Attributes, type Aval, Node, type Primitive } from "../graph/node.js";
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
