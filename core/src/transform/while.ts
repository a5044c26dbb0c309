/** Loops that go on until a computed condition fails. */
import { bindAll, type Op, placeholder } from "../array/bind.js";
import { addBatchAxis, broadcastInDim, differentiable, zerosLike } from "../array/broadcast.js";
import { where } from "../array/elementwise.js";
import { any } from "../array/reductions.js";
import type { Tensor } from "../array/tensor.js";
import { DTypeError } from "../graph/errors.js";
import { tensorType } from "../graph/lowering.js";
import type { Graph } from "../graph/node.js";
import { refusingUpdates } from "./buffers.js";
import { closure } from "./closure.js";
import { pullback, pushForward } from "./pushforward.js";
import { checkState } from "./scan.js";
import { expectTensor } from "./tracing.js";
import { flatten } from "./tree.js";
import { applyBatched, batchGraph } from "./vmap.js";

interface WhileAttributes {
  readonly [name: string]: unknown;
  /** Parameters: `conditionConstants` values, then the state. Output: a bool scalar. */
  readonly condition: Graph<Tensor>;
  readonly conditionConstants: number;
  /** Parameters: `bodyConstants` values, then the state. Outputs: the state. */
  readonly body: Graph<Tensor>;
  readonly bodyConstants: number;
}

const whilePrimitive: Op<WhileAttributes> = {
  name: "while",
  bodies: ({ condition, body }) => [condition, body],
  pure: false,
  shape: (_, { body }) => body.outputs.map(({ shape, dtype }) => ({ shape, dtype })),
  pullback: ({ inputs, attributes }, cotangents) =>
    pullback(inputs, cotangents, (tangents, asked) => tangentWhile(inputs, attributes, tangents, asked)),
  batch(inputs, batched, { condition, conditionConstants, body, bodyConstants }, size) {
    const first = conditionConstants + bodyConstants;
    const flagsOfCondition = batched.slice(0, conditionConstants);
    const flagsOfBody = batched.slice(conditionConstants, first);
    // The state is batched throughout: once one example's condition can fail before another's, all of it differs.
    const state = body.outputs.map(() => true);
    const args = inputs.map((x, i) => (i < first || batched[i] ? x : addBatchAxis(x, size)));
    const stepped = batchGraph(body, [...flagsOfBody, ...state], size, state);
    const tested = batchGraph(condition, [...flagsOfCondition, ...state], size);
    if (!tested.batched[0]) {
      return bindAll(whilePrimitive, args, {
        condition: tested,
        conditionConstants,
        body: stepped,
        bodyConstants,
      });
    }
    // Until every example is done; those that are keep their state.
    const parameters = stepped.parameters.slice(bodyConstants);
    const own = tested.parameters.slice(0, conditionConstants);
    const going = applyBatched(condition, [...own, ...parameters], [...flagsOfCondition, ...state], size)
      .outputs[0]!;
    const kept = stepped.outputs.map((next, i) =>
      where(broadcastInDim(going, next.shape, [0]), next, parameters[i]!),
    );
    return bindAll(
      whilePrimitive,
      [...args.slice(0, first), ...args.slice(0, conditionConstants), ...args.slice(first)],
      {
        condition: { parameters: tested.parameters, outputs: [any(tested.outputs[0]!)] },
        conditionConstants,
        body: {
          parameters: [...stepped.parameters.slice(0, bodyConstants), ...own, ...parameters],
          outputs: kept,
        },
        bodyConstants: bodyConstants + conditionConstants,
      },
    );
  },
  lower(lowering, { inputs, attributes }, operands) {
    const { condition, conditionConstants, body, bodyConstants } = attributes;
    const first = conditionConstants + bodyConstants;
    const names = inputs.map(() => lowering.fresh("s"));
    const state = names.slice(first);
    const header = `stablehlo.while(${names.map((name, i) => `${name} = ${operands[i]}`).join(", ")}) : ${inputs.map(tensorType).join(", ")}`;
    const results = lowering.withRegions(
      header,
      [
        {
          head: "cond {",
          write: () => [
            lowering.inline(condition, [...names.slice(0, conditionConstants), ...state]),
            condition.outputs,
          ],
        },
        {
          head: " do {",
          write: () => [
            [
              ...names.slice(0, first),
              ...lowering.inline(body, [...names.slice(conditionConstants, first), ...state]),
            ],
            inputs,
          ],
        },
      ],
      "",
      inputs.length,
    );
    return results.slice(first);
  },
};

/** The tangents of a loop's outputs: the same loop, with the tangents of the state beside it. */
function tangentWhile(
  inputs: readonly Tensor[],
  { condition, conditionConstants, body, bodyConstants }: WhileAttributes,
  tangents: readonly (Tensor | undefined)[],
  asked: readonly number[],
): (Tensor | undefined)[] {
  const first = conditionConstants + bodyConstants;
  const given = tangents.slice(conditionConstants);
  const steps = body.parameters.map((p, i) =>
    (i >= bodyConstants ? differentiable(p) : given[i] !== undefined) ? placeholder(p) : undefined,
  );
  const pushed = pushForward(body.outputs, body.parameters, steps);
  const moving = steps.flatMap((t, i) => (t === undefined ? [] : [i]));
  const constantsAt = moving.filter((i) => i < bodyConstants);
  const stateAt = moving.filter((i) => i >= bodyConstants);
  const found = bindAll(
    whilePrimitive,
    [
      ...inputs.slice(0, first),
      ...constantsAt.map((i) => given[i]!),
      ...inputs.slice(first),
      ...stateAt.map((i) => given[i] ?? zerosLike(body.parameters[i]!)),
    ],
    {
      condition: {
        parameters: [...condition.parameters, ...stateAt.map((i) => placeholder(body.parameters[i]!))],
        outputs: condition.outputs,
      },
      conditionConstants,
      body: {
        parameters: [
          ...body.parameters.slice(0, bodyConstants),
          ...constantsAt.map((i) => steps[i]!),
          ...body.parameters.slice(bodyConstants),
          ...stateAt.map((i) => steps[i]!),
        ],
        outputs: [
          ...body.outputs,
          ...stateAt.map((i) => pushed[i - bodyConstants] ?? zerosLike(body.parameters[i]!)),
        ],
      },
      bodyConstants: bodyConstants + constantsAt.length,
    },
  );
  return asked.map((i) => {
    const at = stateAt.indexOf(i + bodyConstants);
    return at < 0 ? undefined : found[body.outputs.length + at];
  });
}

/**
 * `while (condition(state)) state = body(state)` on the device. It has a derivative forwards (`jvp`), and none in
 * reverse: for gradients use `scan` or `foriLoop`, whose number of steps is known.
 */
export function whileLoop<C>(condition: (state: C) => Tensor, body: (state: C) => C, initial: C): C {
  return refusingUpdates("whileLoop runs an unknown number of times", () => loop(condition, body, initial));
}

function loop<C>(condition: (state: C) => Tensor, body: (state: C) => C, initial: C): C {
  const state = flatten(initial, { sorted: true });
  const test = closure(
    "whileLoop",
    (...leaves) => {
      const going = expectTensor("whileLoop: the condition", condition(state.rebuild(leaves) as C));
      if (going.dtype !== "bool" || going.ndim !== 0) {
        throw new DTypeError(
          `whileLoop: the condition returned ${going}`,
          "return a bool scalar: compare, and reduce with .all() or .any()",
        );
      }
      return going;
    },
    state.leaves,
  );
  const step = closure("whileLoop", (...leaves) => body(state.rebuild(leaves) as C), state.leaves);
  checkState("whileLoop", state, step.result);
  const results = bindAll(whilePrimitive, [...test.captured, ...step.captured, ...state.leaves], {
    condition: { parameters: test.parameters, outputs: test.outputs },
    conditionConstants: test.captured.length,
    body: { parameters: step.parameters, outputs: step.outputs },
    bodyConstants: step.captured.length,
  });
  return state.rebuild(results) as C;
}
