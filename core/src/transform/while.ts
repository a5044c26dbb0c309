/** Loops that go on until a computed condition fails. */
import { bindAll, type Op } from "../array/bind.js";
import { addBatchAxis, broadcastInDim } from "../array/broadcast.js";
import { where } from "../array/elementwise.js";
import { any } from "../array/reductions.js";
import type { Tensor } from "../array/tensor.js";
import { DTypeError } from "../graph/errors.js";
import { tensorType } from "../graph/lowering.js";
import type { Graph } from "../graph/node.js";
import { closure } from "./closure.js";
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

/**
 * `while (condition(state)) state = body(state)` on the device. It runs forwards only: for derivatives use `scan` or `foriLoop`, whose
 * number of steps is known.
 */
export function whileLoop<C>(condition: (state: C) => Tensor, body: (state: C) => C, initial: C): C {
  const state = flatten(initial);
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
