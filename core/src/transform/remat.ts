/**
 * Rematerialisation: a function whose intermediate values are not kept for its derivative but computed again there (Chen et al. 2016,
 * "Training deep nets with sublinear memory cost").
 */
import { application, bind, bindAll, type Op, placeholder } from "../array/bind.js";
import { uniform } from "../array/elementwise.js";
import { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { tensorType } from "../graph/lowering.js";
import { type Graph, type Node, reachable } from "../graph/node.js";
import { withSite } from "../graph/site.js";
import { apply, tracked, type Update } from "./buffers.js";
import { closure } from "./closure.js";
import { pullback, pushForward } from "./pushforward.js";
import { flatten } from "./tree.js";
import { backward } from "./vjp.js";
import { batchGraph } from "./vmap.js";

/**
 * What `remat` keeps for the derivative: "nothing"; "everything"; "dots", the results of matrix products; "dotsWithoutBatch",
 * those of products without batch axes (of weights, not of attention); or the values that `checkpointName` gave one of `names`.
 */
export type RematPolicy =
  | "nothing"
  | "everything"
  | "dots"
  | "dotsWithoutBatch"
  | { readonly names: readonly string[] };

const barrierPrimitive: Op<Record<string, never>> = {
  name: "optimization_barrier",
  pure: false,
  shape: (inputs) => inputs.map(({ shape, dtype }) => ({ shape, dtype })),
  vjp: (_, cotangents) => cotangents,
  batch: (inputs, batched, _, size) => bindAll(barrierPrimitive, uniform(inputs, batched, size), {}),
  lower: (lowering, { inputs }, names) =>
    lowering.emit(
      `stablehlo.optimization_barrier ${names.join(", ")} : ${inputs.map(tensorType).join(", ")}`,
      inputs.length,
    ),
};

/**
 * The values, none of which is used before all are there, and nothing of which is computed together with what the same operations computed of them
 * before: what is made of them behind the barrier is made again.
 */
export function barrier(values: readonly Tensor[]): Tensor[] {
  return values.length === 0 ? [] : [...bindAll(barrierPrimitive, [...values], {})];
}

const namePrimitive: Op<{ name: string }> = {
  name: "checkpoint_name",
  fusion: "element",
  pure: false,
  shape: ([x]) => [{ shape: x!.shape, dtype: x!.dtype }],
  vjp: (_, [g]) => [g],
  batch: ([x], _, { name }) => [checkpointName(x!, name)],
  lower: (_lowering, _application, names) => names,
};

/** `x`, known to the policies of `remat` by `name`. */
export function checkpointName(x: Tensor, name: string): Tensor {
  return bind(namePrimitive, [x], { name });
}

/** The value that was kept in place of the one computed again, which is there for its derivative only. */
const keptPrimitive: Op<Record<string, never>> = {
  name: "kept",
  fusion: "element",
  pure: false,
  shape: ([x]) => [{ shape: x!.shape, dtype: x!.dtype }],
  vjp: (_, [g]) => [g, undefined],
  operands: ({ inputs: [, stored] }) => [stored!],
  batch: (inputs, batched, _, size) => bindAll(keptPrimitive, uniform(inputs, batched, size), {}),
  lower: (_lowering, _application, names) => names,
};

interface RematAttributes {
  readonly [name: string]: unknown;
  /** Outputs: those of the function, then the values kept for the derivative. */
  readonly graph: Graph<Tensor>;
  /** Number of the function's outputs. */
  readonly results: number;
  readonly policy: Exclude<RematPolicy, "everything">;
}

const rematPrimitive: Op<RematAttributes> = {
  name: "remat",
  bodies: ({ graph }) => [graph],
  pure: false,
  shape: (_, { graph }) => graph.outputs.map(({ shape, dtype }) => ({ shape, dtype })),
  vjp({ inputs, outputs, attributes }, cotangents) {
    const { graph, results } = attributes;
    const { node } = outputs[0]!;
    const kept = keptValues(attributes);
    const stored = kept.map((value) => keep(node, value));
    const given = cotangents.slice(0, results);
    const present = given.filter((g) => g !== undefined);
    // Behind the barrier nothing of the recomputation is merged with the first computation, or starts before the cotangents are there.
    const held = bindAll(barrierPrimitive, [...inputs, ...stored, ...present], {});
    const args = held.slice(0, inputs.length);
    const behind = held.slice(inputs.length + stored.length);
    const replacements = new Map(kept.map((value, i) => [value, held[inputs.length + i]!]));
    const again = recompute(
      { parameters: graph.parameters, outputs: graph.outputs.slice(0, results) },
      args,
      replacements,
    );
    let next = 0;
    return backward(
      again,
      given.map((g) => g && behind[next++]),
      args,
    );
  },
  /** Rematerialised too: for the gradient of a derivative forwards. */
  pullback({ inputs, attributes: { graph, policy } }, cotangents) {
    return pullback(inputs, cotangents, (tangents, asked) => {
      const moving = tangents.flatMap((t, i) => (t === undefined ? [] : [i]));
      const steps = graph.parameters.map((p, i) => (moving.includes(i) ? placeholder(p) : undefined));
      const pushed = pushForward(graph.outputs, graph.parameters, steps);
      const outputs = asked.flatMap((i) => pushed[i] ?? []);
      const found = bindAll(rematPrimitive, [...inputs, ...moving.map((i) => tangents[i]!)], {
        graph: { parameters: [...graph.parameters, ...moving.map((i) => steps[i]!)], outputs },
        results: outputs.length,
        policy,
      });
      let next = 0;
      return asked.map((i) => pushed[i] && found[next++]);
    });
  },
  batch(inputs, batched, { graph, results, policy }, size) {
    // What is kept for a derivative is among the outputs: it is read from there.
    const all = graph.outputs.map(() => true);
    const many = batchGraph(graph, batched, size, all);
    return bindAll(rematPrimitive, inputs, { graph: many, results, policy });
  },
  lower: (lowering, { attributes: { graph } }, operands) => lowering.inline(graph, operands),
};

/** The values inside a rematerialised function that its policy keeps. */
function keptValues({ graph, results, policy }: RematAttributes): Tensor[] {
  if (policy === "nothing") return [];
  const keeps = ({ primitive: { name }, attributes }: Node): boolean => {
    if (typeof policy === "object")
      return name === "checkpoint_name" && policy.names.includes(attributes.name as string);
    if (name === "convolution") return true;
    if (name !== "dot_general") return false;
    return policy === "dots" || (attributes.batch as readonly (readonly number[])[])[0]!.length === 0;
  };
  const parameters = new Set<Node>(graph.parameters.map((p) => p.node));
  return (
    reachable(graph.outputs.slice(0, results), (v) => parameters.has(v.node))
      .filter(keeps)
      // A name is given to a value: that is what is kept, for the derivative of what made it too.
      .map((node) => (node.primitive.name === "checkpoint_name" ? node.inputs[0] : node.outputs[0]) as Tensor)
  );
}

/** The output of its node that holds `value` of its inside; added to the node if it is new. */
function keep(node: Node, value: Tensor): Tensor {
  const attributes = node.attributes as RematAttributes;
  const known = attributes.graph.outputs.indexOf(value);
  if (known < 0) {
    const graph = { parameters: attributes.graph.parameters, outputs: [...attributes.graph.outputs, value] };
    node.extend(
      { ...attributes, graph },
      [{ shape: value.shape, dtype: value.dtype }],
      (n, i) => new Tensor(n, i),
    );
  }
  return node.outputs[known < 0 ? node.outputs.length - 1 : known] as Tensor;
}

/** Applies the operations of `graph` again to `args`, with the values of `replacements` taken from there. */
function recompute(
  graph: Graph<Tensor>,
  args: readonly Tensor[],
  replacements: ReadonlyMap<Tensor, Tensor>,
): Tensor[] {
  const known = new Map<Node, (Tensor | undefined)[]>();
  for (const [i, p] of graph.parameters.entries()) {
    const values = known.get(p.node) ?? [];
    values[p.index] = args[i];
    known.set(p.node, values);
  }
  const lookup = (x: Tensor): Tensor => known.get(x.node)?.[x.index] ?? x;
  for (const node of reachable(graph.outputs, (v) => known.get(v.node)?.[v.index] !== undefined)) {
    const { inputs, attributes } = application(node);
    const values = inputs.map(lookup);
    if (values.every((x, i) => x === inputs[i])) continue;
    const outputs = withSite(node.site, () => bindAll(node.primitive as Op, values, attributes));
    const held = outputs.map((x, i) => {
      const stored = replacements.get(node.outputs[i] as Tensor);
      return stored === undefined ? x : bind(keptPrimitive, [x, stored], {});
    });
    // The node's own derivative reads the kept value too.
    if (outputs[0] !== undefined) outputs[0].node.outputs = held;
    known.set(node, held);
  }
  return graph.outputs.map(lookup);
}

const policies: readonly string[] = ["nothing", "everything", "dots", "dotsWithoutBatch"];

export interface RematOptions {
  /** What is kept beside the arguments. Default "nothing". */
  policy?: RematPolicy;
}

/** `f`, whose derivative computes the inside of `f` again instead of keeping it in memory. */
export function remat<A extends unknown[], R>(
  f: (...args: A) => R,
  { policy = "nothing" }: RematOptions = {},
): (...args: A) => R {
  if (typeof policy === "string" && !policies.includes(policy)) {
    throw new ArgumentError(
      `remat: there is no policy "${policy}"`,
      `use ${policies.join(", ")} or { names }`,
    );
  }
  if (policy === "everything") return f;
  return (...args) => {
    const flat = flatten(args);
    let updates: Update[] = [];
    const graph = closure(
      "remat",
      (...leaves) => {
        const given = flat.rebuild(leaves) as A;
        const [result, found] = tracked([[args, given]], () => f(...given));
        updates = found;
        return { result, updates: found.map(({ value }) => value) };
      },
      flat.leaves,
      { keepInside: true },
    );
    const outputs = bindAll(rematPrimitive, [...graph.captured, ...flat.leaves], {
      graph: { parameters: graph.parameters, outputs: graph.outputs },
      results: graph.outputs.length,
      policy,
    });
    const back = graph.result.rebuild(outputs) as { result: R; updates: Tensor[] };
    apply(updates, back.updates);
    return back.result;
  };
}
