/** Derivatives along a direction: of a function, and of a gradient. */
import { zerosLike } from "../array/broadcast.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { pushForward } from "./pushforward.js";
import { alias, expectTensor, trace } from "./tracing.js";
import { flatten } from "./tree.js";
import { backward, grad, inMode } from "./vjp.js";

function checkTangents(transform: string, primals: readonly Tensor[], tangents: readonly Tensor[]): void {
  if (primals.length !== tangents.length) {
    throw new ArgumentError(
      `${transform}: ${tangents.length} tangent Tensors for ${primals.length}`,
      "give a tangent tree like the argument",
    );
  }
  for (const [i, x] of primals.entries()) {
    const t = tangents[i]!;
    if (t.shape.join() !== x.shape.join() || t.dtype !== x.dtype)
      throw new ShapeError(
        `${transform}: a tangent of ${t} for ${x}`,
        "tangents have the argument's shapes and dtypes",
      );
  }
}

/** The value of `f` (a Tensor or a tree), and its directional derivative along `tangents` (a tree like the arguments). */
export function jvp<A extends unknown[], R>(f: (...args: A) => R, primals: A, tangents: A): [R, R] {
  const [flat, along] = [flatten(primals), flatten(tangents)];
  checkTangents("jvp", flat.leaves, along.leaves);
  const inputs = flat.leaves.map(alias);
  const result = trace("jvp", () => f(...(flat.rebuild(inputs) as A)));
  const { leaves: outputs, rebuild } = flatten(result);
  if (outputs.length === 0) expectTensor("jvp", result);
  const pushed = trace("jvp", () => pushForward(outputs, inputs, along.leaves));
  return [result, rebuild(outputs.map((y, i) => pushed[i] ?? zerosLike(y))) as R];
}

/** The product of the Hessian of a scalar function at `at` with `direction`, both trees like its first argument. */
export function hessianVectorProduct<T, A extends unknown[]>(
  f: (x: T, ...rest: A) => Tensor,
): (at: T, direction: T, ...rest: A) => T {
  return (at, direction, ...rest) => {
    const along = flatten(direction).leaves;
    const flat = flatten(at);
    checkTangents("hessianVectorProduct", flat.leaves, along);
    const gradient = (x: T): T => grad(f as (...args: [T, ...A]) => Tensor)(x, ...rest) as T;
    const inputs = flat.leaves.map(alias);
    const gradients = flatten(
      trace("hessianVectorProduct", () => gradient(flat.rebuild(inputs) as T)),
    ).leaves;
    const found = trace("hessianVectorProduct", () =>
      inMode("reverse", () => backward(gradients, along, inputs)),
    );
    return flat.rebuild(found.map((g, i) => g ?? zerosLike(inputs[i]!))) as T;
  };
}
