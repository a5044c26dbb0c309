import * as a from "aronnax";
import { describe, expect, it } from "vitest";
import { complexNumbers } from "../../oracle/fourier.js";
import { derivative, forward, secondDerivatives, vectorised } from "../../oracle/operations.js";
import { checkProperties } from "../../oracle/properties.js";

checkProperties("complex numbers", complexNumbers.map(forward));
checkProperties("derivatives of complex numbers", complexNumbers.map(derivative));
checkProperties("second derivatives of complex numbers", secondDerivatives(complexNumbers));
checkProperties("complex numbers, vectorised", complexNumbers.map(vectorised));

describe("complex numbers refuse", () => {
  it("complex parts", () => {
    expect(() => a.complex(a.complex(1, 2))).toThrow("complex of complex64");
  });
});
