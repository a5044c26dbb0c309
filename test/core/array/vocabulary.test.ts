import * as a from "aronnax";
import { expect, it } from "vitest";
import { vocabulary } from "../../oracle/numpy.js";
import { derivative, forward, secondDerivatives, vectorised } from "../../oracle/operations.js";
import { checkProperties } from "../../oracle/properties.js";

const smooth = vocabulary.filter((o) => !o.forwardOnly);

checkProperties("vocabulary", vocabulary.map(forward));
checkProperties("derivatives of the vocabulary", smooth.map(derivative));
checkProperties("second derivatives of the vocabulary", secondDerivatives(vocabulary));
checkProperties(
  "vocabulary, vectorised",
  vocabulary.map((o) => vectorised({ ...o, runs: 1 })),
);

it("refuses more largest elements than there are", () => {
  expect(() => a.topK(a.zeros([3]), 4)).toThrow("topK: 4 of the last axis of [3]");
});

it("refuses indices that are no integers", () => {
  expect(() => a.at(a.zeros([3]), a.zeros([2])).get()).toThrow("at: an index is Tensor float32[2]");
});
