/** Branches chosen by computed values: only the chosen one runs. */
import { bindAll, type Op, placeholder } from "../array/bind.js";
import { broadcastInDim, differentiable, zerosLike } from "../array/broadcast.js";
import { scalar } from "../array/creation.js";
import { cast, clip, equal, where } from "../array/elementwise.js";
import { INTEGERS } from "../array/given.js";
import { wide } from "../array/indexing.js";
import type { Tensor } from "../array/tensor.js";
import { isInteger } from "../graph/dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../graph/errors.js";
import { functionType } from "../graph/lowering.js";
import type { Graph } from "../graph/node.js";
import { apply, tracked, type Update } from "./buffers.js";
import { closure } from "./closure.js";
import { backward } from "./vjp.js";
import { applyBatched, batchGraph } from "./vmap.js";

interface SwitchAttributes {
  readonly [name: string]: unknown;
  /** Graphs with the same parameters (all values that any branch refers to) and outputs of the same types. */
  readonly branches: readonly Graph<Tensor>[];
}

const switchPrimitive: Op<SwitchAttributes> = {
  name: "switch",
  bodies: ({ branches }) => branches,
  pure: false,
  shape: (_, { branches }) => branches[0]!.outputs.map(({ shape, dtype }) => ({ shape, dtype })),
  /** The branch's inside is computed again in the derivative: a value that only one branch has cannot leave it. */
  vjp({ inputs: [index, ...operands], outputs, attributes: { branches } }, cotangents) {
    const given = outputs.flatMap((_, i) => (cotangents[i] === undefined ? [] : [i]));
    const wanted = operands.flatMap((x, i) => (differentiable(x) ? [i] : []));
    const incoming = given.map((i) => placeholder(outputs[i]!));
    const backwards = branches.map(({ parameters, outputs: results }): Graph<Tensor> => {
      const found = backward(
        results,
        results.map((_, i) => (given.includes(i) ? incoming[given.indexOf(i)] : undefined)),
        parameters,
      );
      return {
        parameters: [...parameters, ...incoming],
        outputs: wanted.map((i) => found[i] ?? zerosLike(parameters[i]!)),
      };
    });
    const results = bindAll(switchPrimitive, [index!, ...operands, ...given.map((i) => cotangents[i]!)], {
      branches: backwards,
    });
    return [
      undefined,
      ...operands.map((_, i) => (wanted.includes(i) ? results[wanted.indexOf(i)] : undefined)),
    ];
  },
  batch([index, ...operands], [indexBatched, ...batched], { branches }, size) {
    if (!indexBatched) {
      const all = branches[0]!.outputs.map(() => true);
      return bindAll(switchPrimitive, [index!, ...operands], {
        branches: branches.map((branch) => batchGraph(branch, batched, size, all)),
      });
    }
    // Examples that take different branches: all run, and each example picks its own.
    const results = branches.map((branch) => {
      const { outputs, batched: flags } = applyBatched(branch, operands, batched, size);
      return outputs.map((y, i) =>
        flags[i]
          ? y
          : broadcastInDim(
              y,
              [size, ...y.shape],
              y.shape.map((_, d) => d + 1),
            ),
      );
    });
    return results[0]!.map((first, i) =>
      results.slice(1).reduce((chosen, branch, k) => {
        const takes = equal(index!, k + 1);
        return where(broadcastInDim(takes, first.shape, [0]), branch[i]!, chosen);
      }, first),
    );
  },
  lower: (lowering, { outputs, attributes: { branches } }, [index, ...operands]) =>
    lowering.withRegions(
      `"stablehlo.case"(${index}) ({`,
      branches.map((branch, i) => ({
        head: i === 0 ? "" : ", {",
        write: () => [lowering.inline(branch, operands), branch.outputs],
      })),
      `) : ${functionType([{ shape: [], dtype: "int32" }], outputs)}`,
      outputs.length,
      "one",
    ),
};

/** Runs the branch that the integer scalar `index` names (the first if it is below 0, the last if too large) on `operands`. */
export function switchCase<A extends unknown[], R>(
  index: Tensor | number,
  branches: readonly ((...operands: A) => R)[],
  ...operands: A
): R {
  if (typeof index === "number") return switchCase(scalar(index, "int32"), branches, ...operands);
  return choose("switchCase", index, branches, operands);
}

/** `onTrue(...operands)` if the bool scalar `condition` holds, else `onFalse(...operands)`. */
export function cond<A extends unknown[], R>(
  condition: Tensor | boolean,
  onTrue: (...operands: A) => R,
  onFalse: (...operands: A) => R,
  ...operands: A
): R {
  if (typeof condition === "boolean") return condition ? onTrue(...operands) : onFalse(...operands);
  if (condition.dtype !== "bool" || condition.ndim !== 0) {
    throw new DTypeError(
      `cond: the condition is ${condition}`,
      "give a bool scalar: compare, and reduce with .all() or .any()",
    );
  }
  return choose("cond", cast(condition, "int32"), [onFalse, onTrue], operands);
}

function choose<A extends unknown[], R>(
  transform: string,
  index: Tensor,
  functions: readonly ((...operands: A) => R)[],
  operands: A,
): R {
  if (functions.length === 0) throw new ArgumentError(`${transform} of no branches`);

  if (!isInteger(index.dtype) || index.ndim !== 0)
    throw new DTypeError(`${transform}: the index is ${index}`, `give an integer scalar: ${INTEGERS}`);
  const slots: Update[] = [];
  const traced = functions.map((f) =>
    closure(
      transform,
      () => {
        const [result, updates] = tracked([], () => f(...operands));
        slots.push(...updates);
        return result;
      },
      [],
      { keepInside: true },
    ),
  );
  if (slots.length > 0) {
    // A branch that leaves a buffer as it is gives back the value that it has.
    const carrying = functions.map((f) => (...given: A) => {
      const [result, updates] = tracked([], () => f(...given));
      const values = slots.map(
        ({ holder, name }) =>
          updates.find((u) => u.holder === holder && u.name === name)?.value ?? holder[name]!,
      );
      return { result, values };
    });
    const { result, values } = choose(transform, index, carrying, operands);
    apply(slots, values);
    return result;
  }
  const [first] = traced as [(typeof traced)[0]];
  for (const [i, other] of traced.entries()) {
    const [a, b] = [first.result, other.result];
    if (a.key !== b.key) {
      throw new ArgumentError(
        `${transform}: branch ${i} returns another structure than branch 0`,
        "all branches must return trees of one structure",
      );
    }
    for (const [k, x] of a.leaves.entries()) {
      const y = b.leaves[k]!;
      if (x.dtype !== y.dtype || x.shape.join() !== y.shape.join()) {
        const path = a.paths[k];
        throw new ShapeError(
          `${transform}: ${path ? `"${path}" is` : "the result is"} ${x} in branch 0 and ${y} in branch ${i}`,
          "all branches must return the same shapes and dtypes",
        );
      }
    }
  }
  if (first.outputs.length === 0) return first.result.rebuild([]) as R;
  const captured = [...new Set(traced.flatMap((t) => t.captured))];
  const branches = traced.map((t) => ({ parameters: captured, outputs: t.outputs }));
  const at = cast(clip(wide(index), 0, branches.length - 1), "int32");
  return first.result.rebuild(bindAll(switchPrimitive, [at, ...captured], { branches })) as R;
}
