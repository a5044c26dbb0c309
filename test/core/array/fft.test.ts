import * as a from "aronnax";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { randomArray } from "../../oracle/arrays.js";
import { fourier } from "../../oracle/fourier.js";
import { derivative, forward, secondDerivatives, vectorised } from "../../oracle/operations.js";
import { checkProperties, type Property } from "../../oracle/properties.js";

checkProperties("Fourier transforms", fourier.map(forward));
checkProperties("derivatives of Fourier transforms", fourier.map(derivative));
checkProperties("second derivatives of Fourier transforms", secondDerivatives(fourier));
checkProperties("Fourier transforms, vectorised", fourier.map(vectorised));

const frequencies = (length: number, spacing: number): Property => ({
  name: `frequencies of ${length} samples`,
  runs: 1,
  trials: fc.constant({
    inputs: {},
    ours: () => [a.fft.fftfreq(length, spacing), a.fft.rfftfreq(length, spacing)],
    theirs: `(jnp.fft.fftfreq(${length}, ${spacing}), jnp.fft.rfftfreq(${length}, ${spacing}))`,
  }),
});

checkProperties("Fourier transforms of complex arrays", [
  {
    // The convention for complex gradients, through complex arguments.
    name: "gradient in a complex argument",
    runs: 1,
    trials: fc.constant({
      inputs: { z: randomArray("complex64", [4, 5], 3), h: randomArray("complex64", [4, 5], 4) },
      ours: ({ z, h }) =>
        a.grad((u: a.Tensor) => a.square(a.imag(a.mul(a.fft.fft(u, [0, 1]), h!))).sum())(z!),
      theirs: "jax.grad(lambda u: jnp.sum(jnp.imag(jnp.fft.fft2(u) * h) ** 2))(z)",
      tolerance: 1e-4,
    }),
  },
  frequencies(6, 0.5),
  frequencies(7, 1),
]);

describe("Fourier transforms refuse", () => {
  it("a complex tensor where a real one is due", () => {
    expect(() => a.fft.rfft(a.complex(a.zeros([4])))).toThrow("rfft of complex64");
  });
  it("coefficients that are too few for the signal", () => {
    expect(() => a.fft.irfft(a.complex(a.zeros([4])), -1, { length: 9 })).toThrow(
      "irfft: 4 coefficients along axis 0 for a signal of 9 elements",
    );
  });
  it("an empty signal", () => {
    expect(() => a.fft.fft(a.zeros([2, 0]))).toThrow("fft over an axis of length 0 of [2, 0]");
  });
  it("more than three axes", () => {
    expect(() => a.fft.fft(a.zeros([1, 1, 1, 1]), [0, 1, 2, 3])).toThrow("fft: axes [0, 1, 2, 3]");
  });
});
