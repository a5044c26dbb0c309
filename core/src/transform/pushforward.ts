/**
 * Forward derivatives, by transposing the reverse mode twice: `u -> vjp(f, x)(u)` is linear, and its own vjp is the derivative forwards.
 *
 * What holds graphs (loops, rematerialised functions) is not taken apart backwards for it: it becomes a pullback, which stands for the
 * cotangents of its inputs as a linear function of those of its outputs. The transpose of that runs values and tangents side by side.
 */
import { bindAll, type Op } from "../array/bind.js";
import { differentiable, zerosLike } from "../array/broadcast.js";
import { literal } from "../array/creation.js";
import type { Tensor } from "../array/tensor.js";
import { functionType } from "../graph/lowering.js";
import type { Aval } from "../graph/node.js";
import { alias } from "./tracing.js";
import { backward, inMode } from "./vjp.js";

/** The tangents of the outputs that are asked for (by position), from those of the inputs; `undefined` for zero. */
type Push = (
  tangents: readonly (Tensor | undefined)[],
  asked: readonly number[],
) => readonly (Tensor | undefined)[];

interface PullbackAttributes {
  readonly [name: string]: unknown;
  readonly results: readonly Aval[];
  readonly transpose: (tangents: readonly (Tensor | undefined)[]) => readonly (Tensor | undefined)[];
}

/** Its value is asked for at cotangents of zero only, where it is zero. */
const pullbackPrimitive: Op<PullbackAttributes> = {
  name: "pullback",
  pure: false,
  shape: (_, { results }) => results,
  vjp: ({ attributes: { transpose } }, tangents) => transpose(tangents),
  batch: (_, __, { results }, size) =>
    results.map(({ shape, dtype }) => zerosLike({ shape: [size, ...shape], dtype })),
  operands: () => [],
  lower: (lowering, { outputs }) =>
    outputs.map((y) => {
      const type = functionType([{ shape: [], dtype: y.dtype }], [y]);
      const zero = lowering.constant(literal(0, y.dtype), y.dtype);
      return lowering.emit(`stablehlo.broadcast_in_dim ${zero}, dims = [] : ${type}`)[0]!;
    }),
};

/** The `pullback` rule of a primitive whose tangents `push` computes. */
export function pullback(
  inputs: readonly Tensor[],
  cotangents: readonly (Tensor | undefined)[],
  push: Push,
): (Tensor | undefined)[] {
  const asked = cotangents.flatMap((g, i) => (g === undefined ? [] : [i]));
  const moving = inputs.flatMap((x, i) => (differentiable(x) ? [i] : []));
  const found = bindAll(
    pullbackPrimitive,
    asked.map((i) => cotangents[i]!),
    {
      results: moving.map((i) => ({ shape: inputs[i]!.shape, dtype: inputs[i]!.dtype })),
      transpose: (tangents) =>
        push(
          inputs.map((_, i) => (moving.includes(i) ? tangents[moving.indexOf(i)] : undefined)),
          asked,
        ),
    },
  );
  return inputs.map((_, i) => (moving.includes(i) ? found[moving.indexOf(i)] : undefined));
}

/** The tangents of `outputs`, from those of `inputs` that they were computed from; `undefined` for zero. */
export function pushForward(
  outputs: readonly Tensor[],
  inputs: readonly Tensor[],
  tangents: readonly (Tensor | undefined)[],
): (Tensor | undefined)[] {
  const given = outputs.map((y) => (differentiable(y) ? alias(zerosLike(y)) : undefined));
  const pulled = inMode("forward", () => backward(outputs, given, inputs));
  const moving = inputs.flatMap((_, i) => (pulled[i] === undefined || tangents[i] === undefined ? [] : [i]));
  const sources = given.filter((u) => u !== undefined);
  const pushed = inMode("reverse", () =>
    backward(
      moving.map((i) => pulled[i]!),
      moving.map((i) => tangents[i]),
      sources,
    ),
  );
  return given.map((u) => (u === undefined ? undefined : pushed[sources.indexOf(u)]));
}
