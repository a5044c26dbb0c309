/**
 * Forward-mode derivatives, by transposing the reverse mode twice: `u -> vjp(f, x)(u)` is linear, and its own vjp is the jvp of `f`.
 * The inner one is never computed, only differentiated; compiled, a jvp costs about what a forward-mode one does.
 */
import { zerosLike } from "../array/broadcast.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { alias, expectTensor, trace } from "./tracing.js";
import { flatten } from "./tree.js";
import { backward, grad } from "./vjp.js";

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

/** The value of `f`, and its directional derivative along `tangents` (a tree like the arguments). */
export function jvp<A extends unknown[]>(
  f: (...args: A) => Tensor,
  primals: A,
  tangents: A,
): [Tensor, Tensor] {
  const [flat, along] = [flatten(primals), flatten(tangents)];
  checkTangents("jvp", flat.leaves, along.leaves);
  const inputs = flat.leaves.map(alias);
  const output = expectTensor(
    "jvp",
    trace("jvp", () => f(...(flat.rebuild(inputs) as A))),
  );
  const u = alias(zerosLike(output));
  return trace("jvp", () => {
    const pulled = backward([output], [u], inputs);
    const [pushed] = backward(
      pulled.filter((g) => g !== undefined),
      along.leaves.filter((_, i) => pulled[i] !== undefined),
      [u],
    );
    return [output, pushed ?? zerosLike(output)];
  });
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
    const found = trace("hessianVectorProduct", () => backward(gradients, along, inputs));
    return flat.rebuild(found.map((g, i) => g ?? zerosLike(inputs[i]!))) as T;
  };
}
