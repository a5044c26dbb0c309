/** Recurrent layers as loops on the device, compiled once however long the sequences are. Parameters are named and laid out as in PyTorch. */
import { sum, zeros } from "../array/broadcast.js";
import { dotGeneral } from "../array/contraction.js";
import { iota } from "../array/creation.js";
import { add, cast, less, mul, sigmoid, stopGradient, sub, tanh, where } from "../array/elementwise.js";
import { INTEGERS } from "../array/given.js";
import { slice } from "../array/indexing.js";
import { concatenate, split, stack } from "../array/joining.js";
import { foldIn, type Key } from "../array/random.js";
import { expandDims, moveAxis } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { isInteger, itemSize } from "../graph/dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../graph/errors.js";
import { refuseUnknown } from "../graph/spelling.js";
import { customVjp } from "../transform/custom.js";
import { scan } from "../transform/scan.js";
import { dropout } from "./dropout.js";
import { type Initializer, uniformInit } from "./initializers.js";
import { Module } from "./module.js";

export interface RecurrentOptions {
  /** Layers, each of which reads the outputs of the one before. Default 1. */
  layers?: number;
  /** A second loop from the last time to the first beside each; their outputs stand side by side. Default false. */
  bidirectional?: boolean;
  /** Default true. */
  bias?: boolean;
  /** Rate of dropout between layers, where `forward` is given a key. Default 0. */
  dropout?: number;
  /** Default PyTorch's: uniform in ±1/sqrt(hidden). */
  init?: Initializer;
}

export interface RecurrentInputs<State> {
  /** Where the loops begin, as `forward` returns it; default zeros. */
  state?: State;
  /** Integer [batch]: how many times of each row count. What comes after gives outputs of 0 and does not change the state. */
  lengths?: Tensor;
  /** bool [batch, time]: which times count, in place of `lengths`. */
  mask?: Tensor;
  /** For the dropout between layers; without it there is none. */
  key?: Key | number;
}

/** A loop's state by name: each [batch, hidden] of one loop, [layers · directions, batch, hidden] of all. */
type States<Names extends string> = { readonly [name in Names]: Tensor };

interface Cell<Names extends string> {
  readonly states: readonly Names[];
  readonly gates: number;
  /** Of the bias of the recurrent product, what can be added outside the loop. */
  readonly separate: boolean;
  /** The next state from the gates that the input gives, [batch, gates · hidden], and the recurrent product. */
  step(fromInput: Tensor, recurrent: Tensor, state: States<Names>): States<Names>;
}

abstract class Recurrent<Names extends string> extends Module {
  readonly inputs: number;
  readonly hidden: number;
  readonly layers: number;
  readonly bidirectional: boolean;
  readonly dropout: number;

  protected abstract get cell(): Cell<Names>;

  constructor(inputs: number, hidden: number, gates: number, options: RecurrentOptions) {
    super();
    const name = this.constructor.name;
    const known = ["layers", "bidirectional", "bias", "dropout", "init"];
    refuseUnknown(`${name}: there is no option`, Object.keys(options), known);
    const { layers = 1, bidirectional = false, bias = true, dropout: rate = 0 } = options;
    for (const [what, value] of Object.entries({ inputs, hidden, layers })) {
      if (!(Number.isInteger(value) && value > 0))
        throw new ArgumentError(`${name}: ${what} is ${value}`, "give a positive integer");
    }
    if (!(rate >= 0 && rate < 1))
      throw new ArgumentError(`${name}: dropout is ${rate}`, "give a number from 0 to below 1");
    this.inputs = inputs;
    this.hidden = hidden;
    this.layers = layers;
    this.bidirectional = bidirectional;
    this.dropout = rate;
    const init = options.init ?? uniformInit(1 / Math.sqrt(hidden));
    const fields = this.fields();
    for (const { layer, suffix } of this.loops()) {
      const width = layer === 0 ? inputs : hidden * (bidirectional ? 2 : 1);
      const declare = (field: string, shape: readonly number[]): void => {
        fields[field + suffix] = this.parameter(field + suffix, shape, { init });
      };
      declare("weightIh", [gates * hidden, width]);
      declare("weightHh", [gates * hidden, hidden]);
      if (!bias) continue;
      declare("biasIh", [gates * hidden]);
      declare("biasHh", [gates * hidden]);
    }
  }

  /** The loops in the order of their states, and the ends of their parameters' names. */
  private loops(): { layer: number; reverse: boolean; suffix: string }[] {
    const directions = this.bidirectional ? [false, true] : [false];
    return Array.from({ length: this.layers }, (_, layer) =>
      directions.map((reverse) => ({ layer, reverse, suffix: `L${layer}${reverse ? "Reverse" : ""}` })),
    ).flat();
  }

  private fields(): Record<string, Tensor | undefined> {
    return this as unknown as Record<string, Tensor | undefined>;
  }

  /**
   * [batch, time, inputs] to the outputs [batch, time, hidden · directions] of the last layer and the last state of each loop
   * [layers · directions, batch, hidden], the two directions of a layer side by side.
   */
  forward(x: Tensor, options: RecurrentInputs<States<Names>> = {}): { output: Tensor; state: States<Names> } {
    const { states } = this.cell;
    const visible = this.check(x, options);
    const last: States<Names>[] = [];
    let sequence = moveAxis(x, 0, 1);
    for (let layer = 0; layer < this.layers; layer++) {
      if (layer > 0 && options.key !== undefined)
        sequence = dropout(sequence, this.dropout, foldIn(options.key, layer));
      const runs = this.loops().filter((loop) => loop.layer === layer);
      const outputs = runs.map(({ reverse, suffix }) => {
        const before = options.state && mapStates(states, (name) => slice(options.state![name], last.length));
        const [state, output] = this.run(sequence, suffix, reverse, visible, before);
        last.push(state);
        return output;
      });
      sequence = concatenate(outputs, -1);
    }
    return {
      output: moveAxis(sequence, 0, 1),
      state: mapStates(states, (name) => stack(last.map((state) => state[name]))),
    };
  }

  /** One loop over [time, batch, features]. */
  private run(
    x: Tensor,
    suffix: string,
    reverse: boolean,
    visible: Tensor | undefined,
    before: States<Names> | undefined,
  ): [States<Names>, Tensor] {
    const [fields, { states, step, separate }] = [this.fields(), this.cell];
    const [ih, hh] = [fields[`weightIh${suffix}`]!, fields[`weightHh${suffix}`]!];
    const [biasIh, biasHh] = [fields[`biasIh${suffix}`], fields[`biasHh${suffix}`]];
    // The products with the inputs of all times are one.
    const projected = plus(linear(x, ih), biasIh);
    const fromInput = separate ? projected : plus(projected, biasHh);
    const first = mapStates(states, (name) =>
      before === undefined
        ? zeros([x.shape[1]!, this.hidden], { dtype: fromInput.dtype })
        : cast(before[name], fromInput.dtype),
    );
    const output = states[0]!;
    const product = recurrentProduct(hh, separate ? biasHh : undefined);
    const body = (state: States<Names>, at: { gates: Tensor; counts: Tensor | null }) => {
      const recurrent = product(state[output]);
      const next = step(at.gates, cast(recurrent, at.gates.dtype), state);
      const { counts } = at;
      if (counts === null) return [next, next[output]] as const;
      const kept = mapStates(states, (name) => where(counts, next[name], state[name]));
      return [kept, where(counts, next[output], 0)] as const;
    };
    return scan(body, first, { gates: fromInput, counts: visible ?? null }, { reverse });
  }

  /** Throws on inputs that do not fit; which times count, [time, batch, 1]. */
  private check(x: Tensor, options: RecurrentInputs<States<Names>>): Tensor | undefined {
    const name = this.constructor.name;
    const { state, lengths, mask } = options;
    const show = (t: Tensor): string => `[${t.shape.join(", ")}]`;
    const [batch, time] = x.shape;
    if (x.ndim !== 3 || x.shape[2] !== this.inputs) {
      throw new ShapeError(
        `${name} of ${this.inputs} inputs: x has shape ${show(x)}`,
        "x is [batch, time, inputs]",
      );
    }
    for (const part of state === undefined ? [] : this.cell.states) {
      const expected = `[${this.loops().length}, ${batch}, ${this.hidden}]`;
      const given = state![part] as Tensor | undefined;
      if (given === undefined || show(given) !== expected) {
        throw new ShapeError(
          `${name}: state.${part} is ${given === undefined ? "missing" : show(given)}`,
          `it is [layers · directions, batch, hidden], here ${expected}`,
        );
      }
    }
    if (lengths !== undefined && mask !== undefined)
      throw new ArgumentError(`${name}: lengths and a mask`, "give one of them");
    if (lengths !== undefined) {
      if (!isInteger(lengths.dtype))
        throw new DTypeError(
          `${name}: lengths are ${lengths.dtype}`,
          `give numbers of times, integers: ${INTEGERS}`,
        );
      if (show(lengths) !== `[${batch}]`)
        throw new ShapeError(`${name}: lengths ${show(lengths)} for ${batch} rows`, "give one for each row");
      return less(iota([time!, batch!, 1], 0, { dtype: lengths.dtype }), expandDims(lengths, [0, 2]));
    }
    if (mask === undefined) return undefined;
    if (mask.dtype !== "bool")
      throw new DTypeError(`${name}: the mask is ${mask.dtype}`, "give bool, true for the times that count");
    if (show(mask) !== `[${batch}, ${time}]`)
      throw new ShapeError(`${name}: mask ${show(mask)} for x ${show(x)}`, "it is [batch, time]");
    return expandDims(moveAxis(mask, 0, 1), 2);
  }
}

function linear(x: Tensor, weight: Tensor): Tensor {
  return dotGeneral(x, weight, { contract: [[x.ndim - 1], [1]], batch: [[], []] });
}

function plus(y: Tensor, bias: Tensor | null | undefined): Tensor {
  return bias === null || bias === undefined ? y : add(y, bias);
}

type Affine = { readonly weight: Tensor; readonly bias: Tensor | null };

/** h · weightᵀ + bias, where gradients of the weight and bias go to those in float32 beside them. */
const halfProduct = customVjp(
  (h: Tensor, { weight, bias }: Affine, _wide: Affine) => plus(linear(h, weight), bias),
  (h: Tensor, { weight, bias }: Affine, _wide: Affine) =>
    [plus(linear(h, weight), bias), { h, weight, bias }] as const,
  ({ h, weight, bias }, g) => {
    const overGates = { contract: [[1], [0]], batch: [[], []] } as const;
    const overRows = { contract: [[0], [0]], batch: [[], []] } as const;
    return [
      cast(dotGeneral(g, weight, overGates), h.dtype),
      null,
      {
        weight: dotGeneral(g, h, overRows, { dtype: "float32" }),
        bias: bias === null ? null : sum(cast(g, "float32"), 0),
      },
    ];
  },
);

/** The product of a loop's state with weights that all times share, whose gradients are summed over the times in float32. */
function recurrentProduct(weight: Tensor, bias: Tensor | undefined): (h: Tensor) => Tensor {
  const given: Affine = { weight, bias: bias ?? null };
  if (itemSize(weight.dtype) !== 2) return (h) => plus(linear(h, weight), bias);
  const of = (f: (x: Tensor) => Tensor): Affine => ({
    weight: f(given.weight),
    bias: given.bias && f(given.bias),
  });
  const [still, wide] = [of(stopGradient), of((x) => cast(x, "float32"))];
  return (h) => halfProduct(h, still, wide);
}

function mapStates<Names extends string>(names: readonly Names[], f: (name: Names) => Tensor): States<Names> {
  return Object.fromEntries(names.map((name) => [name, f(name)])) as States<Names>;
}

const lstmCell: Cell<"hidden" | "cell"> = {
  states: ["hidden", "cell"],
  gates: 4,
  separate: false,
  step(fromInput, recurrent, state) {
    const [input, forget, candidate, output] = split(add(fromInput, recurrent), 4, -1) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const cell = add(mul(sigmoid(forget), state.cell), mul(sigmoid(input), tanh(candidate)));
    return { hidden: mul(sigmoid(output), tanh(cell)), cell };
  },
};

/**
 * Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000), as PyTorch's: the field `weightIhL0` is
 * `weight_ih_l0` there, [4 · hidden, inputs] with the gates input, forget, candidate, output; `weightIhL1Reverse` is `weight_ih_l1_reverse`.
 */
export class LSTM extends Recurrent<"hidden" | "cell"> {
  constructor(inputs: number, hidden: number, options: RecurrentOptions = {}) {
    super(inputs, hidden, lstmCell.gates, options);
  }

  protected get cell(): typeof lstmCell {
    return lstmCell;
  }
}

const gruCell: Cell<"hidden"> = {
  states: ["hidden"],
  gates: 3,
  // The reset gate multiplies the candidate's recurrent product with its bias.
  separate: true,
  step(fromInput, recurrent, { hidden }) {
    const [resetIn, updateIn, candidateIn] = split(fromInput, 3, -1) as [Tensor, Tensor, Tensor];
    const [resetOf, updateOf, candidateOf] = split(recurrent, 3, -1) as [Tensor, Tensor, Tensor];
    const update = sigmoid(add(updateIn, updateOf));
    const candidate = tanh(add(candidateIn, mul(sigmoid(add(resetIn, resetOf)), candidateOf)));
    return { hidden: add(candidate, mul(update, sub(hidden, candidate))) };
  },
};

/**
 * Gated recurrent units (Cho et al. 2014), as PyTorch's: `weightIhL0`, there `weight_ih_l0`, is [3 · hidden, inputs] with the gates reset,
 * update, candidate, and the reset gate multiplies after the product.
 */
export class GRU extends Recurrent<"hidden"> {
  constructor(inputs: number, hidden: number, options: RecurrentOptions = {}) {
    super(inputs, hidden, gruCell.gates, options);
  }

  protected get cell(): typeof gruCell {
    return gruCell;
  }
}
