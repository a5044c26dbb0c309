/** Functions with a derivative of the user's own. */
import { bindAll, type Op } from "../array/bind.js";
import { differentiable, zerosLike } from "../array/broadcast.js";
import { uniform } from "../array/elementwise.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { trace } from "./tracing.js";
import { flatten } from "./tree.js";
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
 * `f` with a derivative of your own.
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
