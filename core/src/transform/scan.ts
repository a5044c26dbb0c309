/**
 * Loops with a state and a fixed number of steps. The derivative of a scan is a second loop, backwards, over what the first one
 * recorded: time and memory grow with the number of steps, not with its square.
 */
import { bindAll, type Op, placeholder } from "../array/bind.js";
import { addBatchAxis, differentiable, zerosLike } from "../array/broadcast.js";
import { iota, literal } from "../array/creation.js";
import { add } from "../array/elementwise.js";
import { moveAxis } from "../array/shaping.js";
import { Tensor } from "../array/tensor.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { functionType, type Lowering, tensorType } from "../graph/lowering.js";
import { type Aval, type Graph, type Node, reachable } from "../graph/node.js";
import { apply, sameNodes, tracked, type Update } from "./buffers.js";
import { closure, isConstant } from "./closure.js";
import { pullback, pushForward } from "./pushforward.js";
import { flatten, leaves } from "./tree.js";
import { backward } from "./vjp.js";
import { batchGraph } from "./vmap.js";

interface ScanAttributes {
  readonly [name: string]: unknown;
  /** Parameters: `constants` values, `carries` of the state, then one slice of each sequence. Outputs: the state, then slices. */
  readonly body: Graph<Tensor>;
  readonly constants: number;
  readonly carries: number;
  readonly length: number;
  readonly reverse: boolean;
}

const stacked = ({ shape, dtype }: Aval, length: number): Aval => ({ shape: [length, ...shape], dtype });

const scanPrimitive: Op<ScanAttributes> = {
  name: "scan",
  bodies: ({ body }) => [body],
  pure: false,
  shape: (_, { body, carries, length }) =>
    body.outputs.map(({ shape, dtype }, i) =>
      i < carries ? { shape, dtype } : stacked({ shape, dtype }, length),
    ),
  vjp({ inputs, outputs, attributes }, cotangents) {
    const { body, constants, carries, length, reverse } = attributes;
    const { node } = outputs[0]!;
    // One step backwards, as a graph on the step's values.
    const givens = body.outputs.map((y, i) =>
      differentiable(y) && (i < carries || cotangents[i] !== undefined) ? placeholder(y) : undefined,
    );
    const found = backward(body.outputs, givens, body.parameters);
    const part = (i: number): "constant" | "carry" | "sequence" =>
      i < constants ? "constant" : i < constants + carries ? "carry" : "sequence";
    const of = (kind: string): number[] =>
      body.parameters.flatMap((p, i) => (part(i) === kind && differentiable(p) ? [i] : []));
    const [constantsAt, carriesAt, sequencesAt] = [
      of("constant").filter((i) => found[i] !== undefined),
      of("carry"),
      of("sequence").filter((i) => found[i] !== undefined),
    ];
    const totals = constantsAt.map((i) => placeholder(body.parameters[i]!));
    const gradients = [
      ...carriesAt.map((i) => found[i] ?? zerosLike(body.parameters[i]!)),
      ...constantsAt.map((i, k) => add(totals[k]!, found[i]!)),
      ...sequencesAt.map((i) => found[i]!),
    ];
    // What it needs of the step forwards: constants and sequences are there, the rest is recorded.
    const { recorded, parameters } = needed(gradients, body, constants, carries);
    const records = recorded.map((value) => record(node, value));
    const usedConstants = parameters.filter((i) => part(i) === "constant");
    const usedSequences = parameters.filter((i) => part(i) === "sequence");
    const givenCarries = carriesAt.map((i) => i - constants);
    const givenSlices = givens.flatMap((g, i) => (i >= carries && g !== undefined ? [i] : []));
    const step: Graph<Tensor> = {
      parameters: [
        ...usedConstants.map((i) => body.parameters[i]!),
        ...givenCarries.map((i) => givens[i]!),
        ...totals,
        ...givenSlices.map((i) => givens[i]!),
        ...recorded,
        ...usedSequences.map((i) => body.parameters[i]!),
      ],
      outputs: gradients,
    };
    const results = bindAll(
      scanPrimitive,
      [
        ...usedConstants.map((i) => inputs[i]!),
        ...givenCarries.map((i) => cotangents[i] ?? zerosLike(outputs[i]!)),
        ...constantsAt.map((i) => zerosLike(inputs[i]!)),
        ...givenSlices.map((i) => cotangents[i]!),
        ...records,
        ...usedSequences.map((i) => inputs[i]!),
      ],
      {
        body: step,
        constants: usedConstants.length,
        carries: givenCarries.length + totals.length,
        length,
        reverse: !reverse,
      },
    );
    const gradient = new Array<Tensor | undefined>(inputs.length).fill(undefined);
    for (const [k, i] of [...carriesAt, ...constantsAt, ...sequencesAt].entries()) gradient[i] = results[k];
    return gradient;
  },
  pullback: ({ inputs, attributes }, cotangents) =>
    pullback(inputs, cotangents, (tangents, asked) => tangentScan(inputs, attributes, tangents, asked)),
  batch(inputs, batched, { body, constants, carries, length, reverse }, size) {
    // A part of the state that some step makes different for different examples is different from the start.
    const state = batched.slice(constants, constants + carries);
    const flags = (): boolean[] => [
      ...batched.slice(0, constants),
      ...state,
      ...batched.slice(constants + carries),
    ];
    const force = (): boolean[] => body.outputs.map((_, i) => (i < carries ? state[i]! : true));
    let many = batchGraph(body, flags(), size, force());
    for (let again = true; again; ) {
      again = false;
      for (let i = 0; i < carries; i++) {
        if (many.batched[i] && !state[i]) again = state[i] = true;
      }
      if (again) many = batchGraph(body, flags(), size, force());
    }
    const given = inputs.map((x, i) => {
      const k = i - constants;
      if (k >= 0 && k < carries) return state[k] && !batched[i] ? addBatchAxis(x, size) : x;
      return i >= constants && batched[i] ? moveAxis(x, 0, 1) : x;
    });
    const results = bindAll(scanPrimitive, given, { body: many, constants, carries, length, reverse });
    return results.map((y, i) => (i < carries ? (state[i] ? y : addBatchAxis(y, size)) : moveAxis(y, 1, 0)));
  },
  lower: (lowering, { inputs, outputs, attributes }, operands) =>
    lowerScan(lowering, inputs, outputs, attributes, operands),
};

/** The tangents of a scan's outputs: the same steps, with the tangents of the state beside it. */
function tangentScan(
  inputs: readonly Tensor[],
  { body, constants, carries, length, reverse }: ScanAttributes,
  tangents: readonly (Tensor | undefined)[],
  asked: readonly number[],
): (Tensor | undefined)[] {
  const sequences = constants + carries;
  const isState = (i: number): boolean => i >= constants && i < sequences;
  const steps = body.parameters.map((p, i) =>
    (isState(i) ? differentiable(p) : tangents[i] !== undefined) ? placeholder(p) : undefined,
  );
  const pushed = pushForward(body.outputs, body.parameters, steps);
  const moving = (from: number, to: number): number[] =>
    steps.flatMap((t, i) => (t !== undefined && i >= from && i < to ? [i] : []));
  const [constantsAt, stateAt, sequencesAt] = [
    moving(0, constants),
    moving(constants, sequences),
    moving(sequences, inputs.length),
  ];
  const beside = (values: readonly Tensor[], others: (i: number) => Tensor): Tensor[] => [
    ...values.slice(0, constants),
    ...constantsAt.map(others),
    ...values.slice(constants, sequences),
    ...stateAt.map(others),
    ...values.slice(sequences),
    ...sequencesAt.map(others),
  ];
  const results = asked.filter((i) => i >= carries && pushed[i] !== undefined);
  const found = bindAll(
    scanPrimitive,
    beside(inputs, (i) => tangents[i] ?? zerosLike(inputs[i]!)),
    {
      body: {
        parameters: beside(body.parameters, (i) => steps[i]!),
        outputs: [
          ...body.outputs.slice(0, carries),
          ...stateAt.map((i) => pushed[i - constants] ?? zerosLike(body.parameters[i]!)),
          ...results.map((i) => pushed[i]!),
        ],
      },
      constants: constants + constantsAt.length,
      carries: carries + stateAt.length,
      length,
      reverse,
    },
  );
  const outputs = [...stateAt.map((i) => i - constants), ...results];
  return asked.map((i) => {
    const at = outputs.indexOf(i);
    return at < 0 ? undefined : found[carries + at];
  });
}

/** The values of a step that `results` are computed from: its parameters (by position), and others inside it. */
function needed(
  results: readonly Tensor[],
  body: Graph<Tensor>,
  constants: number,
  carries: number,
): { recorded: Tensor[]; parameters: number[] } {
  const positions = new Map<Tensor, number>(body.parameters.map((p, i) => [p, i]));
  const own = new Set<Node>(body.parameters.map((p) => p.node));
  const inside = new Set(reachable(body.outputs, (v) => own.has(v.node)).filter((n) => n.inputs.length > 0));
  const recorded = new Set<Tensor>();
  const parameters = new Set<number>();
  const isLeaf = (x: Tensor): boolean => {
    const position = positions.get(x);
    if (position !== undefined) {
      if (position >= constants && position < constants + carries) recorded.add(x);
      else parameters.add(position);
      return true;
    }
    if (!inside.has(x.node) || isConstant(x)) return false;
    // A repeated or reshaped value is recorded as what it was made of.
    const { name } = x.node.primitive;
    if (name === "broadcast_in_dim" || name === "reshape") return false;
    recorded.add(x);
    return true;
  };
  reachable(results, (v) => isLeaf(v as Tensor));
  return { recorded: [...recorded], parameters: [...parameters].sort((a, b) => a - b) };
}

/** The output of a scan's node that stacks `value` of its steps; added to the node if it is new. */
function record(node: Node, value: Tensor): Tensor {
  const attributes = node.attributes as ScanAttributes;
  const { body, carries, length } = attributes;
  const known = body.outputs.indexOf(value, carries);
  if (known >= 0) return node.outputs[known] as Tensor;
  const outputs = [...body.outputs, value];
  node.extend(
    { ...attributes, body: { parameters: body.parameters, outputs } },
    [stacked(value, length)],
    (n, i) => new Tensor(n, i),
  );
  return node.outputs.at(-1) as Tensor;
}

/** A `while` whose state is the counter, the constants, the sequences, the carries and the results being filled. */
function lowerScan(
  lowering: Lowering,
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
  { body, constants, carries, length, reverse }: ScanAttributes,
  operands: readonly string[],
): readonly string[] {
  const counter: Aval = { shape: [], dtype: "int32" };
  const results = outputs.slice(carries);
  const empty = results.map(({ shape, dtype }) => {
    const zero = lowering.constant(literal(dtype === "bool" ? false : 0, dtype), dtype);
    const type = functionType([{ shape: [], dtype }], [{ shape, dtype }]);
    return lowering.emit(`stablehlo.broadcast_in_dim ${zero}, dims = [] : ${type}`)[0]!;
  });
  const types: Aval[] = [counter, ...inputs, ...results];
  const initial = [lowering.constant("0", "int32"), ...operands, ...empty];
  const names = types.map(() => lowering.fresh("s"));
  const [at] = names as [string];
  const sequences = constants + carries;
  const header = `stablehlo.while(${names.map((name, i) => `${name} = ${initial[i]}`).join(", ")}) : ${types.map(tensorType).join(", ")}`;
  const final = lowering.withRegions(
    header,
    [
      {
        head: "cond {",
        write: () => {
          const last = lowering.constant(String(length), "int32");
          const more = `stablehlo.compare LT, ${at}, ${last}, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>`;
          return [lowering.emit(more), [{ shape: [], dtype: "bool" }]];
        },
      },
      {
        head: " do {",
        write: () => {
          const i32 = (text: string): string => lowering.emit(`${text} : tensor<i32>`)[0]!;
          const place = reverse
            ? i32(`stablehlo.subtract ${lowering.constant(String(length - 1), "int32")}, ${at}`)
            : at;
          const given = names.slice(1, 1 + inputs.length);
          const args = given.map((name, i) =>
            i < sequences ? name : readSlice(lowering, name, inputs[i]!, place),
          );
          const stepped = lowering.repeated(length, () => lowering.inline(body, args));
          const next = i32(`stablehlo.add ${at}, ${lowering.constant("1", "int32")}`);
          const filled = results.map((y, k) =>
            writeSlice(lowering, names[1 + inputs.length + k]!, y, stepped[carries + k]!, place),
          );
          return [
            [
              next,
              ...given.slice(0, constants),
              ...stepped.slice(0, carries),
              ...given.slice(sequences),
              ...filled,
            ],
            types,
          ];
        },
      },
    ],
    "",
    types.length,
  );
  return [...final.slice(1 + constants, 1 + sequences), ...final.slice(1 + inputs.length)];
}

function starts(lowering: Lowering, rank: number, place: string): { names: string; types: string } {
  const zero = rank > 1 ? lowering.constant("0", "int32") : "";
  return {
    names: [place, ...new Array<string>(rank - 1).fill(zero)].join(", "),
    types: new Array<string>(rank).fill("tensor<i32>").join(", "),
  };
}

function readSlice(lowering: Lowering, name: string, { shape, dtype }: Aval, place: string): string {
  const one = { shape: shape.with(0, 1), dtype };
  const at = starts(lowering, shape.length, place);
  const [row] = lowering.emit(
    `stablehlo.dynamic_slice ${name}, ${at.names}, sizes = [${one.shape.join(", ")}] : (${tensorType({ shape, dtype })}, ${at.types}) -> ${tensorType(one)}`,
  );
  return lowering.emit(
    `stablehlo.reshape ${row} : ${functionType([one], [{ shape: shape.slice(1), dtype }])}`,
  )[0]!;
}

function writeSlice(
  lowering: Lowering,
  name: string,
  { shape, dtype }: Aval,
  value: string,
  place: string,
): string {
  const one = { shape: shape.with(0, 1), dtype };
  const at = starts(lowering, shape.length, place);
  const [row] = lowering.emit(
    `stablehlo.reshape ${value} : ${functionType([{ shape: shape.slice(1), dtype }], [one])}`,
  );
  const type = tensorType({ shape, dtype });
  return lowering.emit(
    `stablehlo.dynamic_update_slice ${name}, ${row}, ${at.names} : (${type}, ${tensorType(one)}, ${at.types}) -> ${type}`,
  )[0]!;
}

export interface ScanOptions {
  /** Number of steps; needed where there are no sequences. */
  length?: number;
  /** From the last step to the first. */
  reverse?: boolean;
}

/**
 * Runs `f(state, slice) -> [state, result]` over the first axis of the sequences `xs`, and stacks the results: the loop is compiled
 * once, however many steps it has.
 *
 * @returns the last state, and the results with the steps along their first axis
 */
export function scan<C, X, Y>(
  f: (state: C, slice: X) => readonly [C, Y],
  initial: C,
  xs: X,
  { length, reverse = false }: ScanOptions = {},
): [C, Y] {
  const [state, sequences] = [flatten(initial, { sorted: true }), flatten(xs)];
  let steps = length;
  for (const [i, x] of sequences.leaves.entries()) {
    const path = sequences.paths[i];
    const what = `the sequence ${path ? `"${path}" ` : ""}${x}`;
    if (x.ndim === 0) throw new ShapeError(`scan: ${what} has no axis to run over`);
    if (steps !== undefined && x.shape[0] !== steps) {
      throw new ShapeError(
        `scan: ${what} has ${x.shape[0]} steps where ${steps} were expected`,
        "all sequences must have one length along axis 0, equal to `length` if that is given",
      );
    }
    steps = x.shape[0];
  }
  if (steps === undefined || !Number.isInteger(steps) || steps < 0) {
    throw new ArgumentError(`scan: ${steps ?? "an unknown number of"} steps`, "give sequences, or `length`");
  }
  const carries = state.leaves.length;
  let updates: Update[] = [];
  const body = closure(
    "scan",
    (...args) => {
      const before = state.rebuild(args.slice(0, carries)) as C;
      const slice = sequences.rebuild(args.slice(carries)) as X;
      const [pair, found] = tracked(
        [
          [initial, before],
          [xs, slice],
        ],
        () => f(before, slice),
      );
      if (!Array.isArray(pair) || pair.length !== 2)
        throw new ArgumentError("scan: the function returned no pair", "return [state, result]");
      updates = found;
      return [...pair, ofSlices(found).map(({ value }) => value)];
    },
    [...state.leaves, ...sequences.leaves.map(({ shape, dtype }) => ({ shape: shape.slice(1), dtype }))],
  );
  const outer = updates.filter(({ of }) => of < 0);
  if (outer.length > 0) return threaded(outer, f, initial, xs, { length, reverse });
  const returned = body.result.rebuild(body.outputs) as [C, Y, Tensor[]];
  const next = flatten(returned[0], { sorted: true });
  checkState("scan", state, next);
  const constants = body.captured.length;
  const outputs =
    steps === 0
      ? [...state.leaves, ...body.outputs.slice(carries).map((y) => zerosLike(stacked(y, 0)))]
      : bindAll(scanPrimitive, [...body.captured, ...state.leaves, ...sequences.leaves], {
          body: { parameters: body.parameters, outputs: body.outputs },
          constants,
          carries,
          length: steps,
          reverse,
        });
  const [last, results, stackedUpdates] = body.result.rebuild(outputs) as [C, Y, Tensor[]];
  if (updates.length > 0) {
    sameNodes(initial, last, (node, twin) => {
      for (const { holder, name } of updates) if (holder === node) node[name] = twin[name]!;
    });
    apply(ofSlices(updates), stackedUpdates);
  }
  return [last, results];
}

/** Buffers of Modules among the sequences: each step sets those of its slice. */
const ofSlices = (updates: readonly Update[]): Update[] => updates.filter(({ of }) => of === 1);

/** `scan` of a function that sets buffers of Modules from outside: they go from step to step beside the state. */
function threaded<C, X, Y>(
  buffers: readonly Update[],
  f: (state: C, slice: X) => readonly [C, Y],
  initial: C,
  xs: X,
  options: ScanOptions,
): [C, Y] {
  const now = (): Tensor[] => buffers.map(({ holder, name }) => holder[name]!);
  const before = now();
  const [{ state, values }, results] = scan(
    (carried: { state: C; values: Tensor[] }, slice: X): [typeof carried, Y] => {
      apply(buffers, carried.values);
      try {
        const [next, result] = f(carried.state, slice);
        return [{ state: next, values: now() }, result];
      } finally {
        apply(buffers, before);
      }
    },
    { state: initial, values: before },
    xs,
    options,
  );
  apply(buffers, values);
  return [state, results];
}

/** Checks that a loop's step gave back a state of the structure, shapes and dtypes it was given. */
export function checkState(
  transform: string,
  before: { leaves: readonly Tensor[]; paths: readonly string[] },
  after: { leaves: readonly Tensor[]; paths: readonly string[] },
): void {
  const show = (list: readonly string[]): string =>
    list.length === 0 ? "no Tensors" : list.map((path) => path || "a Tensor").join(", ");
  if (before.paths.join() !== after.paths.join()) {
    throw new ArgumentError(
      `${transform}: the state went in with ${show(before.paths)} and came back with ${show(after.paths)}`,
      "return a state of the structure of the initial one",
    );
  }
  for (const [i, was] of before.leaves.entries()) {
    const is = after.leaves[i]!;
    if (was.dtype !== is.dtype || was.shape.join() !== is.shape.join()) {
      const path = before.paths[i];
      throw new ShapeError(
        `${transform}: ${path ? `"${path}" of ` : ""}the state went in as ${was} and came back as ${is}`,
        "the state keeps its shapes and dtypes from step to step: convert with .astype(), or start with the shape it ends with",
      );
    }
  }
}

/**
 * `state = body(i, state)` for i from `start` to `stop` - 1, with both known while tracing: differentiable. See `whileLoop` for bounds
 * that are computed.
 */
export function foriLoop<C>(start: number, stop: number, body: (i: Tensor, state: C) => C, initial: C): C {
  if (![start, stop].every(Number.isInteger)) {
    throw new ArgumentError(
      `foriLoop: from ${start} to ${stop}`,
      "the bounds are integers known while tracing: see whileLoop() for those that are computed",
    );
  }
  const length = Math.max(0, stop - start);
  if (leaves(initial).length === 0)
    throw new ArgumentError("foriLoop: the state holds no Tensors", "start with a Tensor");
  const counts = add(iota([length], 0), start);
  return scan((state: C, i: Tensor): [C, null] => [body(i, state), null], initial, counts)[0];
}
