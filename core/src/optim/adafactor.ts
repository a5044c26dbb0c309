/**
 * Adafactor (Shazeer & Stern 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", Algorithms 4 and 5): squared gradients
 * of matrices are kept as the means of their rows and columns.
 */
import { zeros, zerosLike } from "../array/broadcast.js";
import { add, div, maximum, mul, pow, rsqrt, sqrt, square, sub } from "../array/elementwise.js";
import { mean } from "../array/reductions.js";
import { expandDims } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { map } from "../transform/tree.js";
import { checkDecays, checkNames, checkPositive, type DescentOptions, descent } from "./descent.js";
import type { Leaves } from "./groups.js";
import { type Optimizer, withOptions } from "./optimizer.js";

export interface AdafactorOptions extends DescentOptions {
  /** Decay of the squared gradients at update t is 1 - t to the power of minus this. Default 0.8. */
  decayExponent?: number;
  /** Decay of a running mean of directions, which costs a state of the parameters' size. Default 0: none. */
  beta1?: number;
  /** Limit of a direction's root mean square. Default 1. */
  clipThreshold?: number;
  /** Multiplies the learning rate by the root mean square of each parameter, and by at least `epsilon2`. Default true. */
  scaleByParameter?: boolean;
  /** Added to squared gradients. Default 1e-30. */
  epsilon1?: number;
  /** Default 1e-3. */
  epsilon2?: number;
}

/** By path: of matrices the means of rows and columns (of the last two axes), of vectors the squares; with `beta1` the running direction. */
export interface AdafactorState {
  readonly row: Leaves;
  readonly column: Leaves;
  readonly square: Leaves;
  readonly mean: Leaves;
}

const isFactored = (x: Tensor): boolean => x.ndim >= 2;

/** With `scaleByParameter` the learning rate is relative: 0.01 falling as 1 / sqrt(step) is the paper's; without, as Adam's. */
export function adafactor(options: AdafactorOptions): Optimizer {
  const own = ["decayExponent", "beta1", "clipThreshold", "scaleByParameter", "epsilon1", "epsilon2"];
  checkNames("adafactor", options, own);
  const {
    decayExponent = 0.8,
    beta1 = 0,
    clipThreshold = 1,
    scaleByParameter = true,
    epsilon1 = 1e-30,
    epsilon2 = 1e-3,
    ...rest
  } = options;
  checkDecays("adafactor", { beta1 });
  checkPositive("adafactor", { decayExponent, clipThreshold, epsilon1, epsilon2 });
  if (options.stateDType === "bfloat16") {
    throw new ArgumentError(
      "adafactor: stateDType is bfloat16: its decay tends to 1, where bfloat16 means stand still",
      "leave it out: the states are small already",
    );
  }
  const optimizer = descent<AdafactorState>(rest, {
    name: "adafactor",
    init(parameters) {
      const factored = pick(parameters, isFactored);
      return {
        row: map((p) => zeros(p.shape.slice(0, -1)), factored),
        column: map((p) => zeros([...p.shape.slice(0, -2), p.shape.at(-1)!]), factored),
        square: map(
          zerosLike,
          pick(parameters, (p) => !isFactored(p)),
        ),
        mean: beta1 === 0 ? {} : map(zerosLike, parameters),
      };
    },
    direction(gradients, state, { count, parameters }) {
      const decay = sub(1, pow(count, -decayExponent));
      const blend = (old: Tensor, now: Tensor): Tensor => add(mul(old, decay), mul(now, sub(1, decay)));
      const squares = map((g) => add(square(g), epsilon1), gradients);
      const [matrices, vectors] = [pick(squares, isFactored), pick(squares, (s) => !isFactored(s))];
      const row = map((s, r) => blend(r, mean(s, -1)), matrices, state.row);
      const column = map((s, c) => blend(c, mean(s, -2)), matrices, state.column);
      const own = map((s, v) => blend(v, s), vectors, state.square);
      const directions: Record<string, Tensor> = {};
      for (const [path, g] of Object.entries(gradients)) {
        const [r, c, v] = [row[path], column[path], own[path]];
        const scaled =
          r !== undefined && c !== undefined
            ? mul(
                mul(g, expandDims(rsqrt(div(r, mean(r, -1, { keepDims: true }))), -1)),
                expandDims(rsqrt(c), -2),
              )
            : mul(g, rsqrt(v!));
        const limited = div(scaled, maximum(div(rms(scaled), clipThreshold), 1));
        const size = scaleByParameter ? maximum(rms(parameters[path]!), epsilon2) : undefined;
        directions[path] = size === undefined ? limited : mul(limited, size);
      }
      if (beta1 === 0) return [directions, { row, column, square: own, mean: {} }];
      const running = map((d, m) => add(mul(m, beta1), mul(d, 1 - beta1)), directions as Leaves, state.mean);
      return [running, { row, column, square: own, mean: running }];
    },
  });
  return withOptions(optimizer, adafactor, options);
}

function rms(x: Tensor): Tensor {
  return sqrt(mean(square(x)));
}

function pick(leaves: Leaves, which: (x: Tensor) => boolean): Leaves {
  return Object.fromEntries(Object.entries(leaves).filter(([, x]) => which(x)));
}
