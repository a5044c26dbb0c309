import * as a from "aronnax";
import { describe, expect, it } from "vitest";
import { derivative, forward, secondDerivatives, vectorised } from "../../oracle/operations.js";
import { checkProperties } from "../../oracle/properties.js";
import { windows } from "../../oracle/windows.js";

checkProperties("windows", windows.map(forward));
checkProperties("derivatives of windows", windows.map(derivative));
checkProperties("second derivatives of windows", [
  ...secondDerivatives(windows),
  ...secondDerivatives(
    windows.filter((o) => o.name === "conv"),
    3,
  ),
]);
checkProperties("windows, vectorised", windows.map(vectorised));

describe("mistakes", () => {
  it("a kernel for other channels", () => {
    expect(() => a.conv(a.zeros([1, 8, 8, 3]), a.zeros([3, 3, 4, 8]))).toThrow(
      "an input with 3 channels, a kernel of 4 input and 8 output channels, 1 group",
    );
  });
  it("a kernel of another rank", () => {
    expect(() => a.conv(a.zeros([1, 8, 8, 3]), a.zeros([3, 3, 8]))).toThrow(
      "conv of [1, 8, 8, 3] with a kernel of [3, 3, 8]",
    );
  });
  it("strides of another rank", () => {
    expect(() => a.conv(a.zeros([1, 8, 8, 3]), a.zeros([3, 3, 3, 8]), { strides: [1] })).toThrow(
      "conv: strides [1] for 2 spatial axes",
    );
  });
});
