/** Dropout (Srivastava et al. 2014). */
import { div, where } from "../array/elementwise.js";
import { bernoulli, type Key } from "../array/random.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";

/** `x` with elements replaced by zeros with probability `rate`, the others divided by 1 - rate; which ones follows from the key. */
export function dropout(x: Tensor, rate: number, key: Key | number): Tensor {
  if (!(rate >= 0 && rate < 1))
    throw new ArgumentError(`dropout: the rate is ${rate}`, "give a number from 0 to below 1");
  return rate === 0 ? x : where(bernoulli(key, 1 - rate, x.shape), div(x, 1 - rate), 0);
}
