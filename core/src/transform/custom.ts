/** Functions with a derivative of the user's own. */
import { bindAll, type Op } from "../array/bind.js";
import { differentiable, onesLike, zerosLike } from "../array/broadcast.js";
import { uniform } from "../array/elementwise.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { type Node, reachable, type Value } from "../graph/node.js";
import { withSite } from "../graph/site.js";
import { alias, trace } from "./tracing.js";
import { flatten } from "./tree.js";
import { backward, inMode } from "./vjp.js";
import { vmap } from "./vmap.js";

/** The cotangents of the arguments' leaves, from those of the results and the residuals. */
type Backward = (
  residuals: readonly Tensor[],
  cotangents: readonly Tensor[],
) => readonly (Tensor | undefined)[];

interface CustomAttributes {
  readonly [name: string]: unknown;
  /** Inputs are this many arguments, as many values as there are results, then residuals. */
  readonly args: number;
  readonly results: number;
  readonly backward: Backward;
}

const customPrimitive: Op<CustomAttributes> = {
  name: "custom_vjp",
  pure: false,
  shape: (inputs, { args, results }) =>
    inputs.slice(args, args + results).map(({ shape, dtype }) => ({ shape, dtype })),
  operands: ({ inputs, attributes: { args, results } }) => inputs.slice(args, args + results),
  vjp({ inputs, outputs, attributes: { args, results, backward } }, cotangents) {
    const found = backward(
      inputs.slice(args + results),
      outputs.map((y, i) => cotangents[i] ?? zerosLike(y)),
    );
    return inputs.map((_, i) => (i < args ? found[i] : undefined));
  },
  pullback({ inputs, outputs, attributes: { args, results, backward } }, cotangents) {
    const given = outputs.map((y, i) => alias(cotangents[i] ?? zerosLike(y)));
    const found = backward(inputs.slice(args + results), given);
    checkLinear(found, given);
    return inputs.map((_, i) => (i < args ? found[i] : undefined));
  },
  batch(inputs, batched, { args, results, backward }, size) {
    const given = uniform(inputs, batched, size);
    const many: Backward = (residuals, cotangents) => {
      // Absent cotangents stay absent: which they are does not depend on the values.
      let absent: boolean[] = [];
      const found = vmap((r: readonly Tensor[], g: readonly Tensor[]) => {
        const list = backward(r, g);
        absent = list.map((x) => x === undefined);
        return list.filter((x) => x !== undefined);
      })(residuals, cotangents);
      let next = 0;
      return absent.map((none) => (none ? undefined : found[next++]));
    };
    return bindAll(customPrimitive, given, { args, results, backward: many });
  },
  lower: (_lowering, _application, names) => names,
};

/**
 * Refuses cotangents that are no linear function of `given`: derivatives forwards are those of `backward`, transposed, which then depend on
 * where it is asked.
 */
function checkLinear(found: readonly (Tensor | undefined)[], given: readonly Tensor[]): void {
  const sources = new Set<Node>(given.map((u) => u.node));
  const first = Math.min(...given.map((u) => u.node.id));
  const values = found.filter((g) => g !== undefined);
  const depends = new Set<Node>();
  const refuse = (node: Node): never =>
    withSite(node.site, () => {
      throw new ArgumentError(
        `jvp of a function with customVjp() whose backward is not linear in the cotangent: ${node.primitive.name}${node.site ? ` (${node.site})` : ""}`,
        "derivatives forwards are those of backward, transposed: take grad() or vjp() of it, or make backward linear",
      );
    });
  const before = (v: Value): boolean => v.node.id < first || sources.has(v.node);
  for (const node of reachable(values, before)) {
    const of = node.inputs.filter((v) => sources.has(v.node) || depends.has(v.node));
    if (of.length === 0) continue;
    depends.add(node);
    if (node.primitive.zeroDerivative || (node.outputs as readonly Tensor[]).some((y) => !differentiable(y)))
      refuse(node);
    // What is added must be linear too.
    const terms = summed[node.primitive.name]?.(node.inputs) ?? [];
    if (terms.some((v) => !of.includes(v) && !isZero(v as Tensor))) refuse(node);
  }
  const slopes = inMode("reverse", () => backward(values, values.map(onesLike), given));
  const reached = reachable(
    slopes.filter((s) => s !== undefined),
    // Whether the derivative of a loop depends on what it is given is not seen from outside.
    (v) => v.node.id < first || v.node.primitive.bodies !== undefined,
  );
  const nonlinear = reached.find((node) => sources.has(node) || depends.has(node));
  if (nonlinear !== undefined) refuse(values.find((v) => depends.has(v.node))?.node ?? nonlinear);
}

/** Of primitives that add, or put side by side: what they add. */
const summed: Record<string, (inputs: readonly Value[]) => readonly Value[]> = {
  add: (inputs) => inputs,
  sub: (inputs) => inputs,
  concatenate: (inputs) => inputs,
  select: ([, x, y]) => [x!, y!],
};

function isZero(x: Tensor): boolean {
  const { primitive, attributes, inputs } = x.node;
  if (primitive.name === "constant") return Number(attributes.value) === 0;
  return primitive.name === "broadcast_in_dim" && isZero(inputs[0] as Tensor);
}

/**
 * `f` with a derivative of your own. It has one forwards (`jvp`) if `backward` is linear in the cotangent, as true derivatives are.
 *
 * @param forward - returns [what `f` returns, residuals], a tree of whatever `backward` needs
 * @param backward - takes the residuals and the cotangent of the result (a tree like it), and returns the cotangents of the arguments:
 *   a list with one tree for each, like the argument, or null for zero
 */
export function customVjp<A extends unknown[], R, S>(
  f: (...args: A) => R,
  forward: (...args: A) => readonly [R, S],
  backward: (residuals: S, cotangent: R) => { readonly [K in keyof A]: A[K] | null },
): (...args: A) => R {
  const name = f.name || "customVjp";
  return (...args) => {
    const flat = flatten(args);
    const [result, residuals] = trace("customVjp", () => forward(...args));
    const [out, kept] = [flatten(result), flatten(residuals)];
    const pull: Backward = (values, cotangents) => {
      const list = backward(kept.rebuild(values) as S, out.rebuild(cotangents) as R) as readonly unknown[];
      if (!Array.isArray(list) || list.length !== args.length) {
        throw new ArgumentError(
          `${name}: backward returned ${Array.isArray(list) ? `${list.length} cotangents` : typeof list} for ${args.length} arguments`,
          "return a list with the cotangent of each argument, or null",
        );
      }
      return list.flatMap((cotangent, i) => {
        const { leaves, paths } = flatten(args[i]);
        if (cotangent === null) return leaves.map(() => undefined);
        const given = flatten(cotangent).leaves;
        if (given.length !== leaves.length) {
          throw new ArgumentError(
            `${name}: backward returned ${given.length} Tensors for argument ${i}, which has ${leaves.length}`,
            "return a tree like the argument",
          );
        }
        return leaves.map((x, k) => {
          const g = given[k]!;
          // Under vmap the arguments' own shapes are not those of one example: the residuals' rank tells.
          if (differentiable(x) && g.dtype !== x.dtype) {
            const path = paths[k];
            throw new ShapeError(
              `${name}: backward returned ${g} for ${path ? `"${path}" of ` : ""}argument ${i}, ${x}`,
            );
          }
          return differentiable(x) ? g : undefined;
        });
      });
    };
    const outputs = bindAll(customPrimitive, [...flat.leaves, ...out.leaves, ...kept.leaves], {
      args: flat.leaves.length,
      results: out.leaves.length,
      backward: pull,
    });
    return out.rebuild(outputs) as R;
  };
}
