/** Encodings of absolute positions: sines and cosines, or learned. */
import { broadcastTo } from "../array/broadcast.js";
import { iota } from "../array/creation.js";
import { add, cast, cos, exp, mul, sin } from "../array/elementwise.js";
import { dynamicSlice, take } from "../array/indexing.js";
import { concatenate, stack } from "../array/joining.js";
import { expandDims, reshape } from "../array/shaping.js";
import { Tensor } from "../array/tensor.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { type Initializer, normalInit } from "./initializers.js";
import { Module } from "./module.js";

export interface SinusoidalOptions {
  /** The longest wave is 2π times so many positions. Default 10000. */
  base?: number;
  /** "interleaved": sine and cosine of a frequency side by side (Vaswani et al. 2017); "halves": all sines, then all cosines. */
  layout?: "interleaved" | "halves";
}

function checkSinusoidal(
  name: string,
  features: number,
  parts: number,
  { base = 10000, layout }: SinusoidalOptions,
) {
  if (!(Number.isInteger(features) && features > 0 && features % parts === 0)) {
    throw new ArgumentError(
      `${name}: ${features} features`,
      `give a positive multiple of ${parts}: a sine and a cosine of each frequency${parts === 4 ? " for each of two axes" : ""}`,
    );
  }
  if (!(base > 0)) throw new ArgumentError(`${name}: base is ${base}`, "give a positive number");
  if (layout !== undefined && layout !== "interleaved" && layout !== "halves")
    throw new ArgumentError(`${name}: layout is ${JSON.stringify(layout)}`, 'give "interleaved" or "halves"');
}

/**
 * sin(p / base^(2i / features)) and the cosines of positions p (Vaswani et al. 2017, section 3.5), float32 [..., features]. Positions may be
 * fractions, e.g. a diffusion's times.
 *
 * @param positions - [...], or a number of positions from 0
 */
export function sinusoidalPositions(
  positions: Tensor | number,
  features: number,
  options: SinusoidalOptions = {},
): Tensor {
  checkSinusoidal("sinusoidalPositions", features, 2, options);
  const { base = 10000, layout = "interleaved" } = options;
  if (typeof positions === "number" && !(Number.isInteger(positions) && positions > 0))
    throw new ArgumentError(
      `sinusoidalPositions: ${positions} positions`,
      "give a positive integer or a Tensor",
    );
  const at = typeof positions === "number" ? iota([positions], 0) : positions;
  const waves = iota([features / 2], 0, { dtype: "float32" });
  const frequencies = exp(mul(waves, (-2 * Math.log(base)) / features));
  const angles = mul(expandDims(cast(at, "float32"), -1), frequencies);
  if (layout === "halves") return concatenate([sin(angles), cos(angles)], -1);
  return reshape(stack([sin(angles), cos(angles)], -1), [...at.shape, features]);
}

/** `sinusoidalPositions` of rows (the first half of the features) and columns (the second) of an image: [height, width, features]. */
export function sinusoidalPositions2d(
  height: number,
  width: number,
  features: number,
  options: SinusoidalOptions = {},
): Tensor {
  checkSinusoidal("sinusoidalPositions2d", features, 4, options);
  const shape = [height, width, features / 2];
  const rows = sinusoidalPositions(height, features / 2, options);
  const columns = sinusoidalPositions(width, features / 2, options);
  return concatenate(
    [broadcastTo(expandDims(rows, 1), shape), broadcastTo(expandDims(columns, 0), shape)],
    -1,
  );
}

export interface LearnedPositionsOptions {
  /** Default normal with standard deviation 0.02. */
  init?: Initializer;
}

/** A learned vector for each position, added to the inputs (Gehring et al. 2017; GPT-2's `wpe`). */
export class LearnedPositions extends Module {
  weight: Tensor;

  constructor(length: number, features: number, { init = normalInit(0.02) }: LearnedPositionsOptions = {}) {
    super();
    this.weight = this.parameter("weight", [length, features], { init, axes: [null, "embed"] });
  }

  /**
   * [..., time, features], with the vectors of the positions added.
   *
   * @param offset - position of the first time, a number or an integer scalar, which is not checked (default 0)
   * @param positions - integer [..., time] in its place
   */
  forward(
    x: Tensor,
    { offset = 0, positions }: { offset?: number | Tensor; positions?: Tensor } = {},
  ): Tensor {
    const [length, features] = this.weight.shape as [number, number];
    const time = x.shape.at(-2);
    if (x.ndim < 2 || x.shape.at(-1) !== features) {
      throw new ShapeError(
        `LearnedPositions of ${features} features: x has shape [${x.shape.join(", ")}]`,
        "x is [..., time, features]",
      );
    }
    if (positions !== undefined) return add(x, take(this.weight, positions, 0));
    const last = time! + (offset instanceof Tensor ? 0 : offset);
    if (last > length || (typeof offset === "number" && !(Number.isInteger(offset) && offset >= 0))) {
      throw new ArgumentError(
        `LearnedPositions: ${time} positions from ${offset instanceof Tensor ? "an offset" : offset}, and a table of ${length}`,
        "make the table longer, or cut the sequence",
      );
    }
    return add(x, dynamicSlice(this.weight, [offset, 0], [time!, features]));
  }
}
