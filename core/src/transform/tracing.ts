/** What the transforms share: running a function on placeholders, and knowing that one is being traced. */
import { bind, type Op } from "../array/bind.js";
import { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { whileTracing } from "../graph/tracing.js";

/** Runs `f` as part of a trace. Asynchronous functions cannot be traced. */
export function trace<R>(transform: string, f: () => R): R {
  return whileTracing(() => {
    const result = f();
    if (result instanceof Promise) {
      result.catch(() => {});
      throw new ArgumentError(
        `${transform}: the function is asynchronous`,
        "traced functions compute with Tensors only; await before or after the call",
      );
    }
    return result;
  });
}

/** A value equal to its input, of its own identity: what a transform differentiates or maps with respect to. */
const aliasPrimitive: Op<Record<string, never>> = {
  name: "alias",
  fusion: "element",
  pure: false,
  shape: ([x]) => [{ shape: x!.shape, dtype: x!.dtype }],
  vjp: (_, [g]) => [g],
  batch: ([x]) => [x!],
  lower: (_lowering, _application, names) => names,
};

export function alias(x: Tensor): Tensor {
  return bind(aliasPrimitive, [x], {});
}

/** Checks that a transform's function returned a Tensor. */
export function expectTensor(transform: string, value: unknown): Tensor {
  if (value instanceof Tensor) return value;
  const what =
    value === undefined
      ? "nothing"
      : typeof value === "object"
        ? "an object"
        : `${typeof value} ${String(value)}`;
  throw new ArgumentError(`${transform}: the function returned ${what}`, "return a Tensor");
}
