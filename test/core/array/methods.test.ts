/** The chaining form of operations: each method is the function of its name. */
import "../../support/runtime.js";
import * as a from "aronnax";
import { expect, it } from "vitest";

const x = a.random.normal(0, [3, 4]).mul(0.4);
const ids = a.tensor(
  [
    [0, 3],
    [1, 1],
    [2, 0],
  ],
  { dtype: "int32" },
);

type Result = a.Tensor | a.Tensor[];

it.each<[string, (t: a.Tensor) => Result, (t: a.Tensor) => Result]>([
  [
    "pad",
    (t) =>
      t.pad(
        [
          [1, 0],
          [0, 2],
        ],
        7,
      ),
    (t) =>
      a.pad(
        t,
        [
          [1, 0],
          [0, 2],
        ],
        7,
      ),
  ],
  ["split into equal parts", (t) => t.split(2, 1), (t) => a.split(t, 2, 1)],
  ["split into sizes", (t) => t.split([1, 2]), (t) => a.split(t, [1, 2])],
  ["flip", (t) => t.flip(1), (t) => a.flip(t, 1)],
  ["flip of all axes", (t) => t.flip(), (t) => a.flip(t)],
  ["takeAlongAxis", (t) => t.takeAlongAxis(ids, 1), (t) => a.takeAlongAxis(t, ids, 1)],
  ["roll", (t) => t.roll(1, 1), (t) => a.roll(t, 1, 1)],
  ["repeat", (t) => t.repeat(2, 1), (t) => a.repeat(t, 2, 1)],
  ["tile", (t) => t.tile([2, 1]), (t) => a.tile(t, [2, 1])],
  ["tril", (t) => t.tril(-1), (t) => a.tril(t, -1)],
  ["triu", (t) => t.triu(1), (t) => a.triu(t, 1)],
  ["diagonal", (t) => t.diagonal({ offset: 1 }), (t) => a.diagonal(t, { offset: 1 })],
  ["trace", (t) => t.trace(), (t) => a.trace(t)],
  ["cumsum", (t) => t.cumsum(1, { reverse: true }), (t) => a.cumsum(t, 1, { reverse: true })],
  ["cumprod", (t) => t.cumprod(1), (t) => a.cumprod(t, 1)],
  ["cummax", (t) => t.cummax(), (t) => a.cummax(t)],
  ["cummin", (t) => t.cummin(1), (t) => a.cummin(t, 1)],
  ["logcumsumexp", (t) => t.logcumsumexp(1), (t) => a.logcumsumexp(t, 1)],
  ["diff", (t) => t.diff(0), (t) => a.diff(t, 0)],
  ["sort", (t) => t.sort(0, { descending: true }), (t) => a.sort(t, 0, { descending: true })],
  ["argsort", (t) => t.argsort(), (t) => a.argsort(t)],
  ["topK", (t) => t.topK(2), (t) => a.topK(t, 2)],
  ["norm", (t) => t.norm(1, { keepDims: true }), (t) => a.norm(t, 1, { keepDims: true })],
  ["median", (t) => t.median(1), (t) => a.median(t, 1)],
  ["quantile", (t) => t.quantile(0.3, 0), (t) => a.quantile(t, 0.3, 0)],
  ["leakyRelu", (t) => t.leakyRelu(0.2), (t) => a.leakyRelu(t, 0.2)],
  ["elu", (t) => t.elu(0.5), (t) => a.elu(t, 0.5)],
  ["nanToNum", (t) => t.div(0).mul(0).nanToNum(3), () => a.full([3, 4], 3, { dtype: "float32" })],
  ["at", (t) => t.at(1).add(5), (t) => a.at(t, 1).add(5)],
  ["cbrt", (t) => t.cbrt(), a.cbrt],
  ["reciprocal", (t) => t.reciprocal(), a.reciprocal],
  ["tan", (t) => t.tan(), a.tan],
  ["asin", (t) => t.asin(), a.asin],
  ["acos", (t) => t.acos(), a.acos],
  ["atan", (t) => t.atan(), a.atan],
  ["sinh", (t) => t.sinh(), a.sinh],
  ["cosh", (t) => t.cosh(), a.cosh],
  ["asinh", (t) => t.asinh(), a.asinh],
  ["atanh", (t) => t.atanh(), a.atanh],
  ["erfc", (t) => t.erfc(), a.erfc],
  ["erfinv", (t) => t.erfinv(), a.erfinv],
  ["softplus", (t) => t.softplus(), a.softplus],
  ["logSigmoid", (t) => t.logSigmoid(), a.logSigmoid],
  ["isnan", (t) => t.isnan(), a.isnan],
  ["isfinite", (t) => t.isfinite(), a.isfinite],
  ["isinf", (t) => t.isinf(), a.isinf],
  ["acosh", (t) => t.abs().add(1).acosh(), (t) => a.acosh(t.abs().add(1))],
])("%s", async (_, method, free) => {
  const listed = (y: Result): readonly a.Tensor[] => (Array.isArray(y) ? y : [y]);
  const [ours, expected] = [listed(method(x)), listed(free(x))];
  expect(ours.length).toBe(expected.length);
  for (const [i, y] of ours.entries()) {
    expect(y.dtype).toBe(expected[i]!.dtype);
    expect(await y.array()).toEqual(await expected[i]!.array());
  }
});
