/** Reverse-mode differentiation, graph to graph: the rules of each primitive's `vjp`, applied backwards. */
import { application } from "../array/bind.js";
import { differentiable, onesLike, zerosLike } from "../array/broadcast.js";
import { add } from "../array/elementwise.js";
import type { Tensor } from "../array/tensor.js";
import { isComplex, isFloat, isInteger } from "../graph/dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../graph/errors.js";
import { type Node, reachable } from "../graph/node.js";
import { withSite } from "../graph/site.js";
import { apply, applyCotangents, tracked, watchFields } from "./buffers.js";
import { alias, expectTensor, trace } from "./tracing.js";
import { flatten } from "./tree.js";

/** Whether derivatives that are built now will be computed, or only be transposed for one forwards (see pushforward.ts). */
type Mode = "reverse" | "forward";

let mode: Mode = "reverse";

/** Runs `f`, whose derivatives are built in the given mode. */
export function inMode<R>(chosen: Mode, f: () => R): R {
  const outer = mode;
  mode = chosen;
  try {
    return f();
  } finally {
    mode = outer;
  }
}

/**
 * The cotangents of `inputs` given those of `outputs`; `undefined` for a zero. `inputs` must be values that the outputs were computed
 * from (placeholders or aliases): only what was created after the first of them is looked at.
 */
export function backward(
  outputs: readonly Tensor[],
  cotangents: readonly (Tensor | undefined)[],
  inputs: readonly Tensor[],
): (Tensor | undefined)[] {
  const first = Math.min(Number.POSITIVE_INFINITY, ...inputs.map((x) => x.node.id));
  const sources = new Set(inputs.map((x) => x.node));
  const isSource = (x: Tensor): boolean => sources.has(x.node);
  const depends = new Set<Node>();
  const nodes = reachable(outputs, (v) => v.node.id < first || isSource(v as Tensor)).filter((node) => {
    const used =
      node.primitive.zeroDerivative !== true &&
      node.inputs.some((v) => depends.has(v.node) || isSource(v as Tensor));
    if (used) depends.add(node);
    return used;
  });
  const sums = new Map<Node, (Tensor | undefined)[]>();
  const accumulate = (x: Tensor, g: Tensor): void => {
    const list = sums.get(x.node) ?? [];
    const known = list[x.index];
    list[x.index] = known === undefined ? g : add(known, g);
    sums.set(x.node, list);
  };
  for (const [i, output] of outputs.entries()) {
    const g = cotangents[i];
    if (g !== undefined && (depends.has(output.node) || isSource(output))) accumulate(output, g);
  }
  for (const node of nodes.reverse()) {
    const given = sums.get(node);
    if (given === undefined) continue;
    sums.delete(node);
    const { primitive } = node;
    const rule = (mode === "forward" ? primitive.pullback : undefined) ?? primitive.vjp;
    if (rule === undefined) {
      const at = node.site?.toString();
      const forwards = primitive.pullback !== undefined;
      throw new ArgumentError(
        `${primitive.name}${at ? ` (${at})` : ""} has no ${forwards ? "reverse " : ""}derivative`,
        forwards
          ? "take its derivative forwards with jvp(), or loop with scan() or foriLoop(), whose steps are counted"
          : "stop the gradient before it with stopGradient(), or give it one with customVjp()",
      );
    }
    const app = application(node);
    withSite(node.site, () => {
      const cotangents = node.avals.map((_, i) => given[i]);
      const results = rule(app, cotangents) as readonly (Tensor | undefined)[];
      for (const [i, x] of app.inputs.entries()) {
        const g = results[i];
        if (g === undefined || !differentiable(x) || !(depends.has(x.node) || isSource(x))) continue;
        if (
          g.dtype !== x.dtype ||
          g.shape.length !== x.shape.length ||
          g.shape.some((d, k) => d !== x.shape[k])
        ) {
          throw new ShapeError(`the vjp of ${primitive.name} gave ${g} for its input ${i}, ${x}`);
        }
        accumulate(x, g);
      }
    });
  }
  return inputs.map((x) => sums.get(x.node)?.[x.index]);
}

export interface GradOptions {
  /** Position of the argument to differentiate with respect to. Default 0. */
  argument?: number;
}

type Differentiable<A extends unknown[]> = (...args: A) => Tensor;

function run<A extends unknown[], R>(
  transform: string,
  f: (...args: A) => R,
  args: A,
  argument: number,
): { result: R; inputs: Tensor[]; rebuild: (gradients: readonly Tensor[]) => unknown } {
  if (!Number.isInteger(argument) || argument < 0 || argument >= args.length) {
    throw new ArgumentError(
      `${transform}: argument ${argument} of a call with ${args.length}`,
      "count the arguments from 0",
    );
  }
  const flat = flatten(args[argument]);
  if (flat.leaves.length === 0) {
    throw new ArgumentError(
      `${transform}: argument ${argument} holds no Tensors`,
      "differentiate with respect to a Tensor or a tree of them",
    );
  }
  // Buffers and frozen parameters have no gradient; a buffer may take its new value from its cotangent.
  const isLeftOut = flat.kinds.map((kind) => kind !== "parameter" && kind !== "constant");
  for (const [i, leaf] of flat.leaves.entries()) {
    if (!differentiable(leaf) && !isLeftOut[i] && flat.kinds[i] !== "constant") {
      const path = flat.paths[i];
      throw new DTypeError(
        `${transform}: ${path ? `"${path}" of ` : ""}argument ${argument} is ${leaf}`,
        "gradients exist for floating-point tensors only: pass integers as another argument",
      );
    }
  }
  const sources = flat.leaves.map(
    (leaf, i) => differentiable(leaf) && (!isLeftOut[i] || flat.kinds[i] === "cotangent"),
  );
  const inputs = flat.leaves.map((leaf, i) => (sources[i] ? alias(leaf) : leaf));
  const copy = flat.rebuild(inputs);
  const replaced = args.with(argument, copy) as A;
  const check = watchFields(copy, transform);
  const [result, updates] = tracked([[args[argument], copy]], () => trace(transform, () => f(...replaced)));
  check();
  apply(updates);
  return {
    result,
    inputs: inputs.filter((_, i) => sources[i]),
    rebuild(found) {
      let next = 0;
      const all = flat.leaves.map((leaf, i) => (sources[i] ? found[next++]! : zerosLike(leaf)));
      applyCotangents(args[argument], flat.rebuild(all));
      return flat.rebuild(all.map((g, i) => (isLeftOut[i] ? zerosLike(flat.leaves[i]!) : g)));
    },
  };
}

function checkLoss(transform: string, value: unknown): Tensor {
  const loss = expectTensor(transform, value);
  if (loss.ndim !== 0) {
    throw new ShapeError(
      `${transform}: the function returned ${loss}`,
      "a gradient needs a scalar: reduce with .sum() or .mean()",
    );
  }
  if (!isFloat(loss.dtype)) {
    throw new DTypeError(
      `${transform}: the function returned ${loss}`,
      isComplex(loss.dtype)
        ? "a gradient needs a real loss: take real(), imag() or abs()"
        : "a gradient needs a floating-point loss",
    );
  }
  return loss;
}

function gradients(loss: Tensor, inputs: readonly Tensor[]): Tensor[] {
  return trace("grad", () => {
    const found = inMode("reverse", () => backward([loss], [onesLike(loss)], inputs));
    if (found.every((g) => g === undefined)) checkIntegers(loss, inputs);
    return found.map((g, i) => g ?? zerosLike(inputs[i]!));
  });
}

/** Throws where a loss depends on what it is differentiated by through integers, and in no other way: nothing could be learnt. */
function checkIntegers(loss: Tensor, inputs: readonly Tensor[]): void {
  const depends = new Set(inputs.map((x) => x.node));
  for (const node of reachable([loss], (x) => depends.has(x.node))) {
    const from = (node.inputs as readonly Tensor[]).find((x) => depends.has(x.node));
    if (from === undefined) continue;
    depends.add(node);
    const to = (node.outputs as readonly Tensor[]).find((y) => isInteger(y.dtype));
    if (to === undefined || !differentiable(from)) continue;
    withSite(node.site, () => {
      throw new DTypeError(
        `grad: the loss depends on its argument through integers only: ${node.primitive.name} makes ${to} of ${from}`,
        "integers have no gradient: stay in floating point, or give the step a derivative with customVjp()",
      );
    });
  }
}

/**
 * The gradient of a scalar function as a function: a tree like its first argument. Buffers of Modules and Tensors in them that have no gradient
 * get zeros.
 */
export function grad<A extends [unknown, ...unknown[]]>(
  f: Differentiable<A>,
  options?: GradOptions,
): (...args: A) => A[0] {
  return (...args) => {
    const { result, inputs, rebuild } = run("grad", f, args, options?.argument ?? 0);
    return rebuild(gradients(checkLoss("grad", result), inputs));
  };
}

/** A function's value and its gradient, from one evaluation. */
export function valueAndGrad<A extends [unknown, ...unknown[]]>(
  f: Differentiable<A>,
  options?: GradOptions,
): (...args: A) => [Tensor, A[0]] {
  return (...args) => {
    const { result, inputs, rebuild } = run("valueAndGrad", f, args, options?.argument ?? 0);
    const loss = checkLoss("valueAndGrad", result);
    return [loss, rebuild(gradients(loss, inputs))];
  };
}

/** `valueAndGrad` of a function that returns [loss, aux]; aux is any tree, and is not differentiated. */
export function valueAndGradWithAux<A extends [unknown, ...unknown[]], X>(
  f: (...args: A) => readonly [Tensor, X],
  options?: GradOptions,
): (...args: A) => [Tensor, A[0], X] {
  return (...args) => {
    const { result, inputs, rebuild } = run("valueAndGrad", f, args, options?.argument ?? 0);
    const loss = checkLoss("valueAndGrad", result[0]);
    return [loss, rebuild(gradients(loss, inputs)), result[1]];
  };
}

/** The function's value, and the function that takes a cotangent of it (a tree like it) to those of the arguments (trees). */
export function vjp<A extends unknown[], R>(f: (...args: A) => R, ...args: A): [R, (cotangent: R) => A] {
  const flat = flatten(args);
  const inputs = flat.leaves.map((leaf) => (differentiable(leaf) ? alias(leaf) : leaf));
  const result = trace("vjp", () => f(...(flat.rebuild(inputs) as A)));
  const outputs = flatten(result).leaves;
  if (outputs.length === 0) expectTensor("vjp", result);
  return [
    result,
    (cotangent) => {
      const given = flatten(cotangent).leaves;
      if (given.length !== outputs.length) {
        throw new ArgumentError(
          `vjp: ${given.length} cotangent Tensors for ${outputs.length}`,
          "give a tree like the function's result",
        );
      }
      for (const [i, y] of outputs.entries()) {
        const g = given[i]!;
        if (g.shape.join() !== y.shape.join() || g.dtype !== y.dtype) {
          throw new ShapeError(
            `vjp: a cotangent of ${g} for an output of ${y}`,
            "cotangents have the output's shape and dtype",
          );
        }
      }
      const cotangents = outputs.map((y, i) => (differentiable(y) ? given[i] : undefined));
      const wanted = inputs.filter(differentiable);
      const found = trace("vjp", () => inMode("reverse", () => backward(outputs, cotangents, wanted)));
      const gradient = new Map(wanted.map((x, i) => [x, found[i]]));
      return flat.rebuild(inputs.map((x) => gradient.get(x) ?? zerosLike(x))) as A;
    },
  ];
}
